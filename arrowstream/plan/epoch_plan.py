"""What a dataset asks of an order, whichever it is: arrowstream's own here, mosaicml-streaming's beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from arrowstream.errors import StateMismatchError
from arrowstream.plan.mosaic.plan import MosaicPlan
from arrowstream.plan.mosaic.replicate import replicate
from arrowstream.plan.mosaic.weights import Weight
from arrowstream.plan.order import DEFAULT_BLOCK_SIZE, Order, default_canonical_nodes
from arrowstream.plan.partition import samples_per_rank, worker_positions
from arrowstream.plan.state import Position
from arrowstream.plan.uses import Uses, uses_of_ids, uses_of_order
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]

#: Samples whose ids are given at once: enough for NumPy to pay, few enough for an iteration to begin at once.
_CHUNK = 4096


class EpochPlan(Protocol):
    """Which samples each process reads, epoch by epoch."""

    @property
    def epoch_size(self) -> int:
        """Samples of an epoch, over all ranks."""

    def rank_samples(self, world: World) -> int:
        """Count the samples of an epoch that every rank reads."""

    def sample_ids(self, world: World, position: Position) -> Iterator[IntArray]:
        """Give the sample ids that one process reads from a position on, in its order, some thousands at a time."""

    def uses(self, world: World, epoch: int) -> Uses:
        """Tell when the machine of this process needs each shard in an epoch."""

    def settings(self, world: World) -> dict[str, Any]:
        """Say what the order depends on, in JSON values; a state holds them."""

    def adopt(self, state: Mapping[str, Any]) -> Self:
        """Give the plan with what a state decides where the user did not.

        Raises:
            StateMismatchError: The state belongs to another kind of order.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowedPlan:
    """arrowstream's own order: computed where it is asked for, whatever the epoch's size.

    Attributes:
        samples_per_shard: int64 of shape (shards,).
        batch_size: Of one rank; None for one that needs none.
        shuffle: Whether there is a shuffle.
        seed: Of the shuffle.
        block_size: Samples of the job that are shuffled with each other.
        num_canonical_nodes: None: as the data suggests.
    """

    samples_per_shard: IntArray
    batch_size: int | None
    shuffle: bool
    seed: int
    block_size: int
    num_canonical_nodes: int | None

    @property
    def epoch_size(self) -> int:
        """Samples of an epoch, over all ranks."""
        return int(self.samples_per_shard.sum())

    def rank_samples(self, world: World) -> int:
        """Count the samples of an epoch that every rank reads."""
        return samples_per_rank(self.epoch_size, world.num_ranks)

    def sample_ids(self, world: World, position: Position) -> Iterator[IntArray]:
        """Give the sample ids that one process reads, in its order."""
        order = self._order(position.epoch)
        batch_size = self.batch_size or 1
        for positions in worker_positions(order.num_samples, world, batch_size, _CHUNK, start=position.sample):
            yield order.samples_at(positions)

    def uses(self, world: World, epoch: int) -> Uses:
        """Tell when the machine of this process needs each shard in an epoch."""
        return uses_of_order(self._order(epoch), self.samples_per_shard, world)

    def _order(self, epoch: int) -> Order:
        return Order(
            self.samples_per_shard,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=epoch,
            block_size=self.block_size,
            canonical_nodes=self.num_canonical_nodes,
        )

    def settings(self, world: World) -> dict[str, Any]:
        """Say what the order depends on; the job is not part of it."""
        del world
        chosen = default_canonical_nodes(len(self.samples_per_shard)) if self.shuffle else 1
        return {
            "num_samples": self.epoch_size,
            "shuffle": self.shuffle,
            "shuffle_algo": None,
            "shuffle_seed": self.seed,
            "shuffle_block_size": self.block_size,
            "num_canonical_nodes": self.num_canonical_nodes or chosen,
        }

    def adopt(self, state: Mapping[str, Any]) -> Self:
        """Refuse what mosaicml-streaming wrote; a state of ours decides nothing."""
        if state.get("version") is None:
            raise StateMismatchError(
                "the state was written by mosaicml-streaming; give the dataset the shuffle_algo that wrote it (its "
                "default is 'py1e') to go on with the very next sample, or load_state_dict(state, strict=False) to go "
                "on at the same position of this dataset's order"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaidOutPlan:
    """The order of mosaicml-streaming: each process lays out the whole epoch, in time and memory of its size."""

    plan: MosaicPlan

    @property
    def epoch_size(self) -> int:
        """Samples of an epoch, over all ranks."""
        return self.plan.mixture.epoch_size

    def rank_samples(self, world: World) -> int:
        """Count the samples of an epoch that every rank reads."""
        return self.plan.samples_per_rank(world)

    def sample_ids(self, world: World, position: Position) -> Iterator[IntArray]:
        """Give the sample ids that one process reads, in its order."""
        ids = self.plan.worker_samples(world, position.epoch, position.sample)
        for start in range(0, len(ids), _CHUNK):
            yield ids[start : start + _CHUNK]

    def uses(self, world: World, epoch: int) -> Uses:
        """Tell when the machine of this process needs each shard in an epoch; lays the epoch out."""
        job = replicate(world, self.plan.replication)
        own = self.plan.job_samples(world, epoch)[job.node]  # (ranks, workers, batches, batch size)
        steps = own.transpose(2, 1, 0, 3).reshape(own.shape[1] * own.shape[2], -1)  # workers take turns
        samples = np.concatenate([np.asarray(stream, np.int64) for stream in self.plan.samples_per_shard])
        return uses_of_ids(steps, samples, self.epoch_size)

    def settings(self, world: World) -> dict[str, Any]:
        """Say what the order depends on; also the job that began it, which a later one adopts."""
        plan = self.plan
        return {
            "num_samples": self.epoch_size,
            "choose": plan.mixture.choose.tolist(),
            "shuffle": plan.shuffle,
            "shuffle_algo": plan.shuffle_algo,
            "shuffle_seed": plan.seed,
            "shuffle_block_size": plan.shuffle_block_size,
            "sampling": [plan.sampling_method, plan.sampling_granularity],
            "partition_algo": plan.partition_algo,
            "batching_method": plan.batching_method,
            "num_canonical_nodes": plan.canonical_nodes(world),
            "initial_physical_nodes": plan.initial_physical_nodes or world.num_nodes,
        }

    def adopt(self, state: Mapping[str, Any]) -> Self:
        """Take the canonical nodes and the first job's nodes from a state, as mosaicml-streaming does; and its seed."""
        decided: dict[str, Any] = {
            "num_canonical_nodes": state.get("num_canonical_nodes"),
            "initial_physical_nodes": state.get("initial_physical_nodes"),
        }
        if state.get("version") is None and "shuffle_seed" in state:
            decided |= {"seed": state["shuffle_seed"], "weights_seed": self.plan.seed}
        return replace(self, plan=replace(self.plan, **decided))


def choose_plan(
    samples_per_shard: Sequence[IntArray],
    weights: Sequence[Weight],
    *,
    batch_size: int | None,
    num_canonical_nodes: int | None,
    shuffle: bool,
    shuffle_algo: str | None,
    shuffle_block_size: int | None,
    seed: int,
    epoch_size: int | None,
    batching_method: str,
    replication: int | None,
    **mosaic: Any,
) -> EpochPlan:
    """Give arrowstream's own order where it can be had, and mosaicml-streaming's where that is asked for.

    Args:
        samples_per_shard: Of each stream, int64 of shape (shards of the stream,).
        weights: Of each stream.
        batch_size: Of one rank.
        num_canonical_nodes: None: as the order's default is.
        shuffle: Whether there is a shuffle.
        shuffle_algo: Of mosaicml-streaming, or None.
        shuffle_block_size: None: as the order's default is.
        seed: Of the shuffle.
        epoch_size: Samples of an epoch; None: what the weights come to.
        batching_method: What batches are made of.
        replication: Consecutive ranks that read the same samples.
        mosaic: What only mosaicml-streaming's order takes.

    Raises:
        ValueError: A value is out of range or unknown, or a batch size is missing.
    """
    mixes = epoch_size is not None or any(weight != Weight() for weight in weights)
    if shuffle_algo is None and not mixes and batching_method == "random" and not replication:
        return WindowedPlan(
            samples_per_shard=np.concatenate(samples_per_shard),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            block_size=shuffle_block_size or DEFAULT_BLOCK_SIZE,
            num_canonical_nodes=num_canonical_nodes,
        )
    if batch_size is None:
        raise ValueError("Please pass `batch_size`: the order that was asked for deals out batches.")
    plan = MosaicPlan(
        samples_per_shard=samples_per_shard,
        weights=weights,
        batch_size=batch_size,
        epoch_size=epoch_size,
        num_canonical_nodes=num_canonical_nodes,
        shuffle=shuffle,
        shuffle_algo=shuffle_algo or "py1e",
        shuffle_block_size=shuffle_block_size,
        seed=seed,
        batching_method=batching_method,
        replication=replication,
        **mosaic,
    )
    return LaidOutPlan(plan=plan)
