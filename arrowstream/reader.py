"""From global sample ids to rows of open shards, over one or several streams."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from arrowstream.cache import Cost, Room
from arrowstream.decode import Decoder, Sample, check_columns
from arrowstream.errors import CacheLimitError, MissingColumnError, MissingShardError
from arrowstream.index import Index, Shard
from arrowstream.locate import Locator
from arrowstream.partial import REQUEST_BYTES, PartialShard, costs_more_than_shard
from arrowstream.plan.uses import Forecast
from arrowstream.plan.window import Shards
from arrowstream.prefetch import Prefetcher
from arrowstream.shard import MAX_OPEN_SHARDS, BatchMemory, Bind, OpenShard
from arrowstream.stream import Stream
from arrowstream.tables import join
from arrowstream.units import format_bytes

IntArray = npt.NDArray[np.int64]

#: What is fetched of a shard for a sample of it.
RANDOM_ACCESS = ("auto", "shard", "record_batch")
#: A shard that others delete each time before it is opened is an error in the end.
_OPENINGS = 5


class Reader:
    """What a process knows once it has read the indexes, and what it has opened since.

    Args:
        streams: One behind the other; their indexes are read now.
        allow_unsafe_types: Whether ``pkl`` columns are read.
        cache_limit: Bytes that all that is cached may take on the disk.
        random_access: ``shard``, ``record_batch`` or ``auto``: what is fetched for a sample that is asked for by its
            id.
        columns: The columns to read, in their order; None: all.

    Raises:
        IndexFormatError: An index is damaged.
        MissingColumnError: The shards of an index have no such column.
        StorageError: An index could not be read.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        allow_unsafe_types: bool,
        cache_limit: int | None = None,
        random_access: str = "auto",
        columns: Sequence[str] | None = None,
    ) -> None:
        self._streams = streams
        self._allow_unsafe_types = allow_unsafe_types
        self._random_access = random_access
        self._columns = columns
        indexes = [stream.index for stream in streams]
        for stream, index in zip(streams, indexes, strict=True):
            _check_declared(columns or (), stream, index)
        self.samples_per_shard: IntArray = np.concatenate([index.samples_per_shard for index in indexes])
        self._first_shards: list[int] = np.cumsum([0, *(index.num_shards for index in indexes[:-1])]).tolist()
        self.samples_per_stream_shard: list[IntArray] = [index.samples_per_shard for index in indexes]
        self.shards = shards_of(indexes)
        self._locator = Locator(self.samples_per_shard)
        self.num_samples = self._locator.num_samples
        # Id of the first sample of each shard: for one id, bisect on a list is 20 times faster than on an array.
        self._starts: list[int] = self._locator.starts.tolist()
        self._opened: dict[int, OpenShard] = {}
        self._partial: dict[int, PartialShard] = {}
        self._memory = BatchMemory()
        self._schema: pa.Schema | None = None
        self._room = Room(cache_limit, timeout_s=max(stream.lock_timeout_s for stream in streams))
        self._room.let_go = self._drop_deleted
        for stream, first_shard in zip(streams, self._first_shards, strict=True):
            if stream.uses_cache:
                stream.cache.room = self._room
                self._room.add(stream.cache.directory, stream.index, first_shard)

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
        """The Arrow schema of the first shard, which is fetched for it, or a part of it."""
        if self._schema is None:
            shard = self._open_rows(0, np.zeros(1, np.int64)) if len(self.samples_per_shard) else None
            whole = shard.schema.remove_metadata() if shard is not None else pa.schema([])
            # Of no shards, an index declares nothing.
            names = self._columns if self._columns is not None and shard is not None else whole.names
            self._schema = pa.schema([whole.field(name) for name in names])
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
        row = sample_id - starts[shard]
        opened: OpenShard | PartialShard
        try:
            opened = self._opened[shard]
        except KeyError:
            opened = self._open_rows(shard, np.array([row]))
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
            EncodingError: The samples' shards have columns that no table holds together.
        """
        wanted = self.check_columns(columns)
        shards, rows = self.locate(ids)
        by_place = np.lexsort((rows, shards))  # (n,)
        pieces = [
            (self.name_of(shard), piece)
            for shard, of_shard in _runs(shards[by_place], by_place)
            for piece in _take_rows(self._open_rows(shard, rows[of_shard]), rows[of_shard], wanted)
        ]
        if not pieces:
            return pa.schema([self.schema.field(name) for name in wanted]).empty_table()
        gathered = join(pieces, wanted)
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
                chosen = " among those that the dataset was told to read" if self._columns is not None else ""
                raise MissingColumnError(
                    f"no column is named {name!r}{chosen}; there are: {', '.join(self.schema.names)}"
                )
        return wanted

    def locate(self, ids: IntArray) -> tuple[IntArray, IntArray]:
        """Find the shard and the row of each sample; all are int64 of shape (n,)."""
        return self._locator.locate(ids)

    def name_of(self, shard: int) -> str:
        """Name a shard by its number, as the index does."""
        return self._shard(shard)[1].basename

    @property
    def cost(self) -> Cost:
        """What this process has asked of the remotes."""
        return sum((stream.cache.meter.cost for stream in self._streams if stream.uses_cache), Cost())

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
                paths.append((first_id, cache.fetch(shard, number)))
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
        for _ in range(_OPENINGS):
            try:
                opened = self._map(path or cache.fetch(shard, number), shard, trusted=True)
            except MissingShardError as error:
                # Anything in a cache may be deleted at any moment; what is mapped is safe.
                path, deleted = None, error
            else:
                self.keep_within()
                return opened
        raise deleted

    def _open_rows(self, number: int, rows: IntArray) -> OpenShard | PartialShard:
        """Open a shard for some of its rows, of which no more may be fetched than the record batches they are in."""
        opened = self._opened.get(number)
        if opened is not None or self._random_access == "shard":
            return opened or self._open(number)
        partial = self._partial.get(number)
        if partial is not None and len(rows) == 1 and partial.reads[int(rows[0]) // partial.rows_per_batch] is not None:
            return partial
        partial = partial or self._open_partially(number, rows)
        if partial is None:
            return self._open(number)
        batches = np.unique(rows // partial.rows_per_batch).tolist()
        whole = self._shard(number)[1].file_bytes + REQUEST_BYTES
        if self._random_access == "auto" and partial.would_cost(batches) >= whole:
            self._partial.pop(number, None)
            return self._open(number)
        self._partial[number] = partial
        return partial

    def _open_partially(self, number: int, rows: IntArray) -> PartialShard | None:
        stream, shard = self._shard(number)
        cache = stream.cache_for(shard)
        if cache is None or not shard.rows_per_batch or cache.has(shard):
            return None
        num_batches = len(np.unique(rows // shard.rows_per_batch))
        if self._random_access == "auto" and costs_more_than_shard(shard, num_batches):
            return None
        footer = cache.fetch_footer(shard)
        if footer is None:
            return None
        url = stream.storage.url_of(shard.basename)
        return PartialShard(cache, shard, number, footer, make_bind=self._make_bind(url), memory=self._memory)

    def _map(self, path: Path, shard: Shard, *, trusted: bool) -> OpenShard:
        return OpenShard(path, shard, self._make_bind(str(path)), trusted=trusted, memory=self._memory)

    def _make_bind(self, source: str) -> Callable[[pa.Schema], Bind]:
        def make_bind(schema: pa.Schema) -> Any:
            return Decoder(
                schema, allow_unsafe_types=self._allow_unsafe_types, source=source, columns=self._columns
            ).bind

        return make_bind

    # Within the limit ------------------------------------------------------------------------------------------------

    def follow(self, forecast: Forecast, epoch: int) -> None:
        """Let a plan decide which shards go first when room is needed.

        Raises:
            CacheLimitError: The shards that an epoch reads at the same time are larger than the limit.
        """
        self._room.next_uses = forecast.next_uses
        limit = self._room.limit
        if limit is None:
            return
        sizes, unpacking = self._cached_bytes()
        needed = forecast.uses(epoch).most_bytes(sizes) + unpacking
        if needed > limit:
            raise CacheLimitError(
                f"cache_limit is {limit} bytes ({format_bytes(limit)}), but this order reads shards of {needed} bytes "
                f"({format_bytes(needed)}) at the same time: raise cache_limit= to that at least, or give a smaller "
                f"shuffle_block_size= or num_canonical_nodes="
            )

    def _cached_bytes(self) -> tuple[IntArray, int]:
        """Tell what each shard takes in the cache, int64 of shape (shards,), and fetching one beside that."""
        sizes = np.zeros(len(self.samples_per_shard), np.int64)
        unpacking = 0
        for stream, first_shard in zip(self._streams, self._first_shards, strict=True):
            number = first_shard
            for group in stream.index.groups if stream.uses_cache else ():
                sizes[number : number + len(group)] = group.raw_bytes
                largest = int(group.raw_bytes.argmax()) if len(group) else None
                if largest is not None:
                    shard = group.shard(largest)
                    unpacking = max(unpacking, stream.cache.peak_bytes(shard) - shard.raw_bytes)
                number += len(group)
        return sizes, unpacking

    def keep_within(self) -> None:
        """Let go of what others deleted to keep the limit, if there is one."""
        if self._room.limit is not None:
            self._drop_deleted()

    def _drop_deleted(self) -> None:
        """Let go of shards that were deleted: as long as they are mapped, their space is not free."""
        for number, opened in list(self._opened.items()):
            if opened.is_deleted():
                self._opened.pop(number, None)


def _check_declared(columns: Sequence[str], stream: Stream, index: Index) -> None:
    """See, before a shard is fetched, that all that declare columns have those that are wanted."""
    for group in index.groups:
        if len(group) and group.columns:
            check_columns(columns, group.columns, stream.storage.url_of(group.basename[0]))


def _runs(keys: IntArray, values: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Split values where their sorted keys change."""
    borders = np.flatnonzero(np.diff(keys)) + 1
    for part_keys, part in zip(np.split(keys, borders), np.split(values, borders), strict=True):
        if len(part):
            yield int(part_keys[0]), part


def _take_rows(shard: OpenShard | PartialShard, rows: IntArray, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Take sorted rows of a shard, record batch by record batch."""
    numbers, offsets = np.divmod(rows, shard.rows_per_batch)
    for number, part in _runs(numbers, offsets):
        batch = shard.batch(number).replace_schema_metadata(None)
        yield batch.select([name for name in columns if name in batch.schema.names]).take(pa.array(part))


def shards_of(indexes: Sequence[Index]) -> Shards:
    """Say of the shards of all indexes what an order may depend on."""
    return Shards(
        num_samples=np.concatenate([index.samples_per_shard for index in indexes]),
        rows_per_batch=np.concatenate([index.rows_per_batch for index in indexes]),
        num_bytes=np.concatenate([index.raw_bytes for index in indexes]),
    )
