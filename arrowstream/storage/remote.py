"""Objects behind a URL: requests that are repeated, ranges that are read in parallel."""

import collections
import concurrent.futures
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from arrowstream.errors import RemoteNotFoundError, StorageError
from arrowstream.storage.entry import Entry
from arrowstream.storage.failures import MAY_PASS, must_be_readable, store_code, translated, why, writing, wrong_length
from arrowstream.storage.file_systems import call_method, file_system, file_system_class, in_thread
from arrowstream.storage.urls import endpoint_note, is_encoded, join_url

RANGE_BYTES = 8 << 20
RANGES_AT_ONCE = 4
BACK_OFF_S = 0.5
# A listing is as many requests as there are thousands of objects, and fsspec makes one call of them.
LISTING_DEADLINES = 10
# Where fsspec's file systems say when an object was written, the surest first.
VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime", "created")


@dataclass(frozen=True, slots=True)
class Remote:
    """Objects are what fsspec finds under a URL."""

    url: str
    options: Mapping[str, object]
    attempts: int
    timeout_s: float

    def size(self, key: str) -> int:
        """Tell how many bytes an object has."""
        info = self._request("look up", key, "info", self._path(key))
        if info.get("type") == "directory":
            raise RemoteNotFoundError(f"{join_url(self.url, key)}: is a directory, expected an object")
        # Some HTTP servers tell no length before they send.
        return int(info["size"]) if info.get("size") is not None else len(self.read(key))

    def read(self, key: str) -> bytes:
        """Read an object as a whole."""
        return bytes(self._request("read", key, "cat_file", self._path(key)))

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read the bytes from ``start`` up to and without ``stop``, all of them."""
        data = self._get(key, start, stop)
        if len(data) > stop - start:
            data = data[start:stop]
        if len(data) != stop - start:
            raise wrong_length(join_url(self.url, key), self.size(key), f"at least {stop}")
        return data

    def download(self, key: str, path: Path, num_bytes: int | None) -> None:
        """Copy an object into a file."""
        size = self.size(key) if num_bytes is None else num_bytes
        with writing(path), path.open("wb", buffering=0) as file:
            # No store answers a range of an empty object.
            whole = self._get_all(key, size, file.fileno()) if size else self.read(key)
            if whole is not None:
                if len(whole) != size:
                    raise wrong_length(join_url(self.url, key), len(whole), str(size))
                _write_at(file.fileno(), whole, 0)

    def _get_all(self, key: str, size: int, file: int) -> bytes | None:
        """Write an object into a file, range by range, a few at a time.

        Returns:
            Nothing; or the whole object, if the server sent that in place of a range.
        """
        starts = collections.deque(range(0, size, RANGE_BYTES))
        enough = threading.Event()

        def work() -> bytes | None:
            while not enough.is_set():
                try:
                    start = starts.popleft()
                except IndexError:
                    return None
                stop = min(start + RANGE_BYTES, size)
                # The last range asks for one byte too many: an object that has it is longer than expected.
                asked = stop + (stop == size)
                data = self._get(key, start, asked)
                if len(data) > asked - start:
                    enough.set()
                    return data
                if len(data) != stop - start:
                    raise wrong_length(join_url(self.url, key), self.size(key), str(size))
                _write_at(file, data, start)
            return None

        workers = [in_thread(work) for _ in range(min(RANGES_AT_ONCE, len(starts)))]
        try:
            concurrent.futures.wait(workers, return_when=concurrent.futures.FIRST_EXCEPTION)
        finally:
            # None may write on once the file is closed, for its number is soon that of another file.
            enough.set()
            concurrent.futures.wait(workers)
        return next((whole for whole in [worker.result() for worker in workers] if whole is not None), None)

    def _get(self, key: str, start: int, stop: int) -> bytes:
        """Ask for a range; the answer is shorter at the object's end, and the whole object from some servers."""
        try:
            return bytes(self._request("read", key, "cat_file", self._path(key), start=start, end=stop))
        except StorageError as error:
            if error.__cause__ is not None and why(error.__cause__) == "beyond":
                return b""
            raise

    def upload(self, path: Path, key: str) -> None:
        """Store a file as an object."""
        must_be_readable(path)
        # One call whatever the size, so the deadline grows with it.
        deadlines = max(1, -(-path.stat().st_size // RANGE_BYTES))
        self._request("upload", key, "put_file", str(path), self._path(key), deadlines=deadlines)

    def write(self, key: str, data: bytes) -> None:
        """Store bytes as an object."""
        self._request("write", key, "pipe_file", self._path(key), data)

    def keys(self) -> Iterator[str]:
        """Find the keys of all objects, in any order."""
        return (key for key, _ in self._find())

    def entries(self) -> Iterator[Entry]:
        """Find all objects with their lengths and versions, in any order."""
        for key, found in self._find():
            size = found.get("size")
            version = next((found[name] for name in VERSIONS if found.get(name)), "")
            # Some HTTP servers list no lengths.
            yield Entry(key, int(size) if size is not None else self.size(key), str(version).strip('"'))

    def _find(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        root = self._path("").rstrip("/")
        try:
            found = self._request("list", "", "find", root, deadlines=LISTING_DEADLINES, detail=True)
            if not found:
                # Where fsspec walks directories, it takes one that it failed to list for an empty one.
                self._request("list", "", "info", root)
        except RemoteNotFoundError as error:
            if store_code(error) == "NoSuchBucket":
                raise
            return
        for name, entry in found.items():
            # The root itself and names that end with a slash stand for directories in some stores.
            if name.startswith(root + "/") and not name.endswith("/"):
                key = name.removeprefix(root + "/")
                yield (unquote(key) if is_encoded(self.url) else key), entry

    def delete(self, key: str) -> None:
        """Delete an object that exists."""
        self._request("delete", key, "rm_file", self._path(key))

    def _path(self, key: str) -> str:
        """Name an object as fsspec's methods want it."""
        root = str(file_system_class(self.url)._strip_protocol(self.url)).rstrip("/")
        return f"{root}/{quote(key) if is_encoded(self.url) else key}"

    def _request(self, verb: str, key: str, method: str, *args: object, deadlines: int = 1, **kwargs: object) -> Any:
        """Call a method of the file system until it succeeds, fails for good, or ``attempts`` are used up.

        Args:
            verb: What is being done, for the error's text.
            key: The object, for the error's text; "" for the directory.
            method: The method's name.
            args: Its arguments.
            deadlines: How many times ``timeout_s`` it may take.
            kwargs: Its keyword arguments.
        """
        begin = time.monotonic()
        attempt = counted = 0
        while True:
            attempt += 1
            try:
                files = file_system(self.url, self.options, self.timeout_s)
                return call_method(files, method, args, kwargs, self.timeout_s * deadlines)
            except Exception as error:
                cause = why(error)
                elapsed_s = time.monotonic() - begin
                counted += cause != "throttled" or elapsed_s >= self.timeout_s
                if counted >= self.attempts or cause not in MAY_PASS:
                    where = join_url(self.url, key) if key else self.url
                    where += endpoint_note(self.url, self.options)
                    tried = f"{attempt} attempt{'s' if attempt > 1 else ''} in {elapsed_s:.1f} s"
                    raise translated(error, cause, f"{where}: cannot {verb}, {tried}") from error
            time.sleep(BACK_OFF_S * (2 ** min(attempt - 1, 5) + random.random()))  # noqa: S311


def _write_at(file: int, data: bytes, start: int) -> None:
    rest = memoryview(data)
    while rest:  # a write may be cut short, by a disk that is almost full or a signal
        written = os.pwrite(file, rest, start)
        rest, start = rest[written:], start + written
