"""The order of mosaicml-streaming as a dataset asks for it: whole epochs, laid out at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from arrowstream.plan.mosaic.partition import dealt, training_order
from arrowstream.plan.mosaic.plan import MosaicPlan
from arrowstream.plan.mosaic.replicate import replicate
from arrowstream.plan.positioned import CHUNK
from arrowstream.plan.skips import Skip, Skips
from arrowstream.plan.state import Position
from arrowstream.plan.uses import Uses, uses_of_ids
from arrowstream.plan.window import ShuffleUnit
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaidOutPlan:
    """The order of mosaicml-streaming: each process lays out the whole epoch, in time and memory of its size.

    Attributes:
        plan: The order.
        skipped: Runs of positions that epochs leave out, in whole steps.
    """

    plan: MosaicPlan
    skipped: tuple[Skip, ...] = ()

    @property
    def epoch_size(self) -> int:
        """Samples of an epoch, over all ranks, if nothing is skipped."""
        return self.plan.mixture.epoch_size

    @property
    def replication(self) -> int | None:
        """Consecutive ranks that read the same samples; None for 1."""
        return self.plan.replication

    def skipping(self, skipped: tuple[Skip, ...]) -> Self:
        """Give the plan that leaves out these runs of positions."""
        return replace(self, skipped=skipped)

    def num_positions(self, world: World, epoch: int) -> int:
        """Count the positions of an epoch: with what the partition repeats, without what is left out."""
        return int((self._steps(world, Position(epoch=epoch, sample=0)) >= 0).sum())

    def ids_at(self, world: World, epoch: int, positions: IntArray) -> IntArray:
        """Tell which samples stand at these positions of an epoch."""
        return self._sequence(world, epoch)[positions]

    def positions_of(self, world: World, epoch: int, ids: IntArray) -> IntArray:
        """Tell at which positions these samples stand; one that is drawn several times stands at as many."""
        return np.flatnonzero(np.isin(self._sequence(world, epoch), ids)).astype(np.int64)

    def nodes_of(self, world: World, epoch: int, positions: IntArray) -> IntArray:
        """Tell which samples the machines read in whole steps: int64 of shape (nodes, samples)."""
        job = replicate(world, self.plan.replication)
        per_step = job.num_ranks * self.plan.batch_size
        of_node = positions.reshape(-1, job.num_nodes, per_step // job.num_nodes).transpose(1, 0, 2)
        return self._sequence(world, epoch)[of_node.reshape(job.num_nodes, -1)]

    def rank_samples(self, world: World, position: Position | None = None) -> int:
        """Count the samples that every rank reads of an epoch, or of what a position leaves of it."""
        left = self.epoch_size
        if position is not None:
            left -= Skips.of_epoch(self.skipped, position.epoch).num_samples + position.sample
        return -(-max(left, 0) // replicate(world, self.plan.replication).num_ranks)

    def sample_ids(self, world: World, position: Position) -> Iterator[IntArray]:
        """Give the sample ids that one process reads, in its order."""
        ids = self._worker_samples(world, position)
        for start in range(0, len(ids), CHUNK):
            yield ids[start : start + CHUNK]

    @property
    def unit(self) -> ShuffleUnit:
        """What an iteration fetches at once."""
        return "shard"

    def uses(self, world: World, epoch: int) -> Uses:
        """Tell when the machine of this process needs each shard in an epoch; lays the epoch out."""
        job = replicate(world, self.plan.replication)
        own = self.plan.job_samples(world, epoch)[job.node]  # (ranks, workers, batches, batch size)
        steps = own.transpose(2, 1, 0, 3).reshape(own.shape[1] * own.shape[2], -1)  # workers take turns
        samples = np.concatenate([np.asarray(stream, np.int64) for stream in self.plan.samples_per_shard])
        return uses_of_ids(steps, samples, self.epoch_size)

    def padding_at(self, world: World, position: Position) -> int | None:
        """Give None: where the partition repeats samples it does not say so."""
        del world, position
        return None

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

    def _sequence(self, world: World, epoch: int) -> IntArray:
        steps = self._steps(world, Position(epoch=epoch, sample=0)).reshape(-1)
        sequence: IntArray = steps[steps >= 0]
        return sequence

    def _worker_samples(self, world: World, position: Position) -> IntArray:
        if not Skips.of_epoch(self.skipped, position.epoch).runs:
            return self.plan.worker_samples(world, position.epoch, position.sample)
        job = replicate(world, self.plan.replication)
        steps = self._steps(world, position)
        steps = np.pad(steps, ((0, -len(steps) % job.workers_per_rank), (0, 0)), constant_values=-1)
        own = dealt(steps.reshape(-1), job, self.plan.batch_size)[job.node, job.rank_of_node, job.worker]
        samples: IntArray = own[own >= 0]
        return samples

    def _steps(self, world: World, position: Position) -> IntArray:
        """Lay out the steps that are left: int64 of shape (steps, samples of a step), -1 for none.

        Raises:
            ValueError: What is left out does not begin and end between two steps.
        """
        job = replicate(world, self.plan.replication)
        per_step = job.num_ranks * self.plan.batch_size
        skips = Skips.of_epoch(self.skipped, position.epoch)
        first = int(skips.full(np.array([position.sample], np.int64))[0])
        work = self.plan.job_samples(world, position.epoch, first)
        steps = training_order(work).reshape(-1, per_step)
        keep = np.ones(len(steps), bool)
        for start, stop in skips.runs:
            if stop <= first:
                continue
            if (start - first) % per_step or ((stop - first) % per_step and stop < self.epoch_size):
                raise ValueError(
                    f"the positions {start} to {stop} of the epoch are to be skipped, but the steps of {per_step} "
                    f"samples that this job takes from {first} on cut through them; an order of mosaicml-streaming "
                    f"skips whole steps"
                )
            keep[(start - first) // per_step : -(-(stop - first) // per_step)] = False
        left: IntArray = steps[keep]
        return left
