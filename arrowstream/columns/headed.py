"""Arrays of any dtype and shape: each row carries a header that says what it holds.

The bytes are those of mosaicml-streaming's ``ndarray``: a byte for the dtype, a byte ``(ndim << 2) | k`` with the width
of the dimensions (2**k bytes), the dimensions, the elements in row-major order. Added to it: scalars and empty arrays,
and dtypes whose codes end in 3.
"""

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.columns.arrays import BFLOAT16, as_ndarray, bfloat16_bits, bfloat16_dtype, is_bfloat16_tensor
from arrowstream.columns.buffers import AnyArray
from arrowstream.columns.describe import describe
from arrowstream.columns.encoding import RowReader
from arrowstream.columns.parsing import named
from arrowstream.columns.text import SLICE, BinaryEncoding, slices
from arrowstream.errors import EncodingError

_CODES = {
    "uint8": 8, "int8": 9, "bool": 11,
    "uint16": 16, "int16": 17, "float16": 18, BFLOAT16: 19,
    "uint32": 32, "int32": 33, "float32": 34,
    "uint64": 64, "int64": 65, "float64": 66, "complex64": 67,
    "complex128": 131,
}  # fmt: skip
_NAMES = {code: name for name, code in _CODES.items()}
_MAX_NDIM = 63
_WIDTHS = "BHIQ"  # of a dimension: 1 << k bytes


class HeadedArrayEncoding(BinaryEncoding):
    """Arrays of any dtype and shape, read as writable copies."""

    ragged = True

    def __init__(self) -> None:
        super().__init__("ndarray")

    def encode(self, value: Any) -> object:
        """Take an array or a tensor."""
        if is_bfloat16_tensor(value):
            array, name = bfloat16_bits(value), BFLOAT16
        else:
            array = as_ndarray(value)
            name = _name(array.dtype)
        if array.ndim > _MAX_NDIM:
            raise EncodingError(f"expected an array of at most {_MAX_NDIM} dimensions, got one of {array.ndim}")
        if name not in _CODES:
            raise EncodingError(f"expected an array of dtype {', '.join(_CODES)}, got {describe(array)}")
        content = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        return pack_header(name, array.shape) + content.tobytes()

    def _reader(self, array: pa.Array) -> RowReader:
        return RowReader(f"$unpack({SLICE})", {**slices(array), "unpack": named(unpack, self.name)})


@lru_cache(maxsize=64)
def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name  # which NumPy puts together anew each time


@lru_cache(maxsize=1024)
def pack_header(dtype_name: str, shape: tuple[int, ...]) -> bytes:
    """Write what stands before the elements of an array."""
    k = next(k for k in range(4) if max(shape, default=0) < 1 << (8 << k))
    return struct.pack(f"<BB{len(shape)}{_WIDTHS[k]}", _CODES[dtype_name], len(shape) << 2 | k, *shape)


@lru_cache(maxsize=1024)
def _unpack_header(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    name = _NAMES[header[0]]
    shape = struct.unpack_from(f"<{header[1] >> 2}{_WIDTHS[header[1] & 3]}", header, 2)
    return bfloat16_dtype() if name == BFLOAT16 else np.dtype(name), shape


def unpack(content: memoryview) -> AnyArray:
    """Read an array with its header, as a copy.

    Raises:
        EncodingError: The bytes are no such array.
    """
    try:
        form = content[1]
        start = 2 + (((form & 0xFC) >> 2) << (form & 3))
        dtype, shape = _unpack_header(content[:start].tobytes())
        elements = bytearray(content[start:])
        array: AnyArray = np.ndarray(shape, dtype, elements)
        if array.nbytes != len(elements):
            raise ValueError(f"{len(elements)} bytes of elements where shape {shape} has {array.nbytes}")
        return array
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise EncodingError(f"expected an array with its header, got {describe(content)}: {error}") from error
