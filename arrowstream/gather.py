"""The rows of a batch, from whatever shards they lie in to one array or one list a column."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from arrowstream.bound_columns import DenseColumn, Gathered, Numbers, TextColumn, numbers
from arrowstream.columns import Encoding, encoding_of
from arrowstream.decode import ReadRow, bind_rows
from arrowstream.errors import CorruptShardError, EncodingError
from arrowstream.partial import PartialShard
from arrowstream.prefetch import Prefetcher
from arrowstream.reader import Reader
from arrowstream.shard import MAX_OPEN_BATCHES, MAX_OPEN_SHARDS, MAX_UNCOMPRESSED_BYTES, OpenShard
from arrowstream.windows import RowWindow

IntArray = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]
MakeWindow = Callable[[np.dtype[Any], tuple[int, ...]], RowWindow]

# Asking whether a file was deleted takes a microsecond, so it is not asked anew whenever one is opened.
_SHARE_UNASKED = 16
# Rows of a shard that was not opened yet fall into a slot that is never bound.
_NO_SLOT = 0
_ANY_ROW = 1 << 62


class Gatherer:
    """Reads rows of shards, many at a time. One thread at a time may use it.

    Columns whose values are of one size are gathered without a Python step a row; of text and bytes the places are
    looked up; the others are read row by row, as samples are, but only these columns; of images the stored bytes are
    read. What it keeps grows with shards and record batches, never with samples.

    Args:
        reader: Opens the shards.
        columns: The columns to read; None: all of the first shard.
        make_window: Makes what gathers a column, given its dtype and the shape of its values.
        max_shards: Maps are given up above it, the oldest first.
        max_uncompressed_bytes: Record batches that had to be decompressed are given up above it, the oldest first.

    Attributes:
        encodings: What the values of each column are, in the order of the columns.

    Raises:
        MissingColumnError: There is no such column.
    """

    def __init__(
        self,
        reader: Reader,
        columns: Sequence[str] | None,
        make_window: MakeWindow = RowWindow,
        *,
        max_shards: int = MAX_OPEN_SHARDS,
        max_uncompressed_bytes: int = MAX_UNCOMPRESSED_BYTES,
    ) -> None:
        self._reader = reader
        self._max_shards = max_shards
        self._max_batches = MAX_OPEN_BATCHES
        self._max_uncompressed_bytes = max_uncompressed_bytes
        names = reader.check_columns(columns)
        schema = reader.schema
        self.encodings: dict[str, Encoding] = {name: encoding_of(schema.field(name)) for name in names}
        self._sizes = {name: _size(encoding, schema.field(name)) for name, encoding in self.encodings.items()}
        self._dense = {name: DenseColumn(make_window(*size)) for name, size in self._sizes.items() if size is not None}
        self._texts = {
            name: TextColumn(is_text)
            for name, encoding in self.encodings.items()
            if (is_text := _is_text(encoding, schema.field(name))) is not None
        }
        self._bindable: dict[str, DenseColumn | TextColumn] = {**self._dense, **self._texts}
        self._others = [name for name in names if name not in self._bindable]
        num_shards = len(reader.samples_per_shard)
        self._columns: dict[int, list[tuple[str, int, Encoding]]] = {}  # what stands in a shard, column by column
        self._first_slots: IntArray = np.full(num_shards, _NO_SLOT, np.int64)
        self._rows_per_batch: IntArray = np.full(num_shards, _ANY_ROW, np.int64)
        self._bound = np.zeros(_NO_SLOT + 1, np.bool_)  # (slots,)
        self._read_row: list[ReadRow | None] = [None] * (_NO_SLOT + 1)  # (slots,): reads the other columns
        self._opened: dict[int, tuple[OpenShard | PartialShard, int]] = {}  # what each bound slot is a view of
        self._num_opened = 0  # since they were last asked whether they were deleted
        self._num_changes = 0  # slots that were bound or released, ever
        self._shards: dict[int, range] = {}  # the slots of those that have bound ones, the oldest first
        self._alone: dict[int, None] = {}  # bound slots that have a map each, the oldest first
        self._uncompressed: deque[tuple[int, int]] = deque()  # slots and their bytes
        self._uncompressed_bytes = 0

    def gather(
        self, shards: IntArray, rows: IntArray, batch_size: int, prefetcher: Prefetcher | None = None
    ) -> Iterator[dict[str, Gathered]]:
        """Read rows batch by batch, each when it is asked for.

        Args:
            shards: Shard of each sample, int64 of shape (n,).
            rows: Row of each sample in its shard, int64 of shape (n,).
            batch_size: Samples of each batch but the last.
            prefetcher: Was asked for the shards.

        Yields:
            For each column arrays, or a list of values.

        Raises:
            ShardError: A shard is missing or corrupt.
            StorageError: A shard could not be fetched.
            EncodingError: The shards' columns differ.
        """
        # Where all are bound, finding them at once costs a tenth of finding them batch by batch.
        slots, rows_of_batch = self._find_slots(shards, rows)
        ahead = self._find_rows(slots, rows_of_batch, batch_size) if self._bound[slots].all() else []
        num_changes = self._num_changes
        for number, start in enumerate(range(0, max(len(shards), 1), batch_size)):
            if ahead and self._num_changes == num_changes:
                found = ahead[number]
            else:
                stop = start + batch_size
                ready = self._make_ready(shards[start:stop], rows[start:stop], prefetcher)
                (found,) = self._find_rows(*ready, batch_size)
            gathered = self._take(*found)
            # Not before: what this batch needed was in use until here.
            self._give_up()
            yield gathered

    def _find_rows(self, slots: IntArray, rows: IntArray, batch_size: int) -> list[tuple[Sequence[Any], Numbers]]:
        """Find the rows of each batch: what each column that can be bound found, and slots and rows for the others."""
        bindable = zip(*[column.find(slots, rows, batch_size) for column in self._bindable.values()], strict=True)
        if self._bindable and not self._others:
            return [(found, ([], [])) for found in bindable]
        others = numbers(slots, rows, batch_size)
        return list(zip(bindable if self._bindable else [()] * len(others), others, strict=True))

    def _take(self, found: Sequence[Any], others: Numbers) -> dict[str, Gathered]:
        bindable = zip(self._bindable.items(), found, strict=True)
        gathered: dict[str, Gathered] = {name: column.take(part) for (name, column), part in bindable}
        if self._others:
            read_row = cast(list[ReadRow], self._read_row)  # of slots that are bound
            samples = [read_row[slot](row) for slot, row in zip(*others, strict=True)]
            gathered |= {name: [sample[name] for sample in samples] for name in self._others}
        return {name: gathered[name] for name in self.encodings}

    def _find_slots(self, shards: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
        batches, rows_of_batch = np.divmod(rows, self._rows_per_batch[shards])
        return self._first_slots[shards] + batches, rows_of_batch

    def _make_ready(self, shards: IntArray, rows: IntArray, prefetcher: Prefetcher | None) -> tuple[IntArray, IntArray]:
        """Give the slots of rows, and the rows of these; what is not open or not bound is, from then on."""
        slots, rows_of_batch = self._find_slots(shards, rows)
        if self._bound[slots].all():
            return slots, rows_of_batch
        new = self._first_slots[shards] == _NO_SLOT
        for shard, row in dict(zip(shards[new].tolist(), rows[new].tolist(), strict=True)).items():
            self._open(shard, row, prefetcher)
        slots, rows_of_batch = self._find_slots(shards, rows)
        missing = ~self._bound[slots]
        for slot, shard in dict(zip(slots[missing].tolist(), shards[missing].tolist(), strict=True)).items():
            self._bind(slot, shard, prefetcher)
        return slots, rows_of_batch

    def _open(self, shard: int, row: int, prefetcher: Prefetcher | None) -> None:
        """Give a shard its slots, for good: they are numbers alone."""
        opened = self._reader.open_rows(shard, row, prefetcher)
        self._columns[shard] = [self._find(name, opened.schema, shard) for name in self.encodings]
        num_slots = len(self._bound) + len(opened.reads)
        self._first_slots[shard] = len(self._bound)
        self._rows_per_batch[shard] = opened.rows_per_batch
        self._bound = np.concatenate([self._bound, np.zeros(len(opened.reads), np.bool_)])
        self._read_row += [None] * len(opened.reads)
        for column in self._bindable.values():
            column.resize(num_slots)

    def _find(self, name: str, schema: pa.Schema, shard: int) -> tuple[str, int, Encoding]:
        """Find a column in a shard, and see that its values can stand in one column with those of the first shard.

        Raises:
            EncodingError: They cannot.
        """
        number = schema.get_field_index(name)
        encoding = encoding_of(schema.field(number)) if number >= 0 else None
        expected = self.encodings[name]
        if encoding is not None and self._has_kind(name, encoding, schema.field(number)):
            both_at_once = encoding.late() is None and expected.late() is None
            if both_at_once or encoding == expected:
                return name, number, encoding
        raise EncodingError(
            f"column {name!r} is {expected.name} in the first shard and {encoding.name if encoding else 'missing'} in "
            f"shard {shard} ({self._reader.name_of(shard)}), which one batch cannot hold; leave it out with columns="
        )

    def _has_kind(self, name: str, encoding: Encoding, field: pa.Field) -> bool:
        expected = self.encodings[name], self._reader.schema.field(name)
        return _size(encoding, field) == self._sizes[name] and _is_text(encoding, field) == _is_text(*expected)

    def _bind(self, slot: int, shard: int, prefetcher: Prefetcher | None) -> None:
        """Take note of where the rows of a record batch lie."""
        first, number = int(self._first_slots[shard]), slot - int(self._first_slots[shard])
        opened = self._reader.open_rows(shard, number * int(self._rows_per_batch[shard]), prefetcher)
        if opened.rows_per_batch != self._rows_per_batch[shard]:
            raise CorruptShardError(
                f"shard {shard}: its record batches have {opened.rows_per_batch} rows now, and had "
                f"{self._rows_per_batch[shard]}; the index or the file is damaged"
            )
        allocated = pa.total_allocated_bytes()
        batch = opened.batch(number)
        allocated = pa.total_allocated_bytes() - allocated
        others: list[tuple[str, Encoding, pa.Array]] = []
        for name, number, encoding in self._columns[shard]:
            array = batch.column(number)
            column = self._bindable.get(name)
            if column is not None:
                column.bind(slot, encoding, array)
            else:
                others.append((name, encoding.stored(), array))
        if others:
            self._read_row[slot] = bind_rows(others)
        self._num_changes += 1
        self._bound[slot] = True
        self._num_opened += 1
        self._opened[slot] = (opened, number)
        if isinstance(opened, PartialShard):
            self._alone[slot] = None
        else:
            self._shards.setdefault(shard, range(first, first + len(opened.reads)))
        if allocated > 0:
            self._uncompressed.append((slot, allocated))
            self._uncompressed_bytes += allocated

    def _give_up(self) -> None:
        if self._reader.keeps_within and self._num_opened * _SHARE_UNASKED > len(self._opened):
            self._num_opened = 0
            for slot, (opened, number) in list(self._opened.items()):
                if opened.is_deleted(number):
                    self._release(slot)
        while len(self._alone) > self._max_batches:
            self._release(next(iter(self._alone)))
        while len(self._shards) > self._max_shards:
            for slot in self._shards.pop(next(iter(self._shards))):
                self._release(slot)
        while self._uncompressed_bytes > self._max_uncompressed_bytes and len(self._uncompressed) > 1:
            slot, num_bytes = self._uncompressed.popleft()
            self._uncompressed_bytes -= num_bytes
            self._release(slot)

    def _release(self, slot: int) -> None:
        self._num_changes += 1
        self._bound[slot] = False
        self._opened.pop(slot, None)
        self._alone.pop(slot, None)
        self._read_row[slot] = None
        for column in self._bindable.values():
            column.release(slot)


def _size(encoding: Encoding, field: pa.Field) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
    """Give dtype and shape of the values of a column where all have the same; None where they have not."""
    # Not an empty table: pa.array() imports pandas where that is installed, half a second in each worker process.
    rows = encoding.rows(pa.nulls(0, field.type))
    return (rows.dtype, rows.shape[1:]) if rows is not None else None


def _is_text(encoding: Encoding, field: pa.Field) -> bool | None:
    """Tell whether the values of a column are text or bytes as they are stored; None: they are something else."""
    pieces = encoding.pieces(pa.nulls(0, field.type))
    return pieces.is_text if pieces is not None else None
