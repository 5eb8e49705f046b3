"""Shards are fetched in the background, one pool of threads a process, in the order in which they will be needed."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from arrowstream.cache import ShardCache
from arrowstream.index import Shard
from arrowstream.per_process import PerProcess

#: Downloads at a time in a process, however many streams and datasets it has.
NUM_THREADS = 4
_pool = PerProcess(lambda: ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="arrowstream-fetch"))


class Prefetcher:
    """The fetches that one iteration has asked for."""

    def __init__(self) -> None:
        self._fetches: dict[int, Future[Path]] = {}

    def request(self, number: int, cache: ShardCache, shard: Shard) -> None:
        """Begin to fetch a shard behind those that were asked for before, unless it is one of them."""
        if number not in self._fetches:
            self._fetches[number] = _pool.get().submit(cache.fetch, shard)

    def wait(self, number: int) -> Path | None:
        """Wait for a shard that was asked for; None when it was not.

        Raises:
            ArrowStreamError: What went wrong in the background, as itself.
        """
        fetch = self._fetches.pop(number, None)
        # Every step of a fetch has a deadline of its own, so this wait has an end.
        return fetch.result() if fetch is not None else None

    def cancel(self) -> None:
        """Forget what has not begun yet: a process that exits would otherwise fetch it first."""
        for fetch in self._fetches.values():
            fetch.cancel()
        self._fetches.clear()
