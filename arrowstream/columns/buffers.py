"""The buffers of an Arrow array as what Python indexes fastest: memoryviews and NumPy views.

Arrow slices share the buffers of the array they were cut from and remember an offset, and an empty array may have no
buffers at all; both are settled here and nowhere else.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from arrowstream.errors import EncodingError

AnyArray = npt.NDArray[Any]

_WIDE = (pa.types.is_large_string, pa.types.is_large_binary, pa.types.is_large_list)


def fixed_width(array: pa.Array, dtype: np.dtype[Any]) -> AnyArray:
    """View the values of a primitive array, (n,), read-only; what stands under a null is undefined."""
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, count=len(array), offset=array.offset * dtype.itemsize)


def unpacked(bits: pa.Buffer, start: int, length: int) -> bytes:
    """Spell out a bitmap, one byte a bit."""
    first, skipped = divmod(start, 8)
    packed = np.frombuffer(bits, np.uint8, count=(skipped + length + 7) // 8, offset=first)
    return np.unpackbits(packed, bitorder="little")[skipped : skipped + length].tobytes()


def validity(array: pa.Array) -> bytes:
    """Tell which rows of an array with nulls hold a value: 1, or 0 for a null."""
    return unpacked(array.buffers()[0], array.offset, len(array))


def offsets(array: pa.Array) -> memoryview:
    """View the n + 1 offsets of an array of strings, bytes or lists; they count from the start of its child."""
    if not len(array):
        return np.zeros(1, np.int32).data
    dtype = np.dtype(np.int64 if any(is_wide(array.type) for is_wide in _WIDE) else np.int32)
    start = array.offset * dtype.itemsize
    return np.frombuffer(array.buffers()[1], dtype, count=len(array) + 1, offset=start).data


def payload(array: pa.Array) -> memoryview:
    """View the bytes that the offsets of an array of strings or bytes point into."""
    content = array.buffers()[2]
    return memoryview(b"" if content is None else content)


def bitmap(values: Sequence[object]) -> pa.Buffer | None:
    """Pack which of the values are not None; None when all are."""
    if None not in values:
        return None
    valid = np.fromiter((value is not None for value in values), np.bool_, len(values))
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def list_offsets(lengths: Sequence[int]) -> pa.Buffer:
    """Turn the lengths of n lists into their n + 1 offsets.

    Raises:
        EncodingError: The lists hold 2**31 values or more.
    """
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    if ends[-1] > np.iinfo(np.int32).max:
        raise EncodingError(f"{ends[-1]} values do not fit into one list array; pass fewer rows at a time")
    return pa.py_buffer(ends.astype(np.int32))
