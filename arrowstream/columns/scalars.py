"""Numbers and booleans: what Arrow stores is what NumPy and Python read, without a conversion."""

from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.columns.buffers import AnyArray, bitmap, fixed_width, unpacked
from arrowstream.columns.describe import describe
from arrowstream.columns.encoding import Encoding, RowReader
from arrowstream.errors import EncodingError

INTEGER_NAMES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOAT_NAMES = ("float16", "float32", "float64")


class IntegerEncoding(Encoding):
    """Integers of one width; ``int`` is int64 that reads as Python's int, the others read as NumPy scalars."""

    def __init__(self, name: str) -> None:
        self._dtype: np.dtype[Any] = np.dtype("int64" if name == "int" else name)
        limits = np.iinfo(self._dtype)
        self._low = int(limits.min)
        self._high = int(limits.max)
        super().__init__(name, pa.from_numpy_dtype(self._dtype))

    def encode(self, value: Any) -> object:
        """Take an int or a NumPy integer within the range, no bool and no float."""
        if type(value) is int and self._low <= value <= self._high:
            return value
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            number = int(value)
            if self._low <= number <= self._high:
                return number
        raise EncodingError(f"expected {self._expected()}, got {describe(value)}")

    def rows(self, array: pa.Array) -> AnyArray:
        """View the integers."""
        return fixed_width(array, self._dtype)

    def _reader(self, array: pa.Array) -> RowReader:
        values = self.rows(array)
        return RowReader("$v[r]", {"v": values.data if self.name == "int" else values})

    def _takes(self, arrow_type: pa.DataType) -> bool:
        return bool(pa.types.is_integer(arrow_type))

    def _from_numpy(self, values: AnyArray) -> pa.Array:
        if values.dtype.kind not in "iu" or values.ndim != 1:
            raise EncodingError(f"expected a column of {self._dtype}, got {describe(values)}")
        if not np.can_cast(values.dtype, self._dtype) and len(values):
            low, high = int(values.min()), int(values.max())
            if low < self._low or high > self._high:
                row = int(values.argmin() if low < self._low else values.argmax())
                raise EncodingError(f"row {row}: expected {self._expected()}, got {describe(values[row])}")
        return pa.array(values.astype(self._dtype))

    def _expected(self) -> str:
        return f"an integer from {self._low} to {self._high}"


class FloatEncoding(Encoding):
    """Floating-point numbers of one width; rounding is allowed, overflow is not.

    ``float`` is float64 that reads as Python's float, the others read as NumPy scalars.
    """

    def __init__(self, name: str) -> None:
        self._dtype: np.dtype[Any] = np.dtype("float64" if name == "float" else name)
        self._high = float(np.finfo(self._dtype).max)
        super().__init__(name, pa.from_numpy_dtype(self._dtype))

    def encode(self, value: Any) -> object:
        """Take a float or an integer, of Python or NumPy; infinities and NaN are kept."""
        if type(value) is float and -self._high <= value <= self._high:
            return value
        if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                raise EncodingError(f"expected {self._expected()}, got {describe(value)}") from None
            if not self._overflows(np.float64(number)):
                return number
        raise EncodingError(f"expected {self._expected()}, got {describe(value)}")

    def to_arrow(self, values: list[Any]) -> pa.Array:
        """Build the column, rounding each number to the nearest."""
        if self.name != "float16":
            return pa.array(values, self.arrow_type)
        # Older releases of pyarrow build float16 from NumPy alone.
        numbers = np.array([0.0 if value is None else value for value in values], self._dtype)
        return pa.Array.from_buffers(self.arrow_type, len(values), [bitmap(values), pa.py_buffer(numbers.tobytes())])

    def rows(self, array: pa.Array) -> AnyArray:
        """View the numbers."""
        return fixed_width(array, self._dtype)

    def _reader(self, array: pa.Array) -> RowReader:
        values = self.rows(array)
        return RowReader("$v[r]", {"v": values.data if self.name == "float" else values})

    def _takes(self, arrow_type: pa.DataType) -> bool:
        return bool(
            pa.types.is_floating(arrow_type) or pa.types.is_integer(arrow_type) or pa.types.is_decimal(arrow_type)
        )

    def _from_arrow(self, array: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        column = super()._from_arrow(array)
        too_large = np.isinf(column.to_numpy(zero_copy_only=False)) if column is not array else np.False_
        if too_large.any() and pa.types.is_floating(array.type):
            too_large &= ~np.isinf(array.to_numpy(zero_copy_only=False))
        if too_large.any():
            row = int(too_large.argmax())
            raise EncodingError(f"row {row}: expected {self._expected()}, got {describe(array[row].as_py())}")
        return column

    def _from_numpy(self, values: AnyArray) -> pa.Array:
        if values.dtype.kind not in "iuf" or values.ndim != 1:
            raise EncodingError(f"expected a column of {self._dtype}, got {describe(values)}")
        if not np.can_cast(values.dtype, self._dtype):
            too_large = self._overflows(values)
            if too_large.any():
                row = int(too_large.argmax())
                raise EncodingError(f"row {row}: expected {self._expected()}, got {describe(values[row])}")
        return pa.array(values.astype(self._dtype))

    def _overflows(self, numbers: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.isinf(numbers.astype(self._dtype)) & ~np.isinf(numbers)

    def _expected(self) -> str:
        return f"a number within the range of {self._dtype}"


class BoolEncoding(Encoding):
    """True and False, packed into bits, read as Python's bool."""

    def __init__(self) -> None:
        super().__init__("bool", pa.bool_())

    def encode(self, value: Any) -> object:
        """Take a bool, of Python or NumPy."""
        if value is True or value is False:
            return value
        if isinstance(value, np.bool_):
            return bool(value)
        raise EncodingError(f"expected a bool, got {describe(value)}")

    def rows(self, array: pa.Array) -> AnyArray:
        """Spell out the bits, a byte each: no view, but an eighth of what its rows would take as Python objects."""
        flags = unpacked(array.buffers()[1], array.offset, len(array)) if len(array) else b""
        return np.frombuffer(flags, np.bool_)

    def _reader(self, array: pa.Array) -> RowReader:
        return RowReader("$v[r]", {"v": self.rows(array).data})

    def _from_numpy(self, values: AnyArray) -> pa.Array:
        if values.dtype != np.bool_ or values.ndim != 1:
            raise EncodingError(f"expected a column of bools, got {describe(values)}")
        return pa.array(values)  # packs, and so copies
