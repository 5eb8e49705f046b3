"""Arrays of one dtype: of one shape (``ndarray:float32:3,4``) or of any (``ndarray:float32``)."""

from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.columns.arrays import BFLOAT16, Element
from arrowstream.columns.bfloat16 import BFloat16Type
from arrowstream.columns.buffers import AnyArray, bitmap, fixed_width, list_offsets, offsets
from arrowstream.columns.describe import describe
from arrowstream.columns.encoding import Encoding, RowReader
from arrowstream.columns.nested import dense_rows, elements, is_list
from arrowstream.errors import EncodingError


class FixedArrayEncoding(Encoding):
    """Arrays of one dtype and one shape: a tensor column that Arrow tools know, read as writable copies."""

    def __init__(self, element: Element, shape: tuple[int, ...]) -> None:
        self._element = element
        self._dtype = np.dtype(element.name) if element.name != BFLOAT16 else None
        self._shape = shape
        self._size = prod(shape)
        bfloat16 = element.name == BFLOAT16
        arrow_type = BFloat16Type(shape) if bfloat16 else pa.fixed_shape_tensor(element.arrow_type, shape)
        super().__init__(f"ndarray:{element.name}:{','.join(map(str, shape))}", arrow_type)

    def fits(self, arrow_type: pa.DataType) -> bool:
        """Tell whether a type has the shape in row-major order; it may name its dimensions."""
        if not isinstance(arrow_type, pa.FixedShapeTensorType) or self._element.name == BFLOAT16:
            return bool(arrow_type == self.arrow_type)
        same_shape = tuple(arrow_type.shape) == self._shape and arrow_type.value_type == self._element.arrow_type
        return same_shape and not is_permuted(arrow_type)

    def encode(self, value: Any) -> object:
        """Take an array or a tensor of exactly this dtype and shape."""
        if type(value) is np.ndarray and value.dtype is self._dtype and value.shape == self._shape:
            return value.tobytes()
        array = self._element.stored_array(value)
        if array.shape != self._shape:
            raise EncodingError(f"expected an array of shape {self._shape}, got {describe(value)}")
        return array.tobytes()

    def to_arrow(self, values: list[Any]) -> pa.Array:
        """Lay the arrays end to end, zeros for a missing one."""
        filler = bytes(self._size * self._element.stored.itemsize)
        content = b"".join([filler if value is None else value for value in values])
        return self._array(len(values), pa.py_buffer(content), bitmap(values))

    def rows(self, array: pa.Array) -> AnyArray:
        """View the arrays, (rows, *shape)."""
        storage = array.storage if isinstance(array.type, pa.BaseExtensionType) else array
        start, stop = storage.offset * self._size, (storage.offset + len(storage)) * self._size
        values = fixed_width(storage.values, self._element.stored)[start:stop].view(self._element.dtype)
        return values.reshape(len(storage), *self._shape)

    def _reader(self, array: pa.Array) -> RowReader:
        return RowReader("$v[r].copy()", {"v": self.rows(array)})

    def _from_arrow(self, array: pa.Array) -> pa.Array:
        arrow_type = array.type
        if arrow_type == self.arrow_type:
            return array
        if pa.types.is_null(arrow_type):
            return array.cast(self.arrow_type.storage_type).cast(self.arrow_type)
        if self.fits(arrow_type):
            array = array.storage
        elif not is_list(arrow_type):
            raise EncodingError(f"expected a column of {self.name}, got one of {arrow_type}")
        present = dense_rows(array, self._element, self._shape)  # (rows that are not null, *shape)
        if not array.null_count:
            return self._array(len(array), pa.py_buffer(present.tobytes()), None)
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        rows = np.zeros((len(array), *self._shape), self._element.stored)
        rows[valid] = present
        return self._array(len(array), pa.py_buffer(rows), pa.py_buffer(np.packbits(valid, bitorder="little")))

    def _from_numpy(self, values: AnyArray) -> pa.Array:
        if values.shape[1:] != self._shape:
            raise EncodingError(f"expected rows of shape {self._shape}, got {describe(values)}")
        content = self._element.stored_array(values).tobytes()  # a copy: the caller's array may change
        return self._array(len(values), pa.py_buffer(content), None)

    def _array(self, num_rows: int, content: pa.Buffer, valid: pa.Buffer | None) -> pa.Array:
        child = pa.Array.from_buffers(self._element.arrow_type, num_rows * self._size, [None, content])
        storage = pa.Array.from_buffers(self.arrow_type.storage_type, num_rows, [valid], children=[child])
        return pa.ExtensionArray.from_storage(self.arrow_type, storage)


class ShapedArrayEncoding(Encoding):
    """Arrays of one dtype and any shape, scalars and empty arrays included: the elements, and the shape beside them."""

    ragged = True

    def __init__(self, element: Element) -> None:
        self._element = element
        self._dtype = np.dtype(element.name) if element.name != BFLOAT16 else None
        arrow_type = pa.struct({"data": pa.list_(element.arrow_type), "shape": pa.list_(pa.int32())})
        super().__init__(f"ndarray:{element.name}", arrow_type)

    def encode(self, value: Any) -> object:
        """Take an array or a tensor of exactly this dtype."""
        if type(value) is np.ndarray and value.dtype is self._dtype:
            return value.tobytes(), value.shape
        array = self._element.stored_array(value)
        return array.tobytes(), array.shape

    def to_arrow(self, values: list[Any]) -> pa.Array:
        """Lay elements and shapes end to end, none of both for a missing array."""
        pairs = [(b"", ()) if value is None else value for value in values]
        itemsize = self._element.stored.itemsize
        data = self._list(
            self._element.arrow_type,
            [len(content) // itemsize for content, _ in pairs],
            pa.py_buffer(b"".join([content for content, _ in pairs])),
        )
        dims = np.array([size for _, shape in pairs for size in shape], np.int32)
        shape = self._list(pa.int32(), [len(shape) for _, shape in pairs], pa.py_buffer(dims))
        return pa.Array.from_buffers(self.arrow_type, len(values), [bitmap(values)], children=[data, shape])

    def _reader(self, array: pa.Array) -> RowReader:
        data, shape = array.field(0), array.field(1)
        return RowReader(
            "$data[$start[r]:$start[r + 1]].reshape($dims[$first[r]:$first[r + 1]].tolist()).copy()",
            {
                "data": fixed_width(data.values, self._element.stored).view(self._element.dtype),
                "start": offsets(data),
                "dims": fixed_width(shape.values, np.dtype(np.int32)).data,
                "first": offsets(shape),
            },
        )

    def _from_arrow(self, array: pa.Array) -> pa.Array:
        """Take, besides what is stored, lists of numbers as arrays of one dimension."""
        if not is_list(array.type):
            return super()._from_arrow(array)
        present = array.drop_null()
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        leaves = elements(present.flatten(), self._element)
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        data = self._list(self._element.arrow_type, lengths, pa.py_buffer(leaves.tobytes()))
        shape = self._list(pa.int32(), valid.astype(np.int64), pa.py_buffer(lengths[valid].astype(np.int32)))
        mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
        return pa.Array.from_buffers(self.arrow_type, len(array), [mask], children=[data, shape])

    @staticmethod
    def _list(arrow_type: pa.DataType, lengths: Any, content: pa.Buffer) -> pa.Array:
        ends = list_offsets(lengths)
        num_values = content.size * 8 // arrow_type.bit_width
        values = pa.Array.from_buffers(arrow_type, num_values, [None, content])
        return pa.Array.from_buffers(pa.list_(arrow_type), len(lengths), [None, ends], children=[values])


def is_permuted(tensor: pa.FixedShapeTensorType) -> bool:
    """Tell whether a tensor type stores its dimensions in another order than it names them."""
    return tensor.permutation is not None and list(tensor.permutation) != sorted(tensor.permutation)
