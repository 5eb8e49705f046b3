"""Positions that an epoch leaves out, because somebody found that training on them does harm.

An epoch with positions left out is a shorter epoch: what remains keeps its order and closes up. Everything else (who
reads what, states, steps) speaks of the shorter epoch and need not know.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

#: An epoch, and a run of its positions from the first to before the last.
Skip = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Skips:
    """The runs of positions that one epoch leaves out.

    Attributes:
        runs: First position and the one behind the last, ascending; they neither touch nor are empty.
    """

    runs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_epoch(cls, skipped: Iterable[Skip], epoch: int) -> "Skips":
        """Pick out what is said of one epoch."""
        return cls(tuple(sorted((start, stop) for number, start, stop in skipped if number == epoch)))

    @property
    def num_samples(self) -> int:
        """How many positions are left out."""
        return sum(stop - start for start, stop in self.runs)

    def full(self, positions: IntArray) -> IntArray:
        """Turn positions of the shorter epoch into those of the full one, int64 of shape (n,)."""
        if not self.runs:
            return positions
        runs = np.array(self.runs, np.int64).reshape(-1, 2)
        lengths = runs[:, 1] - runs[:, 0]
        before = np.concatenate([[0], np.cumsum(lengths)])  # (runs + 1,), left out before each run
        passed = np.searchsorted(runs[:, 0] - before[:-1], positions, side="right")
        return np.asarray(positions + before[passed])

    def short(self, positions: IntArray) -> IntArray:
        """Turn positions of the full epoch into those of the shorter one: of those that remain, int64 (up to n,)."""
        runs = np.array(self.runs, np.int64).reshape(-1, 2)
        before = np.concatenate([[0], np.cumsum(runs[:, 1] - runs[:, 0])])
        began = np.searchsorted(runs[:, 0], positions, side="right")
        ended = np.searchsorted(runs[:, 1], positions, side="right")
        remaining: IntArray = (positions - before[ended])[began == ended]
        return remaining

    def adding(self, start: int, stop: int) -> "Skips":
        """Leave out more: the positions [start, stop) of the shorter epoch."""
        first, last = self.full(np.array([start, stop - 1], np.int64)).tolist()
        merged = [(first, last + 1)]
        for run in self.runs:
            if run[1] < merged[0][0] or run[0] > merged[0][1]:
                merged.append(run)
            else:
                merged[0] = (min(run[0], merged[0][0]), max(run[1], merged[0][1]))
        return Skips(tuple(sorted(merged)))
