"""What every encoding can do: turn sample values into an Arrow column, and a column into values again."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from arrowstream.columns.arrays import as_ndarray, is_bfloat16_tensor, is_tensor
from arrowstream.columns.arrow_types import plain_type
from arrowstream.columns.buffers import AnyArray, validity
from arrowstream.columns.describe import describe
from arrowstream.columns.pixels import Late
from arrowstream.errors import EncodingError

METADATA_KEY = b"mds.encoding"

Values: TypeAlias = Sequence[Any] | AnyArray | pa.Array | pa.ChunkedArray


class RowReader(NamedTuple):
    """How to get at one value of a column of one record batch.

    The parts are not called: whoever reads rows pastes the expressions of all columns into one function, so that a
    sample costs no call a column. What the expression yields owns its memory or is immutable.

    Attributes:
        expression: A Python expression for the value of row ``r``; the names of ``values`` stand in it with a ``$``.
        values: What those names mean, for this record batch.
    """

    expression: str
    values: dict[str, object]


class Pieces(NamedTuple):
    """Where values lie end to end.

    Attributes:
        content: The bytes of all.
        offsets: Where each begins, and the last one ends; n + 1 integers.
        is_text: Whether they are UTF-8, else bytes.
    """

    content: memoryview
    offsets: memoryview
    is_text: bool


class Encoding(ABC):
    """How the values of one column are stored.

    An encoding has no state: it is picklable, compares by what it says, and may be used from any thread.

    Attributes:
        name: The canonical spelling, as it stands in indexes and in the metadata of a field.
        arrow_type: What the column is stored as.
        unsafe: Whether reading runs code that came with the data.
        ragged: Whether values are arrays whose shape is known by the row alone.
    """

    unsafe = False
    ragged = False

    def __init__(self, name: str, arrow_type: pa.DataType) -> None:
        self.name = name
        self.arrow_type = arrow_type

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Encoding):
            return NotImplemented
        return type(self) is type(other) and self.name == other.name and bool(self.arrow_type == other.arrow_type)

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def field(self, column: str) -> pa.Field:
        """Describe a column, nullable, whose metadata names the encoding."""
        return pa.field(column, self.arrow_type, metadata={METADATA_KEY: self.name.encode()})

    def fits(self, arrow_type: pa.DataType) -> bool:
        """Tell whether ``reader`` understands columns of a type; ``large_`` and ``_view`` make no difference."""
        return bool(plain_type(arrow_type) == plain_type(self.arrow_type))

    @abstractmethod
    def encode(self, value: Any) -> object:
        """Check one value and turn it into what ``to_arrow`` takes.

        The result shares no memory with the value, so a caller may reuse a buffer for the next sample.

        Args:
            value: Never None: a missing value goes to ``to_arrow`` as it is.

        Raises:
            EncodingError: The value does not fit; the message goes on well after "column 'label', row 17: ".
        """

    def to_arrow(self, values: list[Any]) -> pa.Array:
        """Build a column of exactly ``arrow_type`` from encoded values and Nones.

        Raises:
            EncodingError: Together the values are too large for one Arrow array.
        """
        return single_array(pa.array(values, self.arrow_type))

    def column(self, values: Values, /) -> pa.Array:
        """Encode a whole column at once.

        Args:
            values: An Arrow array (what is stored: text of JSON, bytes of images, in the same family of types), a
                NumPy array or a tensor whose first dimension counts the rows, or any sequence of sample values. None
                and masked values become nulls.

        Returns:
            An array of ``arrow_type``; it shares memory with an Arrow array, never with a NumPy array.

        Raises:
            EncodingError: The column, or the value in the row that the message names, does not fit.
        """
        if isinstance(values, pa.ChunkedArray):
            return self._from_arrow(single_array(values.combine_chunks()))
        if isinstance(values, pa.Array):
            return self._from_arrow(values)
        if isinstance(values, str | bytes | bytearray | memoryview) or not isinstance(values, Iterable):
            raise EncodingError(f"expected a column of values, got {describe(values)}; pass a list or an array")
        if isinstance(values, np.ma.MaskedArray):
            return self._from_values([None if value is np.ma.masked else value for value in values])
        array = _dense(values)
        if array is not None:
            if array.ndim == 0:
                raise EncodingError(f"expected a column of values, got {describe(values)}; pass a list or an array")
            return self._from_numpy(array)
        return self._from_values(values)

    def reader(self, array: pa.Array) -> RowReader:
        """Prepare to read the rows of one column of one record batch, which may be a slice and may hold nulls."""
        reader = self._reader(array)
        if not array.null_count:
            return reader
        return RowReader(f"({reader.expression} if $valid[r] else None)", {**reader.values, "valid": validity(array)})

    def rows(self, array: pa.Array) -> AnyArray | None:
        """View a column as one array, (n, *shape), read-only and in row-major order.

        What stands under a null is undefined. The view keeps the memory alive that it shows.

        Returns:
            None: values of this encoding are not all of one size.
        """
        del array
        return None

    def pieces(self, array: pa.Array) -> "Pieces | None":
        """Tell where the values of a column lie that are text or bytes as they are; None: this encoding's are not."""
        del array
        return None

    def stored(self) -> "Encoding":
        """Give the encoding that reads what ``late`` goes on with: this one, where that is the value itself."""
        return self

    def late(self) -> Late | None:
        """Give the dear half of reading a value, which other threads may run; None: there is none."""
        return None

    @abstractmethod
    def _reader(self, array: pa.Array) -> RowReader:
        """Prepare to read the rows that are not null."""

    def _from_arrow(self, array: pa.Array) -> pa.Array:
        if array.type == self.arrow_type:
            return array
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if not (pa.types.is_null(array.type) or self._takes(array.type)):
            raise EncodingError(f"expected a column of {self.arrow_type}, got one of {array.type}")
        try:
            return array.cast(self.arrow_type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise EncodingError(f"expected a column of {self.arrow_type}, got one of {array.type}: {error}") from error

    def _takes(self, arrow_type: pa.DataType) -> bool:
        """Tell whether a column of a type may be cast to ``arrow_type``, a dictionary being what it stands for."""
        return self.fits(arrow_type)

    def _from_numpy(self, values: AnyArray) -> pa.Array:
        return self._from_values(values)

    def _from_values(self, values: Iterable[Any]) -> pa.Array:
        encode = self.encode
        encoded: list[object] = []
        try:
            for value in values:
                encoded.append(None if value is None else encode(value))  # noqa: PERF401 (its length is the row)
        except EncodingError as error:
            raise EncodingError(f"row {len(encoded)}: {error}") from error
        return self.to_arrow(encoded)


def single_array(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Refuse what Arrow had to split because 32-bit offsets do not reach across it.

    Raises:
        EncodingError: It was split.
    """
    if isinstance(array, pa.ChunkedArray):
        raise EncodingError(f"{array.nbytes} bytes do not fit into one {array.type} array; pass fewer rows at a time")
    return array


def _dense(values: object) -> AnyArray | None:
    """View values as an array of which every row is a value; None when they have to be taken one by one."""
    if isinstance(values, np.ndarray):
        return values if values.dtype != object else None
    if is_tensor(values) and not is_bfloat16_tensor(values):
        return as_ndarray(values)
    return None
