"""From record batches to rows, many at a time: the inverse of ``cells`` and ``values``.

Every column becomes one or more binary arrays, the pieces of its values. Taken in the order of rows from all of them
laid end to end, they are the bytes of the file.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from arrowstream.columns import Encoding, encoding_of
from arrowstream.errors import EncodingError
from arrowstream_mosaic.arrays import check_headed
from arrowstream_mosaic.cells import BadValueError, Cells, IntArray, ends_of, row_ends

Pieces = list[pa.Array]


class Rows:
    """The rows of a record batch as mosaicml-streaming lays them out.

    Args:
        batch: With encodings that mosaicml-streaming has.
        sizes: By column name, in the order in which the values lie in a row, the bytes of each value; None: they vary.
        first_row: Number that errors call the first row by.

    Attributes:
        sizes: Bytes of each row, int64 of shape (rows,).

    Raises:
        EncodingError: It holds a missing value, or an array that mosaicml-streaming does not take.
    """

    def __init__(self, batch: pa.RecordBatch, sizes: Mapping[str, int | None], first_row: int = 0) -> None:
        self._num_rows = batch.num_rows
        self._pieces: Pieces = []
        varying: list[IntArray] = []
        self.sizes: IntArray = np.zeros(batch.num_rows, np.int64)
        for name, size in sizes.items():
            field = batch.schema.field(name)
            pieces = _pieces_of(batch.column(name), encoding_of(field), name, size, first_row)
            num_bytes = sum((np.diff(row_ends(piece)) for piece in pieces), np.zeros(batch.num_rows, np.int64))
            if size is None:
                varying.append(num_bytes)
            self._pieces += pieces
            self.sizes += num_bytes
        head = np.stack(varying, axis=1).astype("<u4") if varying else np.empty((batch.num_rows, 0), "<u4")
        self._pieces.insert(0, _of_width(pa.py_buffer(head.tobytes()), batch.num_rows, head.shape[1] * 4))
        self.sizes += head.shape[1] * 4

    def joined(self) -> pa.Buffer:
        """Give the bytes of all rows, end to end."""
        if not self._num_rows:
            return pa.py_buffer(b"")
        by_column = np.arange(len(self._pieces) * self._num_rows).reshape(len(self._pieces), self._num_rows)
        rows = pa.concat_arrays(self._pieces).take(pa.array(by_column.T.ravel()))
        ends = row_ends(rows)
        return rows.buffers()[2].slice(int(ends[0]), int(ends[-1] - ends[0]))


def _pieces_of(array: pa.Array, encoding: Encoding, name: str, size: int | None, first_row: int) -> Pieces:
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise EncodingError(
            f"column {name!r}, row {first_row + row}: is None; mosaicml-streaming holds no missing values"
        )
    try:
        if size is not None:
            return [_of_width(_fixed(array, size), len(array), size)]
        shaped = encoding.name.startswith("ndarray:")
        return _shaped(array) if shaped else _ENCODERS.get(encoding.name, _binary)(array)
    except BadValueError as error:
        raise EncodingError(f"column {name!r}, row {first_row + error.row}: {error.reason}") from error


def _of_width(values: pa.Buffer, num_rows: int, width: int) -> pa.Array:
    return _binary_array(np.arange(num_rows + 1, dtype=np.int64) * width, values)


def _binary_array(ends: IntArray, values: pa.Buffer) -> pa.Array:
    return pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, [None, pa.py_buffer(ends), values])


def _fixed(array: pa.Array, size: int) -> pa.Buffer:
    """View the values of a column of numbers or of tensors of one shape."""
    if not len(array):
        return pa.py_buffer(b"")
    storage = array.storage if isinstance(array.type, pa.BaseExtensionType) else array
    if not pa.types.is_fixed_size_list(storage.type):
        return storage.buffers()[1].slice(storage.offset * size, len(storage) * size)
    items = storage.values
    start = storage.offset * size + items.offset * (items.type.bit_width // 8)
    return items.buffers()[1].slice(start, len(storage) * size)


def _binary(array: pa.Array) -> Pieces:
    if not len(array):
        return [pa.array([], pa.large_binary())]
    return [_binary_array(row_ends(array), array.buffers()[2] or pa.py_buffer(b""))]


def _headed(array: pa.Array) -> Pieces:
    [pieces] = _binary(array)
    if len(pieces):
        ends = row_ends(pieces)
        check_headed(Cells(pieces.buffers()[2], ends[:-1], ends[1:]), is_new=True)
    return [pieces]


def _shaped(array: pa.Array) -> Pieces:
    """Write each shape in the narrowest words that hold its dimensions, and the elements behind it."""
    data, shape = array.field("data"), array.field("shape")
    item_bytes = data.type.value_type.bit_width // 8
    first = row_ends(shape)
    dims = shape.values.to_numpy()
    num_dims = np.diff(first)
    least, largest = (_reduced(function, dims, first) for function in (np.minimum, np.maximum))
    if ((num_dims == 0) | (least < 1)).any():
        row = int(((num_dims == 0) | (least < 1)).argmax())
        raise BadValueError(row, "is a scalar or an empty array; mosaicml-streaming takes neither")
    k = (largest >= 1 << 8).astype(np.int64) + (largest >= 1 << 16)
    forms = num_dims << 2 | k
    starts = ends_of(1 + (num_dims << k))
    head = np.empty(int(starts[-1]), np.uint8)
    head[starts[:-1]] = forms
    for form in np.unique(forms).tolist():
        rows = np.flatnonzero(forms == form)
        width = 1 << (form & 3)
        of_rows = dims[first[rows][:, None] + np.arange(form >> 2)].astype(f"<u{width}")  # (rows of this form, ndim)
        places = starts[rows][:, None] + 1 + np.arange((form >> 2) * width)
        head[places] = np.ascontiguousarray(of_rows).view(np.uint8).reshape(len(rows), -1)
    elements = data.values
    ends = (row_ends(data) + elements.offset) * item_bytes
    return [_binary_array(starts, pa.py_buffer(head)), _binary_array(ends, elements.buffers()[1])]


def _reduced(function: np.ufunc, values: IntArray, first: IntArray) -> IntArray:
    """Reduce the values of each row, 0 where there are none."""
    reduced = np.zeros(len(first) - 1, np.int64)
    filled = np.flatnonzero(np.diff(first))
    if len(filled):
        reduced[filled] = function.reduceat(values[: first[-1]], first[filled])
    return reduced


def _image_list(reserved_words: int) -> Callable[[pa.Array], Pieces]:
    def pieces(array: pa.Array) -> Pieces:
        if not len(array):
            return [pa.array([], pa.large_binary())]
        first, ends = row_ends(array), row_ends(array.values)
        counts = np.diff(first)
        starts = ends_of(reserved_words + 1 + counts)
        words = np.zeros(int(starts[-1]), "<u4")
        is_size = np.ones(len(words), np.bool_)
        for place in range(reserved_words + 1):
            is_size[starts[:-1] + place] = False
        words[starts[:-1] + reserved_words] = counts
        words[is_size] = np.diff(ends)[first[0] : first[-1]]
        head = _binary_array(starts * 4, pa.py_buffer(words))
        return [head, _binary_array(ends[first], array.values.buffers()[2] or pa.py_buffer(b""))]

    return pieces


_ENCODERS: Mapping[str, Callable[[pa.Array], Pieces]] = MappingProxyType(
    {
        "ndarray": _headed,
        "jpegarray": _image_list(reserved_words=0),
        **dict.fromkeys(("list[jpeg]", "list[png]", "list[pil]"), _image_list(reserved_words=1)),
    }
)
