"""What a dataset asks of an order, whichever it is: arrowstream's own here, mosaicml-streaming's beside it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from arrowstream.errors import StateMismatchError
from arrowstream.plan.order import Order
from arrowstream.plan.positioned import PositionedPlan
from arrowstream.plan.skips import Skip
from arrowstream.plan.state import Position
from arrowstream.plan.uses import Uses, uses_of_order
from arrowstream.plan.window import Shards, ShuffleUnit, Window
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]


class EpochPlan(Protocol):
    """Which samples each process reads, epoch by epoch.

    The positions of an epoch are those that are read: what is skipped is not counted.
    """

    @property
    def epoch_size(self) -> int:
        """Samples of an epoch, over all ranks, if nothing is skipped."""

    @property
    def replication(self) -> int | None:
        """Consecutive ranks that read the same samples; None for 1."""

    def skipping(self, skipped: tuple[Skip, ...]) -> Self:
        """Give the plan that leaves out these runs of positions."""

    def num_positions(self, world: World, epoch: int) -> int:
        """Count the positions of an epoch, over all ranks."""

    def ids_at(self, world: World, epoch: int, positions: IntArray) -> IntArray:
        """Tell which samples stand at these positions of an epoch, int64 of shape (n,)."""

    def positions_of(self, world: World, epoch: int, ids: IntArray) -> IntArray:
        """Tell at which positions of an epoch these samples stand, int64."""

    def nodes_of(self, world: World, epoch: int, positions: IntArray) -> IntArray:
        """Tell which samples the machines read in whole steps: int64 of shape (nodes, samples)."""

    def rank_samples(self, world: World, position: Position | None = None) -> int:
        """Count the samples that every rank reads of an epoch, or of what a position leaves of it.

        Raises:
            ValueError: That is nothing, for want of samples.
        """

    def sample_ids(self, world: World, position: Position) -> Iterator[IntArray]:
        """Give the sample ids that one process reads from a position on, in its order, some thousands at a time."""

    def padding_at(self, world: World, position: Position) -> int | None:
        """Find the sample that this process reads only so that all ranks read as many, if there is one to be marked."""

    @property
    def unit(self) -> ShuffleUnit:
        """What an iteration fetches at once."""

    def uses(self, world: World, epoch: int) -> Uses:
        """Tell when the machine of this process needs each shard, or each part of one, in an epoch."""

    def settings(self, world: World) -> dict[str, Any]:
        """Say what the order depends on, in JSON values; a state holds them."""

    def adopt(self, state: Mapping[str, Any]) -> Self:
        """Give the plan with what a state decides where the user did not.

        Raises:
            StateMismatchError: The state belongs to another kind of order.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowedPlan(PositionedPlan):
    """arrowstream's own order: computed where it is asked for, whatever the epoch's size.

    Attributes:
        shards: The data.
        shuffle: Whether there is a shuffle.
        seed: Of the shuffle.
        window: What it moves and mixes.
    """

    shards: Shards
    shuffle: bool
    seed: int
    window: Window

    @property
    def epoch_size(self) -> int:
        """Samples of an epoch, over all ranks, if nothing is skipped."""
        return int(self.shards.num_samples.sum())

    @property
    def unit(self) -> ShuffleUnit:
        """What an iteration fetches at once."""
        return self.window.unit

    def order(self, epoch: int) -> Order:
        """Give the order of an epoch, nothing left out."""
        return Order(
            self.shards.num_samples,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=epoch,
            block_size=self.window.block_size,
            canonical_nodes=self.window.canonical_nodes,
            rows_per_unit=self.shards.rows_per_unit(self.window.unit),
        )

    def uses(self, world: World, epoch: int) -> Uses:
        """Tell when the machine of this process needs each part of the data in an epoch."""
        return uses_of_order(self.order(epoch), self.shards.parts(self.unit).num_samples, world)

    def settings(self, world: World) -> dict[str, Any]:
        """Say what the order depends on; the job is not part of it."""
        del world
        return {
            "num_samples": self.epoch_size,
            "mixing": None,
            "shuffle": self.shuffle,
            "shuffle_algo": None,
            "shuffle_seed": self.seed,
            "shuffle_block_size": self.window.block_size,
            "num_canonical_nodes": self.window.canonical_nodes,
            "shuffle_unit": self.window.unit,
            "tail": self.tail,
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
