"""The columns of batches: what is known of the record batches that were bound, and copying rows out of them.

A record batch that is bound has a *slot*: a number of its own among those of all shards. For samples of several batches
a column first finds what it can (``find``), and then takes the values of one batch after the other (``take``). What was
found holds as long as no slot is bound or released.
"""

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from arrowstream.batch_forms import Texts
from arrowstream.columns import Encoding
from arrowstream.columns.buffers import validity
from arrowstream.windows import RowWindow

IntArray = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]
Numbers = tuple[list[int], list[int]]  # slots of samples, and rows in these
_Places = tuple[list[int], list[int], list[int], list[int]]  # these, and where values begin and end in their slots

_NOTHING = memoryview(b"")
_NO_ROWS: IntArray = np.empty(0, np.int64)
_FLAG: np.dtype[Any] = np.dtype(np.bool_)


class Rows(NamedTuple):
    """One column of a batch whose values are of one size.

    Attributes:
        values: (n, *shape), owned by the batch, as the window of its form gathered them.
        valid: Which of them are not null, bool of shape (n,); None when all are.
    """

    values: Any
    valid: AnyArray | None


Gathered = Rows | Texts | list[Any]


class DenseColumn:
    """A column of values of one size.

    Args:
        values: Gathers them.
    """

    def __init__(self, values: RowWindow) -> None:
        self.values = values
        self.valid = RowWindow(_FLAG, ())
        self.has_nulls = np.zeros(0, np.bool_)  # (slots,)
        self._any_nulls = False  # in any slot, ever: most columns have none, and asking costs as much as a small gather

    def resize(self, num_slots: int) -> None:
        """Make room for slots up to a number."""
        self.values.resize(num_slots)
        self.valid.resize(num_slots)
        self.has_nulls = np.concatenate([self.has_nulls, np.zeros(num_slots - len(self.has_nulls), np.bool_)])

    def bind(self, slot: int, encoding: Encoding, array: pa.Array) -> None:
        """Take note of where the rows of a slot lie, and of its nulls; they are kept alive until it is released."""
        rows = encoding.rows(array)
        if rows is not None:
            self.values.place(slot, rows)
        self.has_nulls[slot] = array.null_count > 0
        if array.null_count:
            self._any_nulls = True
            self.valid.place(slot, np.frombuffer(validity(array), np.bool_))

    def release(self, slot: int) -> None:
        """Forget a slot."""
        self.values.release(slot)
        self.valid.release(slot)

    def find(self, slots: IntArray, rows: IntArray, batch_size: int) -> list[tuple[AnyArray, IntArray, IntArray]]:
        """Find rows of slots that are bound, int64 of shape (n,) each; give what ``take`` takes, by batch."""
        found = cut(self.values.find(slots, rows), batch_size)
        if not self._any_nulls:
            return [(part, _NO_ROWS, _NO_ROWS) for part in found]
        return list(zip(found, cut(slots, batch_size), cut(rows, batch_size), strict=True))

    def take(self, found: tuple[AnyArray, IntArray, IntArray]) -> Rows:
        """Copy the values of one batch."""
        places, slots, rows = found
        values = self.values.take(places)
        if not self._any_nulls:
            return Rows(values, None)
        with_nulls = self.has_nulls[slots]
        valid = np.ones(len(slots), np.bool_)
        valid[with_nulls] = self.valid.gather(slots[with_nulls], rows[with_nulls])
        return Rows(values, None if valid.all() else valid)


class TextColumn:
    """A column of text or bytes.

    Args:
        is_text: Which of the two.
    """

    def __init__(self, is_text: bool) -> None:
        self._is_text = is_text
        self._contents: list[memoryview] = []  # (slots,)
        self._valid: list[bytes | None] = []  # (slots,)
        self._any_nulls = False
        self._widths: IntArray = np.zeros(0, np.int64)  # (slots,), bytes of an offset
        self._offsets: dict[int, RowWindow] = {}  # by their width; a row is where a value begins, and where it ends

    def resize(self, num_slots: int) -> None:
        """Make room for slots up to a number."""
        new = num_slots - len(self._contents)
        self._contents += [_NOTHING] * new
        self._valid += [None] * new
        self._widths = np.concatenate([self._widths, np.zeros(new, np.int64)])
        for window in self._offsets.values():
            window.resize(num_slots)

    def bind(self, slot: int, encoding: Encoding, array: pa.Array) -> None:
        """Take note of where the rows of a slot lie, and of its nulls; they are kept alive until it is released."""
        pieces = encoding.pieces(array)
        if pieces is not None:
            self._contents[slot] = pieces.content
            width = self._widths[slot] = pieces.offsets.itemsize
            if width not in self._offsets:
                self._offsets[width] = RowWindow(np.dtype(f"i{width}"), (2,))
                self._offsets[width].resize(len(self._contents))
            self._offsets[width].place(slot, np.asarray(pieces.offsets))
        self._any_nulls = self._any_nulls or array.null_count > 0
        self._valid[slot] = validity(array) if array.null_count else None

    def release(self, slot: int) -> None:
        """Forget a slot."""
        self._contents[slot] = _NOTHING
        self._valid[slot] = None
        for window in self._offsets.values():
            window.release(slot)

    def find(self, slots: IntArray, rows: IntArray, batch_size: int) -> list[_Places]:
        """Find rows of slots that are bound, int64 of shape (n,) each; give what ``take`` takes, by batch."""
        starts, ends = self._offsets_of(slots, rows).T
        columns = (slots, rows, starts, ends)
        parts = zip(*(cut(column, batch_size) for column in columns), strict=True)
        return [cast(_Places, tuple(part.tolist() for part in of_batch)) for of_batch in parts]

    def _offsets_of(self, slots: IntArray, rows: IntArray) -> IntArray:
        """Give where values begin and end in their record batches, of shape (n, 2)."""
        if len(self._offsets) == 1:
            (window,) = self._offsets.values()
            return window.gather_from(slots, rows)
        places = np.empty((len(slots), 2), np.int64)
        widths = self._widths[slots]
        for width, window in self._offsets.items():
            own = widths == width
            places[own] = window.gather_from(slots[own], rows[own])
        return places

    def take(self, found: _Places) -> Texts:
        """View the values of one batch."""
        slots, rows, starts, ends = found
        contents, all_valid = self._contents, self._valid
        pieces: list[memoryview | None] = [
            contents[slot][start:end] for slot, start, end in zip(slots, starts, ends, strict=True)
        ]
        if self._any_nulls:
            for number, (slot, row) in enumerate(zip(slots, rows, strict=True)):
                if (valid := all_valid[slot]) is not None and not valid[row]:
                    pieces[number] = None
        return Texts(pieces, self._is_text, self._any_nulls)


def cut(array: AnyArray, batch_size: int) -> list[AnyArray]:
    """Cut what there is of samples into what there is of each batch; at least one."""
    return [array[start : start + batch_size] for start in range(0, max(len(array), 1), batch_size)]


def numbers(slots: IntArray, rows: IntArray, batch_size: int) -> list[Numbers]:
    """Give the slots and rows of each batch, as Python wants them."""
    return [
        (of_slots.tolist(), of_rows.tolist())
        for of_slots, of_rows in zip(cut(slots, batch_size), cut(rows, batch_size), strict=True)
    ]
