"""In which of many neighbouring spans numbers lie: samples in shards, places in the pieces of an order."""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

# Steps from where the table points to the span itself; where sizes differ so much that it takes more, it is searched.
_MOST_STEPS = 4


class Spans:
    """Knows in which span a number lies.

    The numbers are cut into cells of one size, about that of an average span, and a table says in which span each cell
    begins. A binary search takes five times as long, because every step of it waits for memory.

    Args:
        starts: Where each span begins, in ascending order, from 0; int64 of shape (spans,). It ends where the next one
            begins; empty ones have no number.
        end: Where the last one ends.
    """

    def __init__(self, starts: IntArray, end: int) -> None:
        self._starts = starts
        self._ends = np.append(starts[1:], np.iinfo(np.int64).max)
        self._cell_bits = max(end // max(len(starts), 1), 1).bit_length() - 1
        # The first cell that begins in a span or behind it. Counting them takes a tenth of the time of searching.
        cells = (starts + (1 << self._cell_bits) - 1) >> self._cell_bits  # (spans,)
        num_cells = (end >> self._cell_bits) + 2
        # Half the memory of int64: there may be a million spans.
        self._firsts = np.cumsum(np.bincount(cells, minlength=num_cells), dtype=np.int32) - np.int32(1)
        self._num_steps = int(np.diff(self._firsts).max(initial=0))

    def find(self, numbers: IntArray) -> IntArray:
        """Give the span of each number, int64 of shape (n,).

        Args:
            numbers: In [0, end), **not checked**; int64 of shape (n,).
        """
        if self._num_steps > _MOST_STEPS:
            return self._search(numbers)
        found: IntArray = self._firsts[numbers >> self._cell_bits].astype(np.int64)
        for _ in range(self._num_steps):
            found += numbers >= self._ends[found]
        return found

    def _search(self, numbers: IntArray) -> IntArray:
        return np.asarray(np.searchsorted(self._starts, numbers, side="right") - 1)
