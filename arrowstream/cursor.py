"""How far an iteration has come, known without counting its samples one by one."""

from collections.abc import Iterator
from operator import length_hint

from arrowstream.epochs import EpochCounter
from arrowstream.plan.state import Position


class Cursor:
    """One iteration of this process.

    Args:
        position: Where it begins; None: where the next epoch does, which is not taken before the first sample.

    Attributes:
        read_s: Seconds spent reading batches; samples that are given out one by one are not timed.
    """

    def __init__(self, position: Position | None) -> None:
        self.position = position
        self.read_s = 0.0
        self._given = 0
        self._left: Iterator[int] = iter(())

    @property
    def samples(self) -> int:
        """Samples that were given out since ``position``."""
        # An iterator over a list knows how much of it is left. A counter would cost every sample 30 ns.
        return self._given - length_hint(self._left)

    def begin(self, epochs: EpochCounter) -> Position:
        """Give the position where it begins, and take the next epoch if that is not settled yet."""
        if self.position is None:
            epoch, sample = epochs.claim()
            self.position = Position(epoch=epoch, sample=sample)
        return self.position

    def advance(self, num_samples: int) -> None:
        """Count samples that are given out together."""
        self._given += num_samples

    def follow(self, places: list[int]) -> Iterator[int]:
        """Iterate over what is given out next, and keep an eye on it."""
        self._given += len(places)
        self._left = iter(places)
        return self._left
