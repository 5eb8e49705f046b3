"""One epoch of a dataset's order, to be asked what it holds."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.plan.epoch_plan import EpochPlan
from arrowstream.plan.fingerprint import order_fingerprint
from arrowstream.plan.skips import Skip, Skips
from arrowstream.plan.state import Position
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]

_CHUNK = 1 << 18


class PlanView:
    """The samples of an epoch in the order in which a job trains on them.

    A *position* counts them over all ranks, from 0; step k has the positions [k·G, (k+1)·G), where G is the batch size
    of the whole job. Steps that are skipped are not counted. Nothing is read to answer, and nothing of the size of the
    epoch is kept, but for the orders of mosaicml-streaming, which are laid out as a whole at each question.

    Args:
        plan: The order.
        world: The job.
        epoch: From 0.
        batch_size: Of one rank; None where there are no steps to be asked for.

    Raises:
        ValueError: The epoch is negative.
    """

    def __init__(self, plan: EpochPlan, world: World, epoch: int, batch_size: int | None) -> None:
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; expected at least 0")
        self._plan = plan
        self._world = world
        self._batch_size = batch_size
        self.epoch = epoch

    def __repr__(self) -> str:
        return f"{type(self).__name__}(epoch={self.epoch}, num_samples={self.num_samples})"

    @cached_property
    def num_samples(self) -> int:
        """Positions of the epoch."""
        return self._plan.num_positions(self._world, self.epoch)

    @cached_property
    def num_steps(self) -> int:
        """Steps that every rank takes in this epoch.

        Raises:
            ValueError: The dataset has no batch size, or too few samples for a step.
        """
        self._require_batch_size()
        rank_samples = self._plan.rank_samples(self._world, Position(epoch=self.epoch, sample=0))
        return -(-rank_samples // (self._batch_size or 1))

    @property
    def settings(self) -> dict[str, Any]:
        """What the order depends on, by name; a checkpoint holds the same."""
        return self._plan.settings(self._world)

    @property
    def samples_per_step(self) -> int:
        """Samples of a step over all ranks; those that read the same count once.

        Raises:
            ValueError: The dataset has no batch size.
        """
        return self._require_batch_size() * self._num_ranks

    def samples(self, start: int, stop: int) -> IntArray:
        """Tell which samples stand at the positions [start, stop).

        Returns:
            Sample ids, int64 of shape (stop - start,).

        Raises:
            IndexError: The epoch has no such positions.
        """
        if not 0 <= start <= stop <= self.num_samples:
            raise IndexError(f"positions {start} to {stop} of an epoch of {self.num_samples}")
        return self._plan.ids_at(self._world, self.epoch, np.arange(start, stop, dtype=np.int64))

    def batch(self, step: int) -> IntArray:
        """Tell which samples all ranks together train on in one step, without any that the last step repeats.

        Returns:
            Sample ids, int64 of shape (up to samples_per_step,), by position.

        Raises:
            IndexError: The epoch has no such step.
            ValueError: The dataset has no batch size.
        """
        self._check_step(step)
        start = step * self.samples_per_step
        return self.samples(start, min(start + self.samples_per_step, self.num_samples))

    def where(self, sample_id: int) -> IntArray:
        """Tell at which positions of the epoch a sample stands.

        Args:
            sample_id: In [0, number of samples of the dataset).

        Returns:
            Positions, int64, ascending: one; none for a sample that is skipped or not drawn; several for one that is
            drawn several times. Divided by ``samples_per_step`` they are steps.
        """
        return np.sort(self._plan.positions_of(self._world, self.epoch, np.array([sample_id], np.int64)))

    def fingerprint(self, step: int, known: tuple[int, str] | None = None) -> str:
        """Hash which samples stand at which positions, up to and including a step.

        Two runs with equal fingerprints have trained on the same samples in the same order, whatever their nodes,
        ranks and workers. It takes the time to compute the order that far, unless an earlier one is known.

        Args:
            step: The last step that counts.
            known: An earlier step, and what this method gave for it, to go on from.

        Returns:
            16 hexadecimal digits.

        Raises:
            IndexError: The epoch has no such step.
            ValueError: The dataset has no batch size, or the known step is a later one.
        """
        self._check_step(step)
        first, value = (known[0] + 1, int(known[1], 16)) if known is not None else (0, 0)
        if not 0 <= first <= step + 1:
            raise ValueError(f"step {first - 1} is known, which is not before step {step}")
        stop = min((step + 1) * self.samples_per_step, self.num_samples)
        for start in range(first * self.samples_per_step, stop, _CHUNK):
            positions = np.arange(start, min(start + _CHUNK, stop), dtype=np.int64)
            value = order_fingerprint(positions, self._plan.ids_at(self._world, self.epoch, positions), value)
        return f"{value:016x}"

    def steps_by_node(self, start: int, stop: int) -> IntArray:
        """Tell which samples each machine reads in the steps [start, stop), which have to be full ones.

        Returns:
            Sample ids, int64 of shape (nodes, samples of a node), each node's in sequence.

        Raises:
            IndexError: The epoch has no such full steps.
            ValueError: The dataset has no batch size.
        """
        first, last = start * self.samples_per_step, stop * self.samples_per_step
        if not 0 <= first <= last <= self.num_samples:
            raise IndexError(f"full steps {start} to {stop} of an epoch of {self.num_samples // self.samples_per_step}")
        return self._plan.nodes_of(self._world, self.epoch, np.arange(first, last, dtype=np.int64))

    @property
    def _num_ranks(self) -> int:
        return self._world.replicated(self._plan.replication).num_ranks

    def _require_batch_size(self) -> int:
        if self._batch_size is None:
            raise ValueError("Please pass `batch_size` to the dataset: without it there are no steps.")
        return self._batch_size

    def _check_step(self, step: int) -> None:
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} of an epoch of {self.num_steps} steps")


def skipping(
    skipped: tuple[Skip, ...], view: PlanView, start: int, stop: int, upcoming: tuple[int, int]
) -> tuple[Skip, ...]:
    """Add steps to what is left out.

    Args:
        skipped: What is left out already, of any epoch.
        view: The epoch whose steps these are, as it is now.
        start: The first step to leave out.
        stop: The step behind the last one.
        upcoming: The epoch that comes next, and the position that it goes on with.

    Raises:
        ValueError: The steps lie in the past or behind the end, or there are none.
    """
    next_epoch, next_sample = upcoming
    first = start * view.samples_per_step
    behind = min(stop * view.samples_per_step, view.num_samples)
    if view.epoch < next_epoch or first < (next_sample if view.epoch == next_epoch else 0):
        raise ValueError(
            f"step {start} of epoch {view.epoch} has been read; the dataset goes on with sample {next_sample} of epoch "
            f"{next_epoch}, and a step has {view.samples_per_step}"
        )
    if not first < behind:
        raise ValueError(f"there are no steps from {start} to {stop} in an epoch of {view.num_steps}")
    others = (skip for skip in skipped if skip[0] != view.epoch)
    runs = Skips.of_epoch(skipped, view.epoch).adding(first, behind).runs
    return (*others, *((view.epoch, *run) for run in runs))
