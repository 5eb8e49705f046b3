"""What the columns of a batch look like to who asked for them: NumPy's form here, torch's in ``collate``."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from arrowstream.columns.describe import describe
from arrowstream.errors import EncodingError
from arrowstream.windows import RowWindow

AnyArray = npt.NDArray[Any]


class Ragged(NamedTuple):
    """Arrays of different lengths, laid end to end.

    Attributes:
        values: (total length, *what the shapes have in common).
        offsets: int64 of shape (n + 1,); array i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: Any
    offsets: Any


class Padded(NamedTuple):
    """Arrays of different shapes, filled up with zeros at the end of each dimension.

    Attributes:
        values: (n, *the largest length in each dimension).
        shapes: int64 of shape (n, ndim): what each array was.
    """

    values: Any
    shapes: Any


class Texts(NamedTuple):
    """Text or bytes, one piece a row, as they are stored.

    Attributes:
        pieces: Views of the shards, None for a null.
        is_text: Whether they are UTF-8, else bytes.
        has_nulls: Whether one may be None.
    """

    pieces: list[memoryview | None]
    is_text: bool
    has_nulls: bool

    def values(self) -> list[Any]:
        """Give each as an object of its own: str, bytes or None."""
        if not self.has_nulls:
            # There is a step a row, which the other branch would make half as long again.
            pieces = cast(list[memoryview], self.pieces)
            if self.is_text:
                return [piece.tobytes().decode() for piece in pieces]
            return [piece.tobytes() for piece in pieces]
        stored = [None if piece is None else piece.tobytes() for piece in self.pieces]
        return [None if piece is None else piece.decode() for piece in stored] if self.is_text else [*stored]


class BatchForm(ABC):
    """How to hand over the columns of a batch. Each method is told the column's name, for its errors."""

    def make_window(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> RowWindow:
        """Make what gathers the values of a column of one size."""
        return RowWindow(dtype, shape)

    @abstractmethod
    def rows(self, column: str, values: Any, valid: AnyArray | None) -> Any:
        """Hand over values of one size.

        Args:
            column: Its name.
            values: (n, *shape); what a window of this form gathered, which belongs to the batch.
            valid: Which are not null, bool of shape (n,); None: all.
        """

    @abstractmethod
    def objects(self, column: str, values: list[Any]) -> Any:
        """Hand over Python objects, None for a null."""

    def texts(self, column: str, texts: Texts) -> Any:
        """Hand over text or bytes."""
        return self.objects(column, texts.values())

    @abstractmethod
    def array(self, values: AnyArray) -> Any:
        """Hand over one array, which belongs to the batch."""


class NumpyForm(BatchForm):
    """Arrays; masked ones where there are nulls, arrays of objects where values are no numbers."""

    def rows(self, column: str, values: Any, valid: AnyArray | None) -> Any:
        """Hand over the array, with a mask if there are nulls."""
        del column
        if valid is None:
            return values
        mask = np.broadcast_to(~valid.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
        return np.ma.MaskedArray(values, mask.copy())

    def objects(self, column: str, values: list[Any]) -> Any:
        """Make an array of objects, of shape (n,)."""
        del column
        return np.fromiter(values, np.dtype(object), len(values))

    def array(self, values: AnyArray) -> Any:
        """Hand it over as it is."""
        return values


NUMPY_FORM = NumpyForm()


def lay_end_to_end(column: str, arrays: Sequence[AnyArray | None]) -> Ragged:
    """Join arrays along their first dimension, and say where each begins.

    Raises:
        EncodingError: An array is missing, has no dimension, or differs in more than its length.
    """
    present = _all_present(column, arrays)
    if any(array.shape[1:] != present[0].shape[1:] or not array.ndim for array in present):
        shapes = sorted({array.shape for array in present}, key=str)
        raise EncodingError(
            f"column {column!r}: arrays of the shapes {', '.join(map(str, shapes[:5]))} cannot be laid end to end; "
            f"pass ragged='pad'"
        )
    offsets = np.zeros(len(present) + 1, np.int64)
    np.cumsum([len(array) for array in present], out=offsets[1:])
    return Ragged(np.concatenate(present), offsets)


def pad(column: str, arrays: Sequence[AnyArray | None]) -> Padded:
    """Fill arrays up with zeros to the largest of them.

    Raises:
        EncodingError: An array is missing, or they differ in their number of dimensions or in their dtype.
    """
    present = _all_present(column, arrays)
    ndims = {array.ndim for array in present}
    if len(ndims) > 1:
        raise EncodingError(f"column {column!r}: arrays of {sorted(ndims)} dimensions cannot be padded to one shape")
    shapes = np.array([array.shape for array in present], np.int64).reshape(len(present), -1)  # (n, ndim)
    values = np.zeros((len(present), *shapes.max(axis=0)), present[0].dtype)
    for row, array in zip(values, present, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return Padded(values, shapes)


def _all_present(column: str, arrays: Sequence[AnyArray | None]) -> list[AnyArray]:
    present = [array for array in arrays if array is not None]
    if len(present) < len(arrays):
        raise EncodingError(
            f"column {column!r}: {len(arrays) - len(present)} of {len(arrays)} arrays are null, which ragged= has no "
            f"form for; leave the column out with columns=, or read it with as_='arrow'"
        )
    dtypes = {array.dtype for array in present}
    if len(dtypes) > 1:
        raise EncodingError(f"column {column!r}: expected arrays of one dtype, got {', '.join(map(describe, dtypes))}")
    return present
