"""From global sample ids to rows of open shards, over one or several streams."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from arrowstream.decode import Decoder, Sample
from arrowstream.errors import EncodingError, MissingColumnError, MissingShardError
from arrowstream.index import Index, Shard
from arrowstream.locate import Locator
from arrowstream.plan.window import Shards
from arrowstream.prefetch import Prefetcher
from arrowstream.shard import MAX_OPEN_SHARDS, BatchMemory, OpenShard
from arrowstream.stream import Stream

IntArray = npt.NDArray[np.int64]


class Reader:
    """What a process knows once it has read the indexes, and what it has opened since.

    Args:
        streams: One behind the other; their indexes are read now.
        allow_unsafe_types: Whether ``pkl`` columns are read.

    Raises:
        IndexFormatError: An index is damaged.
        StorageError: An index could not be read.
    """

    def __init__(self, streams: Sequence[Stream], *, allow_unsafe_types: bool) -> None:
        self._streams = streams
        self._allow_unsafe_types = allow_unsafe_types
        indexes = [stream.index for stream in streams]
        self.samples_per_shard: IntArray = np.concatenate([index.samples_per_shard for index in indexes])
        self._first_shards: list[int] = np.cumsum([0, *(index.num_shards for index in indexes[:-1])]).tolist()
        self.samples_per_stream_shard: list[IntArray] = [index.samples_per_shard for index in indexes]
        self.shards = shards_of(indexes)
        self._locator = Locator(self.samples_per_shard)
        self.num_samples = self._locator.num_samples
        # Id of the first sample of each shard: for one id, bisect on a list is 20 times faster than on an array.
        self._starts: list[int] = self._locator.starts.tolist()
        self._opened: dict[int, OpenShard] = {}
        self._memory = BatchMemory()
        self._schema: pa.Schema | None = None

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the samples and their ids, whatever compression or place they have."""
        digest = xxhash.xxh3_128(self.samples_per_shard.tobytes())
        for stream in self._streams:
            for group in stream.index.groups:
                digest.update("".join(group.content).encode())
        return digest.hexdigest()

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the first shard, which is fetched for it."""
        if self._schema is None:
            shard = self._open(0) if len(self.samples_per_shard) else None
            self._schema = shard.schema.remove_metadata() if shard is not None else pa.schema([])
        return self._schema

    def read(self, sample_id: int) -> Sample:
        """Read one sample by its id in [-num_samples, num_samples).

        Raises:
            IndexError: The id is out of bounds.
        """
        size = self.num_samples
        if not 0 <= sample_id < size:
            if not -size <= sample_id < 0:
                raise IndexError(f"index {sample_id} is out of bounds for axis 0 with size {size}")
            sample_id += size
        # Written out rather than called, here and below: a call costs as much as a small column.
        starts = self._starts
        shard = bisect_right(starts, sample_id) - 1
        try:
            opened = self._opened[shard]
        except KeyError:
            opened = self._open(shard)
        row = sample_id - starts[shard]
        batch = row // opened.rows_per_batch
        return (opened.reads[batch] or opened.open_batch(batch))(row - batch * opened.rows_per_batch)

    def read_each(self, shards: Iterable[int], rows: Iterable[int], prefetcher: Prefetcher) -> Iterator[Sample]:
        """Read samples one after the other, given where they are."""
        shards_open = self._opened
        for shard, row_of_shard in zip(shards, rows, strict=True):
            opened = shards_open.get(shard) or self._open(shard, prefetcher)
            batch, row = divmod(row_of_shard, opened.rows_per_batch)
            yield (opened.reads[batch] or opened.open_batch(batch))(row)

    def take(self, ids: IntArray, columns: Sequence[str] | None) -> pa.Table:
        """Read many samples as a table.

        Args:
            ids: In bounds, int64 of shape (n,).
            columns: The columns to read; None: all.

        Raises:
            MissingColumnError: There is no such column.
            EncodingError: The samples' shards have different columns.
        """
        wanted = self.check_columns(columns)
        shards, rows = self.locate(ids)
        by_place = np.lexsort((rows, shards))  # (n,)
        pieces = [
            piece
            for shard, of_shard in _runs(shards[by_place], by_place)
            for piece in _take_rows(self._open(shard), rows[of_shard], wanted)
        ]
        if not pieces:
            return pa.schema([self.schema.field(name) for name in wanted]).empty_table()
        # One chunk a column: pa.Table.take over chunks is a hundred times slower.
        try:
            gathered = pa.Table.from_batches(pieces).combine_chunks()
        except pa.ArrowInvalid as error:
            raise EncodingError(
                f"the shards of these samples have different columns ({error}); choose common ones with columns="
            ) from error
        back = np.empty_like(by_place)
        back[by_place] = np.arange(len(by_place))
        return gathered.take(pa.array(back))

    def check_columns(self, columns: Sequence[str] | None) -> list[str]:
        """Give the columns that were asked for, or all of the first shard.

        Raises:
            MissingColumnError: There is no such column.
        """
        wanted = list(columns) if columns is not None else self.schema.names
        for name in wanted:
            if name not in self.schema.names:
                raise MissingColumnError(f"no column is named {name!r}; there are: {', '.join(self.schema.names)}")
        return wanted

    def locate(self, ids: IntArray) -> tuple[IntArray, IntArray]:
        """Find the shard and the row of each sample; all are int64 of shape (n,)."""
        return self._locator.locate(ids)

    def request(self, shards: Iterable[int], prefetcher: Prefetcher) -> None:
        """Begin to fetch the shards that are neither open nor read in place, the one needed first at the front."""
        for number in shards:
            if number not in self._opened:
                stream, shard = self._shard(number)
                cache = stream.cache_for(shard)
                if cache is not None:
                    prefetcher.request(number, cache, shard)

    def make_ready(self, number: int, prefetcher: Prefetcher) -> None:
        """Open a shard, waiting for it if it is being fetched."""
        if number not in self._opened:
            self._open(number, prefetcher)

    def open_shard(self, number: int, prefetcher: Prefetcher | None = None) -> OpenShard:
        """Give an open shard; it may be closed here while the caller still holds it, and stays readable."""
        return self._opened.get(number) or self._open(number, prefetcher)

    def paths(self, *, fetch: bool) -> list[tuple[int, Path]]:
        """Name the shards that lie on this machine, with the id of the first sample of each.

        Args:
            fetch: Whether to fetch those that do not.
        """
        paths = []
        for number, first_id in enumerate(self._starts[:-1]):
            stream, shard = self._shard(number)
            cache = stream.cache_for(shard)
            if cache is None:
                paths.append((first_id, stream.path_in_place(shard)))
            elif fetch or cache.has(shard):
                paths.append((first_id, cache.fetch(shard)))
        return paths

    def _shard(self, number: int) -> tuple[Stream, Shard]:
        place = bisect_right(self._first_shards, number) - 1
        stream = self._streams[place]
        return stream, stream.shard(number - self._first_shards[place])

    def _open(self, number: int, prefetcher: Prefetcher | None = None) -> OpenShard:
        opened = self._opened.get(number)
        if opened is None:
            opened = self._open_file(number, prefetcher.wait(number) if prefetcher is not None else None)
            if len(self._opened) >= MAX_OPEN_SHARDS:
                self._opened.pop(next(iter(self._opened)), None)
            self._opened[number] = opened
        return opened

    def _open_file(self, number: int, path: Path | None) -> OpenShard:
        stream, shard = self._shard(number)
        cache = stream.cache_for(shard)
        if cache is None:
            return self._map(stream.path_in_place(shard), shard, trusted=False)
        try:
            return self._map(path or cache.fetch(shard), shard, trusted=True)
        except MissingShardError:
            # Anything in a cache may be deleted at any moment; what is mapped is safe.
            return self._map(cache.fetch(shard), shard, trusted=True)

    def _map(self, path: Path, shard: Shard, *, trusted: bool) -> OpenShard:
        def make_bind(schema: pa.Schema) -> Any:
            return Decoder(schema, allow_unsafe_types=self._allow_unsafe_types, source=str(path)).bind

        return OpenShard(path, shard, make_bind, trusted=trusted, memory=self._memory)


def _runs(keys: IntArray, values: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Split values where their sorted keys change."""
    borders = np.flatnonzero(np.diff(keys)) + 1
    for part_keys, part in zip(np.split(keys, borders), np.split(values, borders), strict=True):
        if len(part):
            yield int(part_keys[0]), part


def _take_rows(shard: OpenShard, rows: IntArray, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Take sorted rows of a shard, record batch by record batch."""
    numbers, offsets = np.divmod(rows, shard.rows_per_batch)
    for number, part in _runs(numbers, offsets):
        yield shard.batch(number).select(columns).replace_schema_metadata(None).take(pa.array(part))


def shards_of(indexes: Sequence[Index]) -> Shards:
    """Say of the shards of all indexes what an order may depend on."""
    return Shards(
        num_samples=np.concatenate([index.samples_per_shard for index in indexes]),
        rows_per_batch=np.concatenate([index.rows_per_batch for index in indexes]),
        num_bytes=np.concatenate([index.raw_bytes for index in indexes]),
    )
