"""Any type of Arrow as it is: temporal, decimal, dictionary, nested, or of an extension."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.columns.buffers import AnyArray
from arrowstream.columns.describe import describe
from arrowstream.columns.encoding import Encoding, Pieces, RowReader, single_array
from arrowstream.columns.nested import is_list
from arrowstream.columns.temporal import reads_as_datetime, temporal_reader
from arrowstream.errors import EncodingError

_REFUSALS = (pa.ArrowException, TypeError, ValueError, OverflowError)


class ArrowEncoding(Encoding):
    """A type of Arrow, named by itself; the field carries no metadata.

    Types that an encoding of ours stores (int64, string, …) are checked and read as that encoding does it, everything
    else as Arrow does it, with ``as_py``.
    """

    def __init__(self, arrow_type: pa.DataType, native: Encoding | None) -> None:
        super().__init__(str(arrow_type), arrow_type)
        self._native = native
        # Strings and bytes of a variant with other offsets than the encoding of ours has.
        self._large = native is not None and arrow_type != native.arrow_type and not _is_extension(arrow_type)

    def field(self, column: str) -> pa.Field:
        """Describe a column, nullable; its type says it all."""
        return pa.field(column, self.arrow_type)

    def encode(self, value: Any) -> object:
        """Take what Arrow converts to the type without loss."""
        if self._native is not None:
            return self._native.encode(value)
        try:
            _refuse_truncation(value, self.arrow_type)
            # An array of one row, and not a scalar: quicker to build and to join, and there are types without scalars.
            return pa.array([value], self.arrow_type)
        except _REFUSALS as error:
            raise EncodingError(f"expected a value of {self.arrow_type}, got {describe(value)}: {error}") from error

    def to_arrow(self, values: list[Any]) -> pa.Array:
        """Join the rows."""
        if self._native is not None:
            return self._retyped(self._native.to_arrow(values)) if not self._large else super().to_arrow(values)
        missing = pa.nulls(1, self.arrow_type)
        rows = [missing if value is None else value for value in values]
        try:
            return pa.concat_arrays(rows) if rows else missing[:0]
        except pa.ArrowInvalid as error:
            raise EncodingError(f"{len(rows)} rows do not fit into one {self.name} array: {error}") from error

    def reader(self, array: pa.Array) -> RowReader:
        """Prepare to read rows; Arrow itself tells which are null, where no encoding of ours reads the type."""
        if self._native is not None:
            return self._native.reader(array)
        return super().reader(array) if reads_as_datetime(array.type) else self._reader(array)

    def rows(self, array: pa.Array) -> AnyArray | None:
        """View what an encoding of ours views."""
        return self._native.rows(array) if self._native is not None else None

    def pieces(self, array: pa.Array) -> Pieces | None:
        """View what an encoding of ours views."""
        return self._native.pieces(array) if self._native is not None else None

    def _reader(self, array: pa.Array) -> RowReader:
        return temporal_reader(array) if reads_as_datetime(array.type) else RowReader("$v[r].as_py()", {"v": array})

    def _takes(self, arrow_type: pa.DataType) -> bool:
        return self._native is None or self._native.fits(arrow_type)

    def _from_arrow(self, array: pa.Array) -> pa.Array:
        if self._native is not None and not self._large:
            return self._retyped(self._native.column(array))
        if pa.types.is_dictionary(self.arrow_type) and array.type != self.arrow_type:
            try:
                return array.cast(self.arrow_type)
            except _REFUSALS as error:
                raise EncodingError(f"expected a column of {self.name}, got one of {array.type}: {error}") from error
        return super()._from_arrow(array)

    def _from_numpy(self, values: AnyArray) -> pa.Array:
        if self._native is not None:
            return self._retyped(self._native.column(values))
        return self._from_values(values)

    def _from_values(self, values: Iterable[Any]) -> pa.Array:
        rows = list(values)
        if self._native is None:
            # All at once, and one by one only to find out which row is the wrong one.
            with suppress(*_REFUSALS):
                for row in rows:
                    _refuse_truncation(row, self.arrow_type)
                return single_array(pa.array(rows, self.arrow_type))
        return super()._from_values(rows)

    def _retyped(self, array: pa.Array) -> pa.Array:
        if _is_extension(self.arrow_type):
            return pa.ExtensionArray.from_storage(self.arrow_type, array.storage)
        return array.cast(self.arrow_type)


def _is_extension(arrow_type: pa.DataType) -> bool:
    return isinstance(arrow_type, pa.BaseExtensionType)


def _refuse_truncation(value: Any, arrow_type: pa.DataType) -> None:
    """Refuse fractions where nested integers are expected: Arrow cuts them off without a word.

    Raises:
        ValueError: There is one.
    """
    if pa.types.is_integer(arrow_type):
        if isinstance(value, float | np.floating):
            raise ValueError(f"{value!r} is no integer")
    elif pa.types.is_struct(arrow_type):
        if isinstance(value, dict):
            for field in arrow_type:
                _refuse_truncation(value.get(field.name), field.type)
    elif is_list(arrow_type):
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            return
        if isinstance(value, list | tuple | np.ndarray):
            for item in value:
                _refuse_truncation(item, arrow_type.value_type)
