"""From global sample ids to rows of open shards, over one or several streams."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from arrowstream.cache import Room, has_ranges
from arrowstream.decode import Sample, check_columns
from arrowstream.errors import CacheLimitError, MissingColumnError
from arrowstream.index import Index
from arrowstream.locate import Locator
from arrowstream.opening import Opener
from arrowstream.partial import PartialShard
from arrowstream.plan.parts import Parts
from arrowstream.plan.uses import Forecast
from arrowstream.plan.window import Shards, ShuffleUnit
from arrowstream.prefetch import Prefetcher
from arrowstream.shard import OpenShard
from arrowstream.storage import Cost
from arrowstream.stream import Stream
from arrowstream.tables import join
from arrowstream.units import format_bytes

IntArray = npt.NDArray[np.int64]


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
        self._columns = columns
        indexes = [stream.index for stream in streams]
        for stream, index in zip(streams, indexes, strict=True):
            _check_declared(columns or (), stream, index)
        self.samples_per_shard: IntArray = np.concatenate([index.samples_per_shard for index in indexes])
        self.samples_per_stream_shard: list[IntArray] = [index.samples_per_shard for index in indexes]
        self.shards = shards_of(indexes)
        self._locator = Locator(self.samples_per_shard)
        self.num_samples = self._locator.num_samples
        # Id of the first sample of each shard: for one id, bisect on a list is 20 times faster than on an array.
        self._starts: list[int] = self._locator.starts.tolist()
        self._schema: pa.Schema | None = None
        self._room = Room(cache_limit, timeout_s=max(stream.lock_timeout_s for stream in streams))
        self._opener = Opener(
            streams,
            self._room,
            allow_unsafe_types=allow_unsafe_types,
            random_access=random_access,
            columns=columns,
        )
        for stream, first_shard in zip(streams, self._opener.first_shards, strict=True):
            if stream.uses_cache:
                stream.cache.room = self._room
                self._room.add(stream.cache.directory, stream.index, first_shard)

    @property
    def opening_s(self) -> float:
        """Seconds spent opening shards, waiting for their arrival included."""
        return self._opener.seconds

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
        """The Arrow schema of the first shard, whose footer is fetched for it; all of it where that does not do."""
        if self._schema is None:
            has_shards = len(self.samples_per_shard) > 0
            whole = self._opener.schema(0).remove_metadata() if has_shards else pa.schema([])
            # Of no shards, an index declares nothing.
            names = self._columns if self._columns is not None and has_shards else whole.names
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
            opened = self._opener.whole[shard]
        except KeyError:
            opened = self._opener.open_rows(shard, np.array([row]))
        batch = row // opened.rows_per_batch
        return (opened.reads[batch] or opened.open_batch(batch))(row - batch * opened.rows_per_batch)

    def read_each(self, shards: Iterable[int], rows: Iterable[int], prefetcher: Prefetcher) -> Iterator[Sample]:
        """Read samples one after the other, given where they are."""
        whole, partial, opener = self._opener.whole, self._opener.partial, self._opener
        for shard, row_of_shard in zip(shards, rows, strict=True):
            opened = whole.get(shard) or partial.get(shard)
            if opened is None:
                opened = opener.open_rows(shard, np.array([row_of_shard]), prefetcher)
            rows_per_batch = opened.rows_per_batch
            batch = row_of_shard // rows_per_batch
            read = opened.reads[batch]
            if read is None:
                opened = opener.open_rows(shard, np.array([row_of_shard]), prefetcher)
                read = opened.reads[batch] or opened.open_batch(batch)
            yield read(row_of_shard - batch * rows_per_batch)

    def take(self, ids: IntArray, columns: Sequence[str] | None, prefetcher: Prefetcher | None = None) -> pa.Table:
        """Read many samples as a table.

        Args:
            ids: In bounds, int64 of shape (n,).
            columns: The columns to read; None: all.
            prefetcher: Of the iteration that they are a part of.

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
            for piece in _take_rows(self._opener.open_rows(shard, rows[of_shard], prefetcher), rows[of_shard], wanted)
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
        return self._opener.shard(shard)[1].basename

    @property
    def cost(self) -> Cost:
        """What this process has asked of the remotes."""
        return sum((stream.storage.cost for stream in self._streams if stream.uses_cache), Cost())

    def request(self, shards: IntArray, rows: IntArray, prefetcher: Prefetcher) -> None:
        """Begin to fetch what rows lie in, as :meth:`arrowstream.opening.Opener.request` does."""
        self._opener.request(shards, rows, prefetcher)

    def make_ready(self, shard: int, row: int, prefetcher: Prefetcher) -> None:
        """Open what a row lies in, waiting for it if it is being fetched."""
        opened = self.open_rows(shard, row, prefetcher)
        batch = row // opened.rows_per_batch
        if opened.reads[batch] is None:
            opened.open_batch(batch)

    def open_rows(self, shard: int, row: int, prefetcher: Prefetcher | None = None) -> OpenShard | PartialShard:
        """Open what a row lies in; it may be closed here while the caller still holds it, and stays readable."""
        return self._opener.open_rows(shard, np.array([row]), prefetcher)

    def open_shard(self, number: int, prefetcher: Prefetcher | None = None) -> OpenShard:
        """Open a shard as a whole; it may be closed here while the caller still holds it, and stays readable."""
        return self._opener.open(number, prefetcher)

    def paths(self, *, fetch: bool) -> list[tuple[int, Path]]:
        """Name the shards that lie on this machine, with the id of the first sample of each.

        Args:
            fetch: Whether to fetch those that do not.
        """
        paths = []
        for number, first_id in enumerate(self._starts[:-1]):
            stream, shard = self._opener.shard(number)
            cache = stream.cache_for(shard)
            if cache is None:
                paths.append((first_id, stream.path_in_place(shard)))
            elif fetch or cache.has(shard):
                paths.append((first_id, cache.fetch(shard, number)))
        return paths

    def describe(self, number: int) -> str:
        """Name a shard, for an error."""
        stream, shard = self._opener.shard(number)
        return stream.storage.url_of(shard.basename)

    # Within the limit ------------------------------------------------------------------------------------------------

    @property
    def keeps_within(self) -> bool:
        """Whether there is a limit, so that what was deleted must not stay mapped."""
        return self._room.limit is not None

    def follow(self, forecast: Forecast, epoch: int, unit: ShuffleUnit) -> None:
        """Let a plan decide what goes first when room is needed.

        Args:
            forecast: When each part of the data is needed.
            epoch: That begins.
            unit: What is fetched at once.

        Raises:
            CacheLimitError: What an epoch reads at the same time is larger than the limit.
        """
        parts = self.shards.parts(unit)
        self._room.follow(forecast.next_uses, parts)
        limit = self._room.limit
        if limit is None:
            return
        sizes, unpacking = self._cached_bytes(parts)
        needed = forecast.uses(epoch).most_bytes(parts.share(sizes)) + unpacking
        if needed > limit:
            raise CacheLimitError(
                f"cache_limit is {limit} bytes ({format_bytes(limit)}), but this order reads shards of {needed} bytes "
                f"({format_bytes(needed)}) at the same time: raise cache_limit= to that at least, or give a smaller "
                f"shuffle_block_size= or num_canonical_nodes="
            )

    def _cached_bytes(self, parts: Parts) -> tuple[IntArray, int]:
        """Tell what each shard takes in the cache, int64 of shape (shards,), and fetching one beside that."""
        sizes = np.zeros(len(self.samples_per_shard), np.int64)
        unpacking = 0
        for stream, first_shard in zip(self._streams, self._opener.first_shards, strict=True):
            number = first_shard
            for group in stream.index.groups if stream.uses_cache else ():
                sizes[number : number + len(group)] = group.raw_bytes
                whole = np.flatnonzero(~parts.is_cut[number : number + len(group)])
                if len(whole):
                    shard = group.shard(int(whole[group.raw_bytes[whole].argmax()]))
                    unpacking = max(unpacking, stream.cache.peak_bytes(shard) - shard.raw_bytes)
                number += len(group)
        return sizes, unpacking


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
    groups = [group for index in indexes for group in index.groups]
    return Shards(
        num_samples=np.concatenate([index.samples_per_shard for index in indexes]),
        rows_per_batch=np.concatenate([index.rows_per_batch for index in indexes]),
        num_bytes=np.concatenate([index.raw_bytes for index in indexes]),
        can_be_cut=np.repeat(
            np.array([has_ranges(group.format, group.compression) for group in groups], np.bool_),
            [len(group) for group in groups],
        ),
    )
