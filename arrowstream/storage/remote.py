"""Objects behind a URL: requests that are repeated, ranges that are read in parallel."""

import collections
import concurrent.futures
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from arrowstream.errors import UnwritableError
from arrowstream.storage.client import Client
from arrowstream.storage.entry import Entry
from arrowstream.storage.failures import (
    MAY_PASS,
    ShortAnswerError,
    must_be_readable,
    retry_after_s,
    translated,
    why,
    writing,
    wrong_length,
)
from arrowstream.storage.in_flight import bytes_in_flight
from arrowstream.storage.ordered_file import Arrival, Look, OrderedFile
from arrowstream.storage.threads import in_thread
from arrowstream.storage.urls import join_url

T = TypeVar("T")

RANGE_BYTES = 8 << 20
RANGES_AT_ONCE = 4
BACK_OFF_S = 0.5
# Each of those before us may take a whole deadline, and there may be several of them.
ROOM_DEADLINES = 10


@dataclass(frozen=True, slots=True)
class Remote:
    """Objects are what a client finds under a URL.

    Attributes:
        url: The directory, as the user wrote it.
        client: Who makes the requests.
        attempts: How often a request is made in all.
        timeout_s: Deadline of one request, and how long a store may ask for patience.
        note: What errors say behind the URL.
    """

    url: str
    client: Client
    attempts: int
    timeout_s: float
    note: str

    def size(self, key: str) -> int:
        """Tell how many bytes an object has."""
        size = self._request("look up", key, lambda: self.client.size(key))
        return len(self.read(key)) if size is None else size

    def read(self, key: str) -> bytes:
        """Read an object as a whole."""
        with self._room(RANGE_BYTES):
            return bytes(self._request("read", key, lambda: self.client.read(key)))

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read the bytes from ``start`` up to and without ``stop``, all of them."""
        with self._room(stop - start):
            found = self._get(key, start, stop, stop)
            if len(found) > stop - start:
                found = found[start:stop]
            if len(found) != stop - start:
                raise wrong_length(join_url(self.url, key), self.size(key), f"at least {stop}")
            return bytes(found)

    def download(self, key: str, path: Path, num_bytes: int | None, look: Look | None) -> None:
        """Copy an object into a file."""
        size = self.size(key) if num_bytes is None else num_bytes
        # Read again are pieces that came before their turn.
        with writing(path), path.open("w+b", buffering=0) as file:
            target = OrderedFile(file, look)
            # No store answers a range of an empty object.
            whole = self._get_all(key, size, target) if size else self.read(key)
            if whole is not None:
                if len(whole) != size:
                    raise wrong_length(join_url(self.url, key), len(whole), str(size))
                target.write_whole(whole)

    def _get_all(self, key: str, size: int, target: OrderedFile) -> bytes | memoryview | None:
        """Write an object into a file, range by range, a few at a time.

        Returns:
            Nothing; or the whole object, if the server sent that in place of a range.
        """
        starts = collections.deque(range(0, size, RANGE_BYTES))
        enough = threading.Event()

        def work() -> bytes | memoryview | None:
            while not enough.is_set():
                try:
                    start = starts.popleft()
                except IndexError:
                    return None
                whole = self._get_into(target, key, start, size)
                if whole is not None:
                    enough.set()
                    return whole
            return None

        if len(starts) == 1:
            return work()
        workers = [in_thread(work) for _ in range(min(RANGES_AT_ONCE, len(starts)))]
        try:
            concurrent.futures.wait(workers, return_when=concurrent.futures.FIRST_EXCEPTION)
        finally:
            # None may write on once the file is closed, for its number is soon that of another file.
            enough.set()
            concurrent.futures.wait(workers)
        return next((whole for whole in [worker.result() for worker in workers] if whole is not None), None)

    def _get_into(self, target: OrderedFile, key: str, start: int, size: int) -> bytes | memoryview | None:
        """Write the range that begins at ``start`` into a file; or give the whole object, if that came."""
        stop = min(start + RANGE_BYTES, size)
        # The last range asks for one byte too many: an object that has it is longer than expected.
        asked = stop + (stop == size)
        arrival = Arrival(target, start)

        def send() -> bytes | memoryview | None:
            if arrival.position == asked:
                return None
            whole = self.client.send_range(key, arrival.position, asked, arrival.take)
            if whole is None:
                self._must_not_go_on(key, start, arrival.position, stop)
            return whole

        with self._room(asked - start):
            try:
                whole = self._request("read", key, send)
            finally:
                arrival.end()
            if whole is None and arrival.position != stop:
                raise wrong_length(join_url(self.url, key), self.size(key), str(size))
            return whole

    def _get(self, key: str, start: int, stop: int, needed: int) -> bytes | memoryview:
        """Ask for a range.

        Args:
            key: The object.
            start: The first byte.
            stop: The byte behind the last.
            needed: Where the answer may end at the earliest, unless the object ends there.

        Returns:
            The range; less of it where the object ends; all of the object from servers that know no ranges.
        """

        def get() -> bytes | memoryview:
            found = self.client.read_range(key, start, stop)
            self._must_not_go_on(key, start, start + len(found), needed)
            return found

        return self._request("read", key, get)

    def _must_not_go_on(self, key: str, start: int, end: int, needed: int) -> None:
        """Raise where an answer from ``start`` ended before it had to, and it is not the object that ends there."""
        if end < needed:
            size = self.client.size(key)
            if size is not None and size >= needed:
                raise ShortAnswerError(f"sent {end - start} of {needed - start} bytes, and called it complete")

    def upload(self, path: Path, key: str) -> None:
        """Store a file as an object."""
        must_be_readable(path)
        with self._room(min(path.stat().st_size, RANGES_AT_ONCE * RANGE_BYTES)):
            self._request("upload", key, lambda: self.client.upload(path, key))

    def write(self, key: str, data: bytes) -> None:
        """Store bytes as an object."""
        with self._room(len(data)):
            self._request("write", key, lambda: self.client.write(key, data))

    def keys(self) -> Iterator[str]:
        """Find the keys of all objects, in any order."""
        return (entry.key for entry in self._request("list", "", self.client.entries))

    def entries(self) -> Iterator[Entry]:
        """Find all objects with their lengths and versions, in any order."""
        for entry in self._request("list", "", self.client.entries):
            # Some HTTP servers list no lengths.
            yield entry if entry.num_bytes >= 0 else replace(entry, num_bytes=self.size(entry.key))

    def delete(self, key: str) -> None:
        """Delete an object that exists."""
        self._request("delete", key, lambda: self.client.delete(key))

    def _room(self, num_bytes: int) -> contextlib.AbstractContextManager[None]:
        return bytes_in_flight().hold(num_bytes, ROOM_DEADLINES * self.timeout_s)

    def _request(self, verb: str, key: str, act: Callable[[], T]) -> T:
        """Ask until it succeeds, fails for good, or ``attempts`` are used up.

        Answers that ask for patience do not count before ``timeout_s`` has passed.

        Args:
            verb: What is being done, for the error's text.
            key: The object, for the error's text; "" for the directory.
            act: One attempt.
        """
        begin = time.monotonic()
        attempt = counted = 0
        while True:
            attempt += 1
            try:
                return act()
            except UnwritableError:
                raise
            except Exception as error:
                cause = why(error)
                elapsed_s = time.monotonic() - begin
                pause_s = _pause_s(attempt, retry_after_s(error) if cause == "throttled" else None)
                is_late = elapsed_s + pause_s > self.timeout_s
                counted += cause != "throttled" or is_late
                if counted >= self.attempts or cause not in MAY_PASS or (cause == "throttled" and is_late):
                    where = (join_url(self.url, key) if key else self.url) + self.note
                    tried = f"{attempt} attempt{'s' if attempt > 1 else ''} in {elapsed_s:.1f} s"
                    raise translated(error, cause, f"{where}: cannot {verb}, {tried}") from error
            time.sleep(pause_s)


def _pause_s(attempt: int, asked_s: float | None) -> float:
    """Tell how long to wait before the next attempt: twice as long each time, with jitter, and no less than asked."""
    doubled = float(BACK_OFF_S * (2 ** min(attempt - 1, 5) + random.random()))  # noqa: S311
    return max(doubled, asked_s or 0.0)
