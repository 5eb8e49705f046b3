"""The order of mosaicml-streaming, for those who continue a job that was begun with it or want what it does.

Where :mod:`arrowstream.plan.order` computes an order position by position, this lays out whole epochs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from arrowstream.plan.mosaic.batching import BATCHINGS
from arrowstream.plan.mosaic.epoch import Epoch
from arrowstream.plan.mosaic.partition import PARTITIONS
from arrowstream.plan.mosaic.replicate import replicate
from arrowstream.plan.mosaic.shuffles import BLOCK_SIZE, SHUFFLES
from arrowstream.plan.mosaic.weights import Mixture, Weight, apply_weights
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]

SAMPLING_METHODS = ("balanced", "fixed")
#: The default of mosaic's ``shuffle_seed``.
DEFAULT_SEED = 9176
# Shared out among the canonical nodes where no block size is given.
_BLOCK_BUDGET = 4_000_000
# py1s and py2s do not shuffle across shards; more canonical nodes make up for it.
_CANONICAL_NODES_PER_NODE = {"py1s": 64, "py2s": 64}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MosaicPlan:
    """All that mosaicml-streaming's order depends on, under the names that its ``StreamingDataset`` gives them.

    Every epoch costs time and memory in proportion to its samples, in each process that asks for it.

    Attributes:
        samples_per_shard: Of each stream, its shards' samples.
        batch_size: Of one rank.
        weights: Of each stream; None for one pass through each.
        epoch_size: Samples of an epoch; None or 0 for what the weights come to.
        sampling_method: ``balanced`` draws the samples of a stream anew each epoch, ``fixed`` draws once.
        sampling_granularity: Samples that are taken of one shard at a time.
        partition_algo: ``relaxed`` or ``orig``.
        num_canonical_nodes: Parts of the data that are shuffled apart; None or 0 for 64 a node with py1s and py2s, one
            a node otherwise.
        initial_physical_nodes: Nodes that the job began with; None for those it has.
        shuffle: Whether there is a shuffle.
        shuffle_algo: ``py1e``, ``py1br``, ``py1s``, ``py2s`` or ``naive``.
        shuffle_block_size: Samples that are shuffled with each other; None for 4,000,000 shared out among the canonical
            nodes, but 262,144 or more.
        seed: ``shuffle_seed``.
        weights_seed: Decides which streams give one sample more where shares are not whole; None for ``seed``. They
            differ if a job continues from a state of another seed than its dataset is given.
        batching_method: ``random``, ``stratified``, ``per_stream`` or ``device_per_stream``.
        replication: Consecutive ranks that read the same samples; None for 1.
        mixture: What the weights come to.

    Raises:
        ValueError: A value is out of range, unknown, or does not go with the others.
    """

    samples_per_shard: Sequence[npt.ArrayLike]
    batch_size: int
    weights: Sequence[Weight] | None = None
    epoch_size: int | None = None
    sampling_method: str = "balanced"
    sampling_granularity: int = 1
    partition_algo: str = "relaxed"
    num_canonical_nodes: int | None = None
    initial_physical_nodes: int | None = None
    shuffle: bool = False
    shuffle_algo: str = "py1e"
    shuffle_block_size: int | None = None
    seed: int = DEFAULT_SEED
    weights_seed: int | None = None
    batching_method: str = "random"
    replication: int | None = None
    mixture: Mixture = field(init=False)
    _sizes: tuple[IntArray, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_known("shuffle_algo", self.shuffle_algo, SHUFFLES)
        _check_known("partition_algo", self.partition_algo, PARTITIONS)
        _check_known("batching_method", self.batching_method, BATCHINGS)
        _check_known("sampling_method", self.sampling_method, dict.fromkeys(SAMPLING_METHODS))
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected at least 0")
        for name in ("batch_size", "sampling_granularity", "initial_physical_nodes", "shuffle_block_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        if self.num_canonical_nodes is not None and self.num_canonical_nodes < 0:
            raise ValueError(f"num_canonical_nodes is {self.num_canonical_nodes}, expected at least 1")
        sizes = tuple(np.array(stream, np.int64).reshape(-1) for stream in self.samples_per_shard)
        if any((stream < 0).any() for stream in sizes):
            raise ValueError("a shard has a negative number of samples")
        weights = [Weight()] * len(sizes) if self.weights is None else self.weights
        samples_per_stream = np.array([int(stream.sum()) for stream in sizes], np.int64)
        seed = self.seed if self.weights_seed is None else self.weights_seed
        object.__setattr__(self, "_sizes", sizes)
        object.__setattr__(self, "mixture", apply_weights(weights, samples_per_stream, self.epoch_size, seed))
        if not self.mixture.epoch_size:
            raise ValueError("an epoch would have no samples")

    def canonical_nodes(self, world: World) -> int:
        """Parts of the data that are shuffled apart, for a job that begins, or began, as this one."""
        if self.num_canonical_nodes:
            return self.num_canonical_nodes
        return self._first_nodes(world) * _CANONICAL_NODES_PER_NODE.get(self.shuffle_algo, 1)

    def samples_per_rank(self, world: World) -> int:
        """The length that mosaic gives a rank's dataset: its share of the epoch, rounded up."""
        return -(-self.mixture.epoch_size // replicate(world, self.replication).num_ranks)

    def epoch(self, world: World, epoch: int) -> Epoch:
        """Fill in what depends on the job.

        Args:
            world: The job, as it is; replicas count as one.
            epoch: Counted from 0.

        Raises:
            ValueError: The epoch is negative, or the replication does not go with the job.
        """
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}, expected at least 0")
        num_canonical_nodes = self.canonical_nodes(world)
        return Epoch(
            epoch=epoch,
            samples_per_shard=self._sizes,
            mixture=self.mixture,
            sampling_method=self.sampling_method,
            sampling_granularity=self.sampling_granularity,
            partition_algo=self.partition_algo,
            num_canonical_nodes=num_canonical_nodes,
            initial_physical_nodes=self._first_nodes(world),
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            shuffle_algo=self.shuffle_algo,
            shuffle_block_size=self.shuffle_block_size or max(_BLOCK_BUDGET // num_canonical_nodes, BLOCK_SIZE),
            seed=self.seed,
        )

    def job_samples(self, world: World, epoch: int, sample_in_epoch: int = 0) -> IntArray:
        """Tell what every worker of a job reads.

        Args:
            world: The job.
            epoch: Counted from 0.
            sample_in_epoch: Samples of the epoch that all ranks together have read, counting replicas once.

        Returns:
            Sample ids, -1 for none, int64 of shape (nodes, ranks, workers, batches, batch size), of the job with its
            replicas taken for one.

        Raises:
            ValueError: The plan does not go with the job, or the position with the epoch.
        """
        if sample_in_epoch < 0:
            raise ValueError(f"sample_in_epoch is {sample_in_epoch}, expected at least 0")
        job = replicate(world, self.replication)
        return BATCHINGS[self.batching_method](self.epoch(world, epoch), job, sample_in_epoch)

    def worker_samples(self, world: World, epoch: int, sample_in_epoch: int = 0) -> IntArray:
        """Tell what one worker reads, in its order.

        Args:
            world: The job, and the worker in it.
            epoch: Counted from 0.
            sample_in_epoch: Samples of the epoch that all ranks together have read, counting replicas once.

        Returns:
            Sample ids, int64 of shape (samples,).

        Raises:
            ValueError: The plan does not go with the job, or the position with the epoch.
        """
        job = replicate(world, self.replication)
        own = self.job_samples(world, epoch, sample_in_epoch)[job.node, job.rank_of_node, job.worker]
        samples: IntArray = own[own >= 0]  # (samples,), from (batches, batch size)
        return samples

    def _first_nodes(self, world: World) -> int:
        return self.initial_physical_nodes or replicate(world, self.replication).num_nodes


def _check_known(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")
