"""Rows of one size that lie at many places of memory, gathered by one step of NumPy.

Every record batch of every mapped shard holds the rows of a column end to end, somewhere among the addresses of this
process. In an array of overlapping items, one for each byte from the lowest to the highest of those places, every row
is an item; then ``array[addresses]`` copies rows. Nothing of that array is read but whole rows, so it does not matter
what lies between the places.

Tried on random rows of 4 and of 3 KB, batches of 256, against ``array[ids]`` on one ``np.memmap``: this is 0.9 to 1.2
times as fast, ``np.concatenate`` of views 0.7, a copy a row 0.6 to 0.7, ``memmove`` a row 0.6, ``process_vm_readv``
0.5, grouping by record batch and ``np.take`` 0.3. Large tensors, and those whose memory is at hand, are gathered by
torch over the same window: it is as fast on one core, and uses several (``arrowstream.tensor_window``).

What ``array[addresses]`` returns comes from malloc, which hands out again what was freed: while a loop holds one or two
batches there is not one page fault.
"""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

AnyArray = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]

# The bytes of all items of a window have to fit into 63 bits. Only rows of 64 KiB and more ever do not.
_MAX_ITEM_BYTES = 1 << 62

# Rows of so many bytes are found and copied for many batches at once, and from there into each.
_SMALL_ROW = 64


class RowWindow:
    """The rows of one column, by slot (the record batches that were placed) and row of the slot.

    Args:
        dtype: Of the elements.
        shape: Of a row.
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self._row_bytes = prod(shape) * dtype.itemsize
        self._rows: dict[int, AnyArray] = {}
        self._starts: IntArray = np.zeros(0, np.int64)
        self._first = 0
        self._end = 0
        self._memory: AnyArray = np.empty(0, np.uint8)  # (end - first,)
        self._items: AnyArray | None = None  # (end - first - row_bytes + 1,), overlapping

    def resize(self, num_slots: int) -> None:
        """Make room for slots up to a number."""
        self._starts = np.concatenate([self._starts, np.zeros(num_slots - len(self._starts), np.int64)])

    def place(self, slot: int, rows: AnyArray) -> None:
        """Say where the rows of a slot lie, (n, *shape), contiguous. They are kept alive until the slot is released."""
        self._rows[slot] = rows
        start = int(rows.__array_interface__["data"][0])
        self._starts[slot] = start
        first = min(self._first or start, start)
        end = max(self._end, start + rows.nbytes)
        if first < self._first or end > self._end or not self._first:
            self._first, self._end = first, end
            self._cover(np.frombuffer(pa.foreign_buffer(first, end - first), np.uint8))

    def _cover(self, memory: AnyArray) -> None:
        """Look at this memory, uint8 of shape (bytes,), from now on."""
        self._memory = memory
        self._items = None
        num_items = len(memory) - self._row_bytes + 1
        if self._row_bytes and 0 < num_items * self._row_bytes < _MAX_ITEM_BYTES:
            self._items = np.ndarray((num_items,), np.dtype(f"V{self._row_bytes}"), memory, strides=(1,))

    def release(self, slot: int) -> None:
        """Forget the rows of a slot; they must not be gathered until they are placed again."""
        self._rows.pop(slot, None)

    def gather(self, slots: IntArray, rows: IntArray) -> Any:
        """Copy rows.

        Args:
            slots: Slots that are placed, int64 of shape (n,).
            rows: Rows of those slots; **not checked**, int64 of shape (n,).

        Returns:
            An array of shape (n, *shape), owning its memory, aligned to 16 bytes as NumPy's arrays are.
        """
        return self.take(self.find(slots, rows))

    def find(self, slots: IntArray, rows: IntArray) -> AnyArray:
        """Do what can be done ahead, for rows of several batches at once.

        Args:
            slots: As for ``gather``.
            rows: As for ``gather``.

        Returns:
            What ``take`` takes any part of, as long as no slot is placed or released: where the rows lie in the window,
            or the rows themselves where they are small.
        """
        places: IntArray = self._starts[slots] + rows * self._row_bytes
        places -= self._first
        # One step for many small rows: for those of one batch it takes as long as copying a hundred times the bytes.
        return places if self._row_bytes > _SMALL_ROW else self._copied(places)

    def take(self, found: AnyArray) -> Any:
        """Copy rows that were found, as ``gather`` does."""
        return self._copy(found) if self._row_bytes > _SMALL_ROW else self._own(found)

    def gather_from(self, slots: IntArray, elements: IntArray) -> AnyArray:
        """Copy as many elements as a row has, from anywhere in a slot.

        Args:
            slots: Slots that are placed, int64 of shape (n,).
            elements: The first element of each, counted from the start of its slot; **not checked**, int64 of shape
                (n,).

        Returns:
            As ``gather``.
        """
        copied: AnyArray = self._copy(self._starts[slots] + elements * self.dtype.itemsize - self._first)
        return copied

    def _copy(self, places: IntArray) -> Any:
        """Copy rows that begin at these bytes of the window."""
        return self._copied(places)

    def _own(self, rows: AnyArray) -> Any:
        """Copy a part of other rows."""
        return rows.copy()

    def _copied(self, places: IntArray) -> AnyArray:
        if self._items is not None:
            copied = self._items[places]
        else:
            copied = np.empty((len(places), self._row_bytes), np.uint8)
            self._copy_each(places, copied)
        return copied.view(self.dtype).reshape(len(places), *self.shape)

    def _copy_each(self, places: IntArray, out: AnyArray) -> None:
        """Copy rows one by one, into uint8 of shape (n, bytes of a row): those of no bytes, or of very many."""
        for number, place in enumerate(places.tolist()):
            out[number] = self._memory[place : place + self._row_bytes]
