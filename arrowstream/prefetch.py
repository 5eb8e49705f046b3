"""Shards, or record batches of them, are fetched in the background in the order in which they will be needed."""

import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Container
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from arrowstream.cache import ShardCache
from arrowstream.index import Shard
from arrowstream.per_process import PerProcess
from arrowstream.plan.window import ShuffleUnit

#: Downloads at a time in a process, however many streams and datasets it has.
NUM_THREADS = 4
#: What one iteration has fetched and not read yet, or is fetching, may be so many bytes.
MAX_BYTES_AHEAD = 1 << 30


class Part(NamedTuple):
    """What is fetched at once.

    Attributes:
        number: Of the shard in the dataset.
        batch: Number of the record batch in the shard; None: all of the shard.
    """

    number: int
    batch: int | None


@dataclass(slots=True)
class _Fetch:
    part: Part
    cache: ShardCache
    shard: Shard
    num_bytes: int
    declined: "deque[_Fetch]"  # where it goes when the cache has no room for it yet
    outcome: "Future[Path | None]" = field(default_factory=Future)

    def run(self) -> None:
        if not self.outcome.set_running_or_notify_cancel():
            return
        try:
            number, batch = self.part
            if batch is None:
                path = self.cache.fetch_ahead(self.shard, number)
            else:
                path = self.cache.fetch_batch_ahead(self.shard, batch, number)
        except BaseException as error:  # noqa: BLE001 (handed to who waits for it)
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(path)
            if path is None:
                self.declined.append(self)

    def again(self) -> "_Fetch":
        """Give the same fetch, not begun."""
        return _Fetch(self.part, self.cache, self.shard, self.num_bytes, self.declined)


class _Pool:
    """Threads that do not hold up the end of the process, as an executor's would."""

    def __init__(self) -> None:
        self._fetches: queue.SimpleQueue[_Fetch] = queue.SimpleQueue()
        for _ in range(NUM_THREADS):
            threading.Thread(target=self._work, name="arrowstream-fetch", daemon=True).start()

    def submit(self, fetch: _Fetch) -> None:
        self._fetches.put(fetch)

    def _work(self) -> None:
        while True:
            self._fetches.get().run()


_pool = PerProcess(_Pool)


class Prefetcher:
    """The fetches that one iteration has asked for.

    The first part that is waited for has the line to itself: fetched beside others, it would come as late as they do.

    Attributes:
        unit: What the iteration fetches at once, where a shard can be cut.
    """

    def __init__(self, unit: ShuffleUnit = "shard") -> None:
        self.unit = unit
        self._is_open = False
        self._max_bytes = MAX_BYTES_AHEAD  # one part may always be fetched
        self._bytes_ahead = 0
        self._waiting: OrderedDict[Part, _Fetch] = OrderedDict()  # for those before them to be read
        self._begun: dict[Part, _Fetch] = {}
        self._declined: deque[_Fetch] = deque()

    def request(self, part: Part, cache: ShardCache, shard: Shard, num_bytes: int) -> None:
        """Ask for a part behind those that were asked for before, unless it is one of them.

        Args:
            part: What is to be fetched.
            cache: Where to.
            shard: What the index says of its shard.
            num_bytes: How much it is, about.
        """
        if part not in self._begun and part not in self._waiting:
            self._waiting[part] = _Fetch(part, cache, shard, num_bytes, self._declined)
            if self._is_open:
                self._begin()

    def open(self) -> None:
        """Begin, for the first sample needs no part that is not there."""
        if not self._is_open:
            self._is_open = True
            self._begin()

    def wait(self, part: Part) -> Path | None:
        """Wait for a part that was asked for; None when it was not, or has not begun to be fetched.

        Raises:
            ArrowStreamError: What went wrong in the background, as itself.
        """
        fetch = self._waiting.pop(part, None)
        if not self._is_open:
            if fetch is not None:
                fetch.run()
            self.open()
            return fetch.outcome.result() if fetch is not None else None
        fetch = self._begun.pop(part, None)
        if fetch is None:
            return None
        self._bytes_ahead -= fetch.num_bytes
        self._begin()
        # If no thread is free yet, who needs it fetches it; else every step of a fetch has a deadline of its own.
        return None if fetch.outcome.cancel() else fetch.outcome.result()

    def forget(self, numbers: Container[int]) -> None:
        """Expect nobody to wait for the parts of these shards."""
        self._waiting = OrderedDict(
            (part, fetch) for part, fetch in self._waiting.items() if part.number not in numbers
        )
        for part in [part for part in self._begun if part.number in numbers]:
            fetch = self._begun.pop(part)
            fetch.outcome.cancel()
            self._bytes_ahead -= fetch.num_bytes

    def cancel(self) -> None:
        """Forget what has not begun yet."""
        self._waiting.clear()
        for fetch in self._begun.values():
            fetch.outcome.cancel()
        self._begun.clear()
        self._bytes_ahead = 0

    def _begin(self) -> None:
        declined = self._take_back()
        while self._waiting:
            size = next(iter(self._waiting.values())).num_bytes
            if self._begun and self._bytes_ahead + size > self._max_bytes:
                return
            part, fetch = self._waiting.popitem(last=False)
            self._begun[part] = fetch
            self._bytes_ahead += size
            _pool.get().submit(fetch)
            if declined:
                return  # what is needed later still has no better chance

    def _take_back(self) -> bool:
        """Let those wait again that the cache had no room for ahead of time; tell whether there are any."""
        declined = {id(self._declined.popleft()) for _ in range(len(self._declined))}
        if not declined:
            return False
        # In the order in which they were begun; those that somebody waited for, or forgot, are not among them.
        again = [fetch for fetch in self._begun.values() if id(fetch) in declined]
        for fetch in reversed(again):
            del self._begun[fetch.part]
            self._bytes_ahead -= fetch.num_bytes
            self._waiting[fetch.part] = fetch.again()
            self._waiting.move_to_end(fetch.part, last=False)
        return bool(again)
