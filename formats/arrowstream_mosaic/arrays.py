"""Arrays whose shape, and perhaps dtype, stands before their elements.

The header is a byte for the dtype (only where the column has none of its own), a byte ``(ndim << 2) | k``, and the
dimensions, 2**k bytes each. Rows with the same second byte are taken together: there are few of those, and many rows.
"""

import numpy as np
import pyarrow as pa

from arrowstream.columns import Encoding
from arrowstream_mosaic.cells import AnyArray, BadValueError, Cells, IntArray, ends_of, narrow, refuse
from arrowstream_mosaic.layout import DTYPES

_WORDS = ("<u1", "<u2", "<u4", "<u8")
_MAX_DIM = np.iinfo(np.int32).max
_ITEM_BYTES = np.zeros(256, np.int64)
_ITEM_BYTES[list(DTYPES)] = [np.dtype(name).itemsize for name in DTYPES.values()]


def check_headed(cells: Cells, *, is_new: bool = False) -> None:
    """Check arrays with dtype and shape in front.

    Args:
        cells: The arrays.
        is_new: Whether mosaicml-streaming has to be willing to write them: it takes no scalars and no empty arrays.

    Raises:
        BadValueError: One has a dtype that mosaicml-streaming does not have, or other elements than its shape.
    """
    codes = cells.head(1).reshape(len(cells))
    item_bytes = _ITEM_BYTES[codes]
    refuse(item_bytes == 0, f"is an array of another dtype than {', '.join(DTYPES.values())}")
    num_dims, _, data = _shapes(cells.behind(1), item_bytes)
    if is_new:
        refuse((num_dims == 0) | (data.sizes == 0), "is a scalar or an empty array; mosaicml-streaming takes neither")


def shaped_array(cells: Cells, encoding: Encoding) -> pa.Array:
    """Turn arrays with their shape in front into the struct of data and shape that the encoding stores.

    Raises:
        BadValueError: One has other elements than its shape.
    """
    data_type = encoding.arrow_type.field("data").type
    item_bytes = np.full(len(cells), data_type.value_type.bit_width // 8, np.int64)
    num_dims, dims, data = _shapes(cells, item_bytes)
    refuse_row = np.repeat(np.arange(len(cells)), num_dims)[dims > _MAX_DIM]
    if len(refuse_row):
        raise BadValueError(int(refuse_row[0]), f"has a dimension beyond {_MAX_DIM}")
    counts = ends_of(data.sizes // item_bytes)
    elements = pa.Array.from_buffers(data_type.value_type, int(counts[-1]), [None, pa.py_buffer(data.joined())])
    shape_type = encoding.arrow_type.field("shape").type
    sizes = pa.array(dims.astype(np.int32))
    children = [
        pa.Array.from_buffers(data_type, len(cells), [None, narrow(counts)], children=[elements]),
        pa.Array.from_buffers(shape_type, len(cells), [None, narrow(ends_of(num_dims))], children=[sizes]),
    ]
    return pa.Array.from_buffers(encoding.arrow_type, len(cells), [None], children=children)


def _shapes(cells: Cells, item_bytes: IntArray) -> tuple[IntArray, AnyArray, Cells]:
    """Read the shapes of arrays, and hold the number of bytes behind each to it.

    Returns:
        Number of dimensions, (rows,); the dimensions of all rows end to end, uint64; where the elements lie.
    """
    forms = cells.head(1).reshape(len(cells)).astype(np.int64)
    num_dims = forms >> 2
    header_bytes = 1 + (num_dims << (forms & 3))
    data = cells.behind(header_bytes)
    first = ends_of(num_dims)
    dims = np.zeros(int(first[-1]), np.uint64)
    # In floating point, which is exact below 2**53 (a file has 2**32 bytes) and does not wrap above.
    num_bytes = item_bytes.astype(np.float64)
    for form in np.unique(forms).tolist():
        rows = np.flatnonzero(forms == form)
        ndim, k = form >> 2, form & 3
        head = cells.of(rows).head(1 + (ndim << k))[:, 1:]
        of_rows = np.ascontiguousarray(head).view(_WORDS[k]).reshape(len(rows), ndim)
        dims[first[rows][:, None] + np.arange(ndim)] = of_rows
        num_bytes[rows] *= of_rows.astype(np.float64).prod(axis=1)
    refuse(num_bytes != data.sizes, "is an array of another number of elements than its shape")
    return num_dims, dims, data
