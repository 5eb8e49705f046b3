"""When each shard is needed: what a cache has to know to delete the one that is needed last (Bélády 1966).

In the windowed order the samples of a shard, or of a piece of one, stand next to each other before they are shuffled,
and the shuffle keeps each within the blocks that it stands in and half a block more. So the first and the last position
of a shard follow from its place, without a look at its samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from arrowstream.plan.order import Order
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]

#: The next use of what is not used again.
NEVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uses:
    """The stretches of an epoch in which parts of the data are used; a part may have several, or none.

    Parts are shards, or what :class:`arrowstream.plan.parts.Parts` makes of them.

    Attributes:
        parts: int64 of shape (uses,).
        first: Position of the first sample, int64 of shape (uses,).
        last: Position of the last sample, int64 of shape (uses,).
        num_parts: Parts of the dataset.
        epoch_size: Positions of the epoch.
    """

    parts: IntArray
    first: IntArray
    last: IntArray
    num_parts: int
    epoch_size: int

    def next_at(self, position: int) -> IntArray:
        """Tell when each part is needed next, from a position on.

        Returns:
            Positions of this epoch, ``position`` itself for a part that is in use, ``NEVER`` for one that is not
            needed any more; int64 of shape (parts,).
        """
        coming = np.where(self.last >= position, np.maximum(self.first, position), NEVER)
        found = np.full(self.num_parts, NEVER)
        np.minimum.at(found, self.parts, coming)
        return found

    def most_bytes(self, bytes_per_part: IntArray) -> int:
        """Tell how many bytes are in use at the same time, at most.

        Args:
            bytes_per_part: int64 of shape (parts,).
        """
        parts, first, last = self._joined()
        sizes = bytes_per_part[parts]
        positions = np.concatenate([first, last + 1])
        changes = np.concatenate([sizes, -sizes])
        # Where one ends as another begins, the end comes first.
        order = np.lexsort((changes, positions))
        return int(np.cumsum(changes[order]).max(initial=0))

    def _joined(self) -> tuple[IntArray, IntArray, IntArray]:
        """Join the stretches of a part that overlap: parts, first and last positions."""
        if not len(self.parts):
            return self.parts, self.first, self.last
        order = np.lexsort((self.first, self.parts))
        parts, first, last = self.parts[order], self.first[order], self.last[order]
        # Positions of each part are shifted by more than an epoch, so that those before it cannot reach into it.
        shift = parts * (int(self.last.max()) + 2)
        reached = np.maximum.accumulate(last + shift)
        begins = np.concatenate([[True], (first + shift)[1:] > reached[:-1]])
        starts = np.flatnonzero(begins)
        return parts[starts], first[starts], np.maximum.reduceat(last, starts)


def uses_of_order(order: Order, samples_per_part: IntArray, world: World) -> Uses:
    """Tell when a machine needs each part in an epoch of arrowstream's order.

    The stretches may begin earlier and end later than the first and the last sample, by less than a block.

    Args:
        order: Of the epoch.
        samples_per_part: Of shards, or of the pieces that they are fetched in; none lies in two units of the order.
            int64 of shape (parts,).
        world: The machine, and the job that it is part of.
    """
    first_ids, nodes, first, last = order.stretches(samples_per_part)
    starts = np.cumsum(samples_per_part) - samples_per_part
    parts = np.searchsorted(starts, first_ids, side="right") - 1
    if order.canonical_nodes % world.num_nodes == 0:  # else every machine reads for all canonical nodes
        own = nodes % world.num_nodes == world.node
        parts, first, last = parts[own], first[own], last[own]
    return Uses(parts=parts, first=first, last=last, num_parts=len(samples_per_part), epoch_size=order.num_samples)


def uses_of_ids(ids: IntArray, samples_per_shard: IntArray, epoch_size: int) -> Uses:
    """Tell when each shard is needed in an order that is laid out.

    Args:
        ids: Sample ids in the order of their use, -1 for none; int64 of shape (steps, samples a step), a step being
            what is read at the same time.
        samples_per_shard: int64 of shape (shards,).
        epoch_size: Positions of the epoch; the steps share them out.
    """
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(samples_per_shard)])
    first = np.full(len(samples_per_shard), NEVER)
    last = np.full(len(samples_per_shard), -1)
    step_size = epoch_size / max(len(ids), 1)
    for step, members in enumerate(ids):
        used = np.searchsorted(starts, members[members >= 0], side="right") - 1
        first[used] = np.minimum(first[used], int(step * step_size))
        last[used] = int((step + 1) * step_size) - 1
    shards = np.flatnonzero(last >= 0)
    return Uses(
        parts=shards,
        first=first[shards],
        last=np.maximum(last[shards], first[shards]),
        num_parts=len(samples_per_shard),
        epoch_size=epoch_size,
    )


class Forecast:
    """When each part is needed next, seen from where an iteration stands; across the end of the epoch.

    Args:
        uses: Gives the uses of an epoch.
        epoch: Where the iteration stands.
        position: Gives where the iteration stands in the epoch, over all ranks; asked for whenever room is needed.
    """

    def __init__(self, uses: Callable[[int], Uses], epoch: int, position: Callable[[], int]) -> None:
        self.uses = lru_cache(maxsize=2)(uses)
        self._epoch = epoch
        self._position = position
        self._known: tuple[int, IntArray] | None = None

    def next_uses(self) -> IntArray:
        """Tell when each part is needed next.

        Returns:
            Positions, of which those beyond the epoch's size are of the next epoch; int64 of shape (parts,).
        """
        position, known = self._position(), self._known
        if known is None or known[0] != position:
            uses = self.uses(self._epoch)
            found = uses.next_at(position)
            done = found == NEVER
            if done.any():
                following = self.uses(self._epoch + 1).next_at(0)
                again = done & (following != NEVER)
                found[again] = following[again] + uses.epoch_size
            known = self._known = (position, found)
        return known[1]
