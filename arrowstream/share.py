"""One process's share of an epoch, while it is being read: a sample or a batch at a time."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.batches import BatchReader, whole_batches
from arrowstream.cursor import Cursor
from arrowstream.padding import mark_padding
from arrowstream.plan.epoch_plan import EpochPlan
from arrowstream.plan.state import Position
from arrowstream.plan.uses import Forecast
from arrowstream.prefetch import Prefetcher
from arrowstream.read_ahead import read_ahead
from arrowstream.reader import Reader
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one process reads of an epoch.

    Attributes:
        reader: Opens the shards.
        plan: The order.
        world: Which process this is of how many.
        position: Where it begins.
        cursor: Counts what is given out.
        predownload: Samples to look ahead when fetching shards.
        marks_padding: Whether samples say if they were read before.
    """

    reader: Reader
    plan: EpochPlan
    world: World
    position: Position
    cursor: Cursor
    predownload: int
    marks_padding: bool
    _prefetcher: Prefetcher = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_prefetcher", Prefetcher(self.plan.unit))

    def samples(self, get: Callable[[int], Any] | None) -> Iterator[Any]:
        """Read sample by sample.

        Args:
            get: Makes a sample of an id, its shard being open; None: the samples as they are stored.
        """
        # Joined without a generator: each one that a sample passes through costs it 30 ns.
        samples: Iterator[Any] = chain.from_iterable(self._read_chunks(get))
        if self.marks_padding:
            padding_at = self.plan.padding_at(self.world, self.position)
            samples = mark_padding(samples, padding_at, self.position.skipped)
        self._foresee()
        try:
            yield from samples
        finally:
            self._prefetcher.cancel()

    def _read_chunks(self, get: Callable[[int], Any] | None) -> Iterator[Iterator[Any]]:
        for ids, shards, rows in self._look_ahead():
            places = self.cursor.follow(shards.tolist())
            if get is None:
                yield self.reader.read_each(places, rows.tolist(), self._prefetcher)
            else:
                yield self._get_each(get, ids, places, rows.tolist())

    def _get_each(
        self, get: Callable[[int], Any], ids: IntArray, shards: Iterator[int], rows: list[int]
    ) -> Iterator[Any]:
        for shard, row, sample_id in zip(shards, rows, ids, strict=True):
            self.reader.make_ready(shard, row, self._prefetcher)
            yield get(sample_id)

    def batches(self, batch_reader: BatchReader, batch_size: int, num_ahead: int = 0) -> Iterator[Any]:
        """Read batch by batch; the last one may be short.

        Args:
            batch_reader: Reads them.
            batch_size: Samples of each.
            num_ahead: Batches that a thread may read ahead. They count when they are given out.
        """
        self._foresee()
        try:
            for batch, num_samples in read_ahead(self._read_batches(batch_reader, batch_size), num_ahead):
                self.cursor.advance(num_samples)
                yield batch
        finally:
            self._prefetcher.cancel()

    def _read_batches(self, batch_reader: BatchReader, batch_size: int) -> Iterator[tuple[Any, int]]:
        padding_at = self.plan.padding_at(self.world, self.position)
        first = self.position.skipped
        for ids, shards, rows in whole_batches(self._look_ahead(), batch_size):
            reading = batch_reader.read(ids, shards, rows, batch_size, self._prefetcher)
            for start in range(0, len(ids), batch_size):
                num_samples = min(batch_size, len(ids) - start)
                began = perf_counter()
                batch = next(reading)
                if self.marks_padding:
                    batch = batch_reader.marked(batch, np.arange(first, first + num_samples) == padding_at)
                first += num_samples
                self.cursor.read_s += perf_counter() - began
                yield batch, num_samples

    def _foresee(self) -> None:
        """Tell the cache which shards will be needed when."""
        plan, world, position, cursor = self.plan, self.world, self.position, self.cursor
        sharers = world.num_ranks * world.workers_per_rank // (plan.replication or 1)
        forecast = Forecast(
            lambda epoch: plan.uses(world, epoch),
            position.epoch,
            # All processes of the job are taken to be about as far as this one.
            lambda: position.sample + (position.skipped + cursor.samples) * sharers,
        )
        self.reader.follow(forecast, position.epoch, plan.unit)

    def _look_ahead(self) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
        """Give ids, shards and rows in chunks; the shards of later chunks are being fetched by then."""
        queue: deque[tuple[IntArray, IntArray, IntArray]] = deque()
        queued = 0
        skipped = self.position.skipped
        for chunk in self.plan.sample_ids(self.world, self.position):
            ids, skipped = chunk[skipped:], max(skipped - len(chunk), 0)
            shards, rows = self.reader.locate(ids)
            self.reader.request(shards, rows, self._prefetcher)
            queue.append((ids, shards, rows))
            queued += len(ids)
            while queue and queued - len(queue[0][0]) >= self.predownload:
                queued -= len(queue[0][0])
                yield queue.popleft()
        yield from queue
