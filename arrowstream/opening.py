"""Which shards are open in a process, as a whole or by record batches, and what is fetched for that."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from arrowstream.cache import Room
from arrowstream.decode import Decoder
from arrowstream.errors import MissingShardError
from arrowstream.index import Shard
from arrowstream.partial import REQUEST_BYTES, PartialShard, costs_more_than_shard
from arrowstream.prefetch import Part, Prefetcher
from arrowstream.shard import MAX_OPEN_BATCHES, MAX_OPEN_SHARDS, BatchMemory, Bind, OpenShard
from arrowstream.stream import Stream

IntArray = npt.NDArray[np.int64]

#: What is fetched of a shard for a sample of it.
RANDOM_ACCESS = ("auto", "shard", "record_batch")
#: A shard that others delete each time before it is opened is an error in the end.
_OPENINGS = 5
# Asking whether what is open was deleted takes a microsecond a file, so it is not asked anew for every one.
_SHARE_UNASKED = 16


class Opener:
    """Opens shards and record batches, fetching them first, and closes those that have been open for longest.

    Args:
        streams: One behind the other.
        room: What their caches may hold.
        allow_unsafe_types: Whether ``pkl`` columns are read.
        random_access: What is fetched where there is no iteration: one of ``RANDOM_ACCESS``.
        columns: Those that are decoded; None: all.

    Attributes:
        whole: The shards that are open, by number.
        partial: Those that are read by record batches, by number.
        first_shards: Number of the first shard of each stream.
        seconds: Spent opening, waiting for arrival included.
        let_go: Called when files were found deleted, for whoever holds what was opened.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        room: Room,
        *,
        allow_unsafe_types: bool,
        random_access: str,
        columns: Sequence[str] | None,
    ) -> None:
        self._streams = streams
        self._room = room
        self._allow_unsafe_types = allow_unsafe_types
        self._random_access = random_access
        self._columns = columns
        num_shards = [stream.index.num_shards for stream in streams]
        self.first_shards: list[int] = np.cumsum([0, *num_shards[:-1]]).tolist()
        self.whole: dict[int, OpenShard] = {}
        self.partial: dict[int, PartialShard] = {}
        self._memory = BatchMemory()
        self._batch_maps = BatchMemory(MAX_OPEN_BATCHES)
        self._rows_per_batch: IntArray = np.concatenate([stream.index.rows_per_batch for stream in streams])
        self.seconds = 0.0
        self._opened_since = 0
        self._num_batches = 0
        self.let_go: Callable[[], None] = lambda: None
        room.let_go = self.drop_deleted

    def shard(self, number: int) -> tuple[Stream, Shard]:
        """Give what the index says of a shard, and its stream."""
        place = bisect_right(self.first_shards, number) - 1
        stream = self._streams[place]
        return stream, stream.shard(number - self.first_shards[place])

    def request(self, shards: IntArray, rows: IntArray, prefetcher: Prefetcher) -> None:
        """Begin to fetch what rows lie in, unless it is open or read in place; what is needed first at the front.

        Args:
            shards: int64 of shape (n,).
            rows: int64 of shape (n,).
            prefetcher: Of the iteration.
        """
        prefetcher.forget(self.whole)  # opened by somebody else meanwhile
        if prefetcher.unit == "shard":
            for number in dict.fromkeys(shards.tolist()):
                self._request_whole(number, prefetcher)
            return
        for number, row in dict.fromkeys(zip(shards.tolist(), self._firsts(shards, rows).tolist(), strict=True)):
            if number in self.whole:
                prefetcher.open()
                continue
            stream, shard = self.shard(number)
            cache = stream.cache_for(shard)
            if cache is None or not cache.can_cut(shard):
                self._request_whole(number, prefetcher)
                continue
            batch = row // shard.rows_per_batch
            partial = self.partial.get(number)
            if partial is None or partial.reads[batch] is None:
                num_bytes = shard.raw_bytes * shard.rows_per_batch // shard.num_samples
                prefetcher.request(Part(number, batch), cache, shard, num_bytes)
            else:
                prefetcher.open()

    def _firsts(self, shards: IntArray, rows: IntArray) -> IntArray:
        """Give the first row of the record batch that each row lies in; 0 where record batches are not known."""
        per_batch = self._rows_per_batch[shards]
        return np.where(per_batch > 0, rows // np.maximum(per_batch, 1) * per_batch, 0)

    def _request_whole(self, number: int, prefetcher: Prefetcher) -> None:
        if number in self.whole:
            prefetcher.open()
            return
        stream, shard = self.shard(number)
        cache = stream.cache_for(shard)
        if cache is not None:
            prefetcher.request(Part(number, None), cache, shard, shard.raw_bytes)
        else:
            prefetcher.open()

    def open(self, number: int, prefetcher: Prefetcher | None = None) -> OpenShard:
        """Open a shard as a whole, waiting for it if it is being fetched.

        It may be closed here while the caller still holds it, and stays readable.
        """
        opened = self.whole.get(number)
        if opened is None:
            began = perf_counter()
            opened = self._open_file(number, prefetcher.wait(Part(number, None)) if prefetcher is not None else None)
            self.seconds += perf_counter() - began
            if len(self.whole) >= MAX_OPEN_SHARDS:
                for oldest in tuple(self.whole)[:1]:  # of a copy: other threads open and close meanwhile
                    self.whole.pop(oldest, None)
            self.whole[number] = opened
            self.partial.pop(number, None)
        return opened

    def schema(self, number: int) -> pa.Schema:
        """Give the schema of a shard, from its footer where that does."""
        opened = self.whole.get(number) or self.partial.get(number)
        if opened is None and self._random_access != "shard":
            opened = self._open_partially(number, np.zeros(1, np.int64), "record_batch")
        return (opened or self.open(number)).schema

    def open_rows(self, number: int, rows: IntArray, prefetcher: Prefetcher | None = None) -> OpenShard | PartialShard:
        """Open a shard for some of its rows, of which no more may be fetched than the record batches they are in.

        Args:
            number: Of the shard.
            rows: int64 of shape (n,), at least one.
            prefetcher: Of an iteration, which says what to fetch. None: the choice for random access says it.
        """
        unit = prefetcher.unit if prefetcher is not None else self._random_access
        opened = self.whole.get(number)
        if opened is not None or unit == "shard":
            return opened or self.open(number, prefetcher)
        partial = self.partial.get(number)
        batches = _batches(rows, partial.rows_per_batch) if partial is not None else []
        if partial is not None and all(partial.reads[batch] is not None for batch in batches):
            return partial
        if prefetcher is not None:
            began = perf_counter()
            for batch in _batches(rows, int(self._rows_per_batch[number])):
                prefetcher.wait(Part(number, batch))
            self.seconds += perf_counter() - began
        partial = partial or self._open_partially(number, rows, unit)
        if partial is None:
            return self.open(number, prefetcher)
        batches = _batches(rows, partial.rows_per_batch)
        if unit == "auto" and partial.would_cost(batches) >= self.shard(number)[1].file_bytes + REQUEST_BYTES:
            return self.open(number, prefetcher)
        if number not in self.partial and len(self.partial) >= MAX_OPEN_BATCHES:
            for oldest in tuple(self.partial)[:1]:
                self.partial.pop(oldest, None)
        self.partial[number] = partial
        self.keep_within()
        return partial

    def _open_partially(self, number: int, rows: IntArray, unit: str) -> PartialShard | None:
        stream, shard = self.shard(number)
        cache = stream.cache_for(shard)
        if cache is None or not cache.can_cut(shard) or cache.has(shard):
            return None
        if unit == "auto" and costs_more_than_shard(shard, len(_batches(rows, shard.rows_per_batch))):
            return None
        footer = cache.fetch_footer(shard)
        if footer is None:
            return None
        url = stream.storage.url_of(shard.basename)
        return PartialShard(cache, shard, number, footer, make_bind=self._make_bind(url), memory=self._batch_maps)

    def _open_file(self, number: int, path: Path | None) -> OpenShard:
        stream, shard = self.shard(number)
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

    def _map(self, path: Path, shard: Shard, *, trusted: bool) -> OpenShard:
        return OpenShard(path, shard, self._make_bind(str(path)), trusted=trusted, memory=self._memory)

    def _make_bind(self, source: str) -> Callable[[pa.Schema], Bind]:
        def make_bind(schema: pa.Schema) -> Any:
            return Decoder(
                schema, allow_unsafe_types=self._allow_unsafe_types, source=source, columns=self._columns
            ).bind

        return make_bind

    def keep_within(self) -> None:
        """Let go of what others deleted to keep the limit, or because the disk is full."""
        self._opened_since += 1
        if self._opened_since * _SHARE_UNASKED > len(self.whole) + self._num_batches:
            self.drop_deleted()

    def drop_deleted(self) -> None:
        """Let go of what was deleted: as long as it is mapped, its space is not free."""
        self._opened_since = 0
        for number, opened in list(self.whole.items()):
            if opened.is_deleted():
                self.whole.pop(number, None)
        self._num_batches = sum(partial.drop_deleted() for partial in list(self.partial.values()))
        self.let_go()


def _batches(rows: IntArray, rows_per_batch: int) -> list[int]:
    batches: list[int] = np.unique(rows // max(rows_per_batch, 1)).tolist()
    return batches
