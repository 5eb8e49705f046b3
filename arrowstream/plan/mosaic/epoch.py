"""One epoch of mosaicml-streaming with every default filled in: what the batching methods work on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arrowstream.plan.mosaic.partition import partition
from arrowstream.plan.mosaic.sampling import draw, get_sampling, shuffle_units
from arrowstream.plan.mosaic.shuffles import SHUFFLES
from arrowstream.plan.mosaic.weights import Mixture
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Epoch:
    """All that an epoch depends on but the job that reads it.

    Attributes:
        epoch: Counted from 0.
        samples_per_shard: Of each stream, int64 of shape (shards of the stream,).
        mixture: How much of each stream is read.
        sampling_method: ``balanced`` draws anew each epoch, ``fixed`` draws once.
        sampling_granularity: Samples that are taken of one shard at a time.
        partition_algo: ``orig`` or ``relaxed``.
        num_canonical_nodes: Parts of the data that are shuffled apart.
        initial_physical_nodes: Nodes that the job began with.
        batch_size: Of one rank.
        shuffle: Whether there is a shuffle.
        shuffle_algo: One of ``SHUFFLES``.
        shuffle_block_size: Samples that are shuffled with each other.
        seed: Of all that is drawn.
    """

    epoch: int
    samples_per_shard: tuple[IntArray, ...]
    mixture: Mixture
    sampling_method: str
    sampling_granularity: int
    partition_algo: str
    num_canonical_nodes: int
    initial_physical_nodes: int
    batch_size: int
    shuffle: bool
    shuffle_algo: str
    shuffle_block_size: int
    seed: int

    @property
    def num_streams(self) -> int:
        """Streams of the mixture, counting those that nothing is read of."""
        return len(self.samples_per_shard)

    @property
    def stream_order_seed(self) -> int:
        """The seed of what is drawn anew each epoch only if there is a shuffle."""
        return self.seed + self.epoch * self._draws_anew

    @property
    def _draws_anew(self) -> bool:
        return self.shuffle and self.sampling_method == "balanced"

    def resample(self, stream: int | None = None) -> tuple[IntArray, IntArray]:
        """Draw the samples of the epoch, or of one stream of it.

        Args:
            stream: Its number; None for all of them. Alone, a stream may be given other samples than among others.

        Returns:
            The sizes of the shuffle units, int64 of shape (units,), and the sample ids, int64 of shape (samples,).
        """
        streams = range(self.num_streams) if stream is None else [stream]
        # Within a shard, samples are drawn anew each epoch even where, without a shuffle, the shards are not.
        generator = np.random.default_rng(self.seed + self.epoch * (self.sampling_method == "balanced"))
        starts = np.cumsum([0, *(int(sizes.sum()) for sizes in self.samples_per_shard)]).tolist()
        units: list[int] = []
        ids = []
        for number in streams:
            sizes = self.samples_per_shard[number]
            choose = int(self.mixture.choose[number])
            taken = get_sampling(
                sizes,
                choose,
                self.sampling_granularity,
                seed=self.seed,
                epoch=self.epoch,
                use_epoch=self._draws_anew,
            )
            units += shuffle_units(sizes, taken)
            ids.append(draw(sizes, taken, starts[number], generator))
        return np.array(units, np.int64), ids[0] if len(ids) == 1 else np.concatenate(ids)

    def order(self, stream: int | None = None) -> IntArray:
        """Draw and shuffle the samples of the epoch, or of one stream of it.

        Args:
            stream: Its number; None for all of them. Alone, a stream is shuffled in blocks that are smaller by its
                share of the epoch.

        Returns:
            Sample ids, int64 of shape (samples,).
        """
        units, ids = self.resample(stream)
        if not self.shuffle:
            return ids
        share = 1.0 if stream is None else float(self.mixture.proportion[stream])
        block_size = int(self.shuffle_block_size * share)
        shuffle = SHUFFLES[self.shuffle_algo]
        return ids[shuffle(units, self.num_canonical_nodes, self.seed, self.epoch, block_size)]

    def partition(self, num_samples: int, world: World, batch_size: int, *, drop_first: int = 0) -> IntArray:
        """Deal positions out to a job: int64 of shape (nodes, ranks, workers, batches, batch size), -1 for none."""
        return partition(
            self.partition_algo,
            num_samples,
            self.num_canonical_nodes,
            world,
            batch_size,
            drop_first=drop_first,
            initial_physical_nodes=self.initial_physical_nodes,
        )
