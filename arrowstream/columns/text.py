"""Text, the numbers that are written out as text, and bytes."""

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.columns.arrow_types import is_bytes, is_text
from arrowstream.columns.buffers import offsets, payload
from arrowstream.columns.describe import describe
from arrowstream.columns.encoding import Encoding, Pieces, RowReader, single_array
from arrowstream.columns.parsing import named
from arrowstream.errors import EncodingError

SLICE = "$data[$offset[r]:$offset[r + 1]]"
TEXT = f"{SLICE}.tobytes().decode()"  # a fifth faster than str(…, 'utf-8') for short text, even for long text


def payload_of(array: pa.Array) -> tuple[memoryview, memoryview]:
    """View the content of an array of strings or bytes, large, view or neither, and its offsets."""
    if pa.types.is_string_view(array.type):
        array = single_array(array.cast(pa.large_string()))
    elif pa.types.is_binary_view(array.type):
        array = single_array(array.cast(pa.large_binary()))
    return payload(array), offsets(array)


def slices(array: pa.Array) -> dict[str, object]:
    """Bind the names in ``SLICE``."""
    return dict(zip(("data", "offset"), payload_of(array), strict=True))


class StrEncoding(Encoding):
    """Text that is valid UTF-8."""

    def __init__(self, name: str = "str") -> None:
        super().__init__(name, pa.string())

    def encode(self, value: Any) -> object:
        """Take a str without lone surrogates."""
        if type(value) is str and value.isascii():
            return value
        if not isinstance(value, str):
            raise EncodingError(f"expected a str, got {describe(value)}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise EncodingError(
                f"expected text that UTF-8 can hold, got {describe(value)} with the lone surrogate "
                f"{value[error.start]!r} at position {error.start}; decode with errors='replace'"
            ) from error
        return str(value)

    def pieces(self, array: pa.Array) -> Pieces:
        """Tell where the texts lie."""
        return Pieces(*payload_of(array), is_text=True)

    def _reader(self, array: pa.Array) -> RowReader:
        return RowReader(TEXT, slices(array))


class BinaryEncoding(Encoding):
    """What is stored as bytes, whatever they mean."""

    def __init__(self, name: str) -> None:
        super().__init__(name, pa.binary())

    def _takes(self, arrow_type: pa.DataType) -> bool:
        return is_bytes(arrow_type) or bool(pa.types.is_fixed_size_binary(arrow_type))


class BytesEncoding(BinaryEncoding):
    """Bytes as they are."""

    def __init__(self) -> None:
        super().__init__("bytes")

    def encode(self, value: Any) -> object:
        """Take bytes, a bytearray or a memoryview."""
        if type(value) is bytes:
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise EncodingError(f"expected bytes, got {describe(value)}")

    def pieces(self, array: pa.Array) -> Pieces:
        """Tell where the values lie."""
        return Pieces(*payload_of(array), is_text=False)

    def _reader(self, array: pa.Array) -> RowReader:
        return RowReader(f"{SLICE}.tobytes()", slices(array))


class NumberTextEncoding(Encoding):
    """Numbers of any size, written out in decimal: ``str_int``, ``str_float`` and ``str_decimal``."""

    def __init__(self, name: str) -> None:
        self._number: Callable[[Any], Any]
        self._number, self._types = {
            "str_int": (int, (int, np.integer)),
            "str_float": (float, (float, int, np.floating, np.integer)),
            "str_decimal": (Decimal, (Decimal,)),
        }[name]
        super().__init__(name, pa.string())

    def encode(self, value: Any) -> object:
        """Take a number of Python or NumPy of this kind; str_float also takes integers."""
        if isinstance(value, self._types) and not isinstance(value, bool):
            try:
                return str(self._number(value))
            except (OverflowError, ValueError) as error:
                raise EncodingError(
                    f"expected a number that can be written out, got {type(value).__name__}: {error}"
                ) from error
        raise EncodingError(f"expected {self._number.__name__}, got {describe(value)}")

    def _reader(self, array: pa.Array) -> RowReader:
        return RowReader(f"$number({TEXT})", {**slices(array), "number": named(self._number, self.name)})

    def _from_arrow(self, array: pa.Array) -> pa.Array:
        if is_text(array.type):
            return self._from_values(self._parsed(array.to_pylist()))
        return self._from_values(array.to_pylist())

    def _parsed(self, texts: Iterable[str | None]) -> Iterable[Any]:
        for text in texts:
            try:
                yield None if text is None else self._number(text)
            except (ValueError, InvalidOperation) as error:
                raise EncodingError(f"expected {self._number.__name__} as text, got {describe(text)}") from error
