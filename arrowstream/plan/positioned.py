"""Plans whose order is known position by position: what they have in common, whatever the order is made of."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from arrowstream.plan.partition import Tail, endless_positions, padding_at, samples_per_rank, step_by_node
from arrowstream.plan.skips import Skip, Skips
from arrowstream.plan.state import Position
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]

#: Samples whose ids are given at once: what an iteration looks ahead by.
CHUNK = 4096
# Samples whose ids are worked out at once: enough for NumPy to pay, few enough for an iteration to begin at once.
_ORDERED_AT_ONCE = 1 << 14


class EpochOrder(Protocol):
    """The samples of one epoch in their sequence."""

    def samples_at(self, positions: IntArray) -> IntArray:
        """Tell which samples stand at these positions, int64 of shape (n,)."""

    def positions_of(self, ids: IntArray) -> IntArray:
        """Tell all positions at which these samples stand, int64."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PositionedPlan(ABC):
    """A plan that can be asked for any position.

    Attributes:
        batch_size: Of one rank; None for one that needs none.
        tail: What becomes of positions that do not come out even.
        replication: Consecutive ranks that read the same samples; None for 1.
        skipped: Runs of positions that epochs leave out.
    """

    batch_size: int | None
    tail: Tail = "repeat"
    replication: int | None = None
    skipped: tuple[Skip, ...] = ()

    @property
    @abstractmethod
    def epoch_size(self) -> int:
        """Samples of an epoch, over all ranks."""

    @abstractmethod
    def order(self, epoch: int) -> EpochOrder:
        """Give the order of an epoch, nothing left out."""

    def skipping(self, skipped: tuple[Skip, ...]) -> Self:
        """Give the plan that leaves out these runs of positions."""
        return replace(self, skipped=skipped)

    def num_positions(self, world: World, epoch: int) -> int:
        """Count the positions of an epoch without those that are left out."""
        del world
        return self.epoch_size - Skips.of_epoch(self.skipped, epoch).num_samples

    def ids_at(self, world: World, epoch: int, positions: IntArray) -> IntArray:
        """Tell which samples stand at these positions of an epoch without those that are left out."""
        del world
        return self.order(epoch).samples_at(Skips.of_epoch(self.skipped, epoch).full(positions))

    def positions_of(self, world: World, epoch: int, ids: IntArray) -> IntArray:
        """Tell at which positions these samples stand; none for one that is left out."""
        del world
        return Skips.of_epoch(self.skipped, epoch).short(self.order(epoch).positions_of(ids))

    def nodes_of(self, world: World, epoch: int, positions: IntArray) -> IntArray:
        """Tell which samples the machines read in whole steps: int64 of shape (nodes, samples)."""
        job = world.replicated(self.replication)
        read = self.dealt(positions, job, Position(epoch=epoch, sample=0))
        ids = self.ids_at(world, epoch, read % max(self.num_positions(world, epoch), 1))
        return step_by_node(ids, job)

    def rank_samples(self, world: World, position: Position | None = None) -> int:
        """Count the samples that every rank reads of an epoch, or of what a position leaves of it.

        Raises:
            ValueError: ``drop`` would leave nothing of an epoch.
        """
        num_samples, sample = self.epoch_size, 0
        if position is not None:
            num_samples, sample = self.num_positions(world, position.epoch), position.sample
        num_ranks, batch_size = world.replicated(self.replication).num_ranks, self.batch_size or 1
        count = samples_per_rank(max(num_samples - sample, 0), num_ranks, batch_size, self.tail)
        if not count and num_samples and not sample:
            raise ValueError(
                f"tail='drop' leaves nothing of an epoch: {num_samples} samples do not fill a step of {num_ranks} "
                f"ranks with batches of {batch_size}"
            )
        return count

    def sample_ids(self, world: World, position: Position) -> Iterator[IntArray]:
        """Give the sample ids that one process reads from a position on, in its order, some thousands at a time."""
        self.rank_samples(world, position)
        skips, order = Skips.of_epoch(self.skipped, position.epoch), self.order(position.epoch)
        job, num_positions = world.replicated(self.replication), self.num_positions(world, position.epoch)
        for positions in endless_positions(
            num_positions,
            job,
            self.batch_size or 1,
            self.positions_at_once(job),
            start=position.sample,
            tail=self.tail,
        ):
            read = self.dealt(positions, job, position)
            if read.max() >= num_positions:  # a division takes as long as half the order, and the end comes once
                read = read % num_positions
            ids = order.samples_at(skips.full(read))
            for first in range(0, len(ids), CHUNK):
                yield ids[first : first + CHUNK]

    def positions_at_once(self, job: World) -> int:
        """Say how many positions of one process are worked out at a time."""
        del job
        return _ORDERED_AT_ONCE

    def dealt(self, positions: IntArray, job: World, start: Position) -> IntArray:
        """Let ranks exchange positions that they read side by side, where an order must not go in step with them.

        Args:
            positions: Of one process, or of several steps as a whole, also beyond the end; int64 of shape (n,).
            job: Its ranks.
            start: Where the epoch began, or goes on.
        """
        del job, start
        return positions

    def padding_at(self, world: World, position: Position) -> int | None:
        """Find the sample that this process reads only so that all ranks read as many: its number from a position on.

        None where there is none, or nobody wants to know: with a tail that is not ``pad``.
        """
        if self.tail != "pad":
            return None
        num_samples = self.num_positions(world, position.epoch)
        job = world.replicated(self.replication)
        return padding_at(num_samples, job, self.batch_size or 1, start=position.sample)
