"""The tokens of a shard: the column that holds them, as views of the mapped file."""

from collections.abc import Callable
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from arrowstream.columns import encoding_of
from arrowstream.columns.buffers import fixed_width, offsets, payload
from arrowstream.errors import EncodingError, MissingColumnError
from arrowstream.sequences.packing import Bins, IntArray, Packing, best_fit, concatenated
from arrowstream.shard import OpenShard

AnyArray = npt.NDArray[Any]
#: Copies the tokens of a batch whose sequences were found: (n, seq_len), owning its memory.
Copy = Callable[[], AnyArray]


class TokenColumn:
    """How the tokens of documents lie in a column of one type.

    Args:
        schema: Of the shard.
        packing: Names the column, and the dtype where the type does not.
        source: The shard; errors name it.

    Attributes:
        dtype: Of the tokens.

    Raises:
        MissingColumnError: There is no such column.
        EncodingError: It holds no tokens, or a dtype has to be said.
    """

    def __init__(self, schema: pa.Schema, packing: Packing, source: str) -> None:
        number = schema.get_field_index(packing.column)
        if number < 0:
            raise MissingColumnError(
                f"{source}: no column is named {packing.column!r}; there are: {', '.join(schema.names)}"
            )
        field = schema.field(number)
        self._number = number
        self._what = f"{source}: column {packing.column!r}"
        self._kind = kind = field.type
        self._is_bytes = _is_bytes(kind)
        if self._is_bytes:
            name = encoding_of(field).name
            if packing.dtype is None or name == "ndarray":
                raise EncodingError(
                    f"{self._what} is {name}, whose bytes do not say what a token is; "
                    + ("write it as ndarray:DTYPE" if name == "ndarray" else "say it with dtype=, as in 'uint16'")
                )
            self.dtype = np.dtype(packing.dtype)
            return
        element = _element(kind)
        if element is None or not pa.types.is_integer(element):
            raise EncodingError(f"{self._what} is {kind}; tokens are integers, in lists or arrays, or bytes")
        self.dtype = np.dtype(element.to_pandas_dtype())
        if packing.dtype is not None and np.dtype(packing.dtype) != self.dtype:
            raise EncodingError(f"{self._what} holds {self.dtype}, and dtype= says {packing.dtype}; leave dtype= out")

    def read(self, batch: pa.RecordBatch) -> tuple[AnyArray, IntArray]:
        """Find the tokens of a record batch.

        Returns:
            The tokens of all documents end to end, a view of shape (tokens,); and where each document begins and the
            last one ends, int64 of shape (documents + 1,).

        Raises:
            EncodingError: A document or a token is null, or a document is no whole number of tokens.
        """
        array = batch.column(self._number)
        if array.null_count:
            raise EncodingError(f"{self._what}: {array.null_count} documents are null; write them as empty ones")
        if pa.types.is_struct(array.type):
            array = array.field(0)
        elif isinstance(array.type, pa.BaseExtensionType):
            array = array.storage
        if pa.types.is_fixed_size_list(array.type):
            size = array.type.list_size
            ends = np.arange(len(array) + 1, dtype=np.int64) * size
            tokens = self._values(array.values)[array.offset * size :][: int(ends[-1])]
            return tokens, ends
        ends = np.asarray(offsets(array)).astype(np.int64)
        first, last = int(ends[0]), int(ends[-1])
        if not self._is_bytes:
            return self._values(array.values)[first:last], ends - first
        ends, rest = np.divmod(ends - first, self.dtype.itemsize)
        if rest.any():
            raise EncodingError(
                f"{self._what}: a document is no whole number of {self.dtype} of {self.dtype.itemsize} bytes"
            )
        tokens = np.frombuffer(payload(array)[first:last], self.dtype) if last > first else np.empty(0, self.dtype)
        return tokens, ends

    def _values(self, values: pa.Array) -> AnyArray:
        if values.null_count:
            raise EncodingError(f"{self._what}: {values.null_count} tokens are null")
        return fixed_width(values, self.dtype)


def tokens_of_each(kind: pa.DataType) -> int | None:
    """Tell how many tokens every document has, where the type of the column says so; None where it does not."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return int(prod(kind.shape))
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else None


class TokenShard:
    """The tokens of one open shard, and its sequences.

    Args:
        opened: The shard.
        packing: What sequences are.
        source: The shard; errors name it.

    Attributes:
        dtype: Of the tokens.
        values: Of each record batch the tokens end to end, views of the map.
        starts: Tokens in front of each record batch, and of all: int64 of shape (record batches + 1,).
        allocated: Bytes of memory that the shard takes because it is compressed.
    """

    def __init__(self, opened: OpenShard, packing: Packing, source: str) -> None:
        self.opened = opened
        self._packing = packing
        self._column = TokenColumn(opened.schema, packing, source)
        self.dtype = self._column.dtype
        allocated = pa.total_allocated_bytes()
        read = [self._column.read(opened.batch(number)) for number in range(len(opened.reads))]
        self.allocated = pa.total_allocated_bytes() - allocated
        self.values = [values for values, _ in read]
        self.starts: IntArray = np.zeros(len(read) + 1, np.int64)
        np.cumsum([len(values) for values in self.values], out=self.starts[1:])

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.starts[-1])

    @property
    def num_sequences(self) -> int:
        """Sequences that the packing makes of them."""
        if self._packing.method == "concat":
            return self._packing.count_concatenated(self.num_tokens)
        return len(self.bins)

    @cached_property
    def _offsets(self) -> IntArray:
        """Where each document begins, in tokens of the shard, and the last one ends: int64 of (documents + 1,)."""
        # Read again rather than kept: most who read concatenated sequences never ask.
        ends = [self._column.read(self.opened.batch(number))[1] for number in range(len(self.values))]
        shifted = [each[1:] + start for each, start in zip(ends, self.starts[:-1].tolist(), strict=True)]
        return np.concatenate([np.zeros(1, np.int64), *shifted])

    @cached_property
    def bins(self) -> Bins:
        """Which parts of which documents each sequence holds."""
        if self._packing.method == "concat":
            return concatenated(self._offsets, self._packing.seq_len, self.num_sequences)
        return best_fit(self._offsets, self._packing.seq_len)

    def places(self, starts: IntArray) -> tuple[IntArray, IntArray]:
        """Find tokens of the shard, int64 of shape (n,): the record batch of each, and its place there."""
        batches = np.searchsorted(self.starts, starts, "right") - 1
        return batches, starts - self.starts[batches]

    def views(self, sequence: int) -> list[AnyArray]:
        """Give the tokens of a sequence, without padding, as views of the map."""
        if self._packing.method == "concat":
            start = sequence * self._packing.seq_len
            return self._views(start, min(start + self._packing.seq_len, self.num_tokens))
        first, behind = self.bins.firsts[sequence : sequence + 2].tolist()
        batches, starts, stops = self._places[:, first:behind].tolist()
        values = self.values
        return [values[batch][start:stop] for batch, start, stop in zip(batches, starts, stops, strict=True)]

    @cached_property
    def _places(self) -> IntArray:
        """Where pieces of best fit lie: record batch, first token in it and the one behind the last; (3, pieces)."""
        # A document lies in one record batch as a whole.
        _, starts, lengths = self.bins.pieces
        batches, inside = self.places(starts)
        return np.stack([batches, inside, inside + lengths])

    def _views(self, start: int, stop: int) -> list[AnyArray]:
        batch = int(np.searchsorted(self.starts, start, "right")) - 1
        views = []
        while start < stop:
            first, behind = int(self.starts[batch]), int(self.starts[batch + 1])
            views.append(self.values[batch][start - first : min(stop, behind) - first])
            start, batch = behind, batch + 1
        return views


def _is_bytes(kind: pa.DataType) -> bool:
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_large_string)
    return any(check(kind) for check in checks)


def _element(kind: pa.DataType) -> pa.DataType | None:
    """Give the type of the tokens of a column of lists, tensors, or arrays with their shape beside them."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return kind.value_type
    if pa.types.is_struct(kind) and [kind.field(number).name for number in range(kind.num_fields)] == ["data", "shape"]:
        kind = kind.field(0).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return kind.value_type
    return None
