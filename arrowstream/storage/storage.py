"""The one class that everybody else uses."""

import contextlib
import functools
import os
from collections.abc import Mapping
from pathlib import Path

from arrowstream.errors import RemoteNotFoundError
from arrowstream.per_process import PerProcess
from arrowstream.storage.client import Client, client_for
from arrowstream.storage.cost import Cost, Meter
from arrowstream.storage.counted import CountedClient
from arrowstream.storage.directory import Directory
from arrowstream.storage.entry import Entry
from arrowstream.storage.ordered_file import Look
from arrowstream.storage.remote import Remote
from arrowstream.storage.urls import check_key, endpoint_note, join_url, local_path_of


class Storage:
    """A directory of objects, near or far: everything under one URL.

    Keys are relative POSIX paths (``train/shard.00000.arrow``); a key that would leave the directory is refused with
    ValueError. All methods may be called from several threads, before and after a fork.

    Every method raises RemoteNotFoundError for what does not exist, RemoteAccessError for what may not be read,
    RemoteTimeoutError where no answer came in time, StorageError for any other failure, ValueError for a URL whose
    protocol nobody knows and MissingDependencyError where the protocol's package is not installed.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        options: Mapping[str, object] | None = None,
        attempts: int = 2,
        timeout_s: float = 60.0,
    ) -> None:
        """Remember where the objects are; nothing is contacted yet.

        Args:
            url: A path, a ``file://`` URL, a URL of any protocol that fsspec knows, or one of mosaicml-streaming's.
            options: Handed to fsspec's file system as they are: credentials, endpoint, region. One is ours,
                ``client``: "obstore" or "fsspec", to have the one or the other.
            attempts: How often a request is made in all. Answers that ask for patience (429, ``SlowDown``) do not
                count until ``timeout_s`` has passed.
            timeout_s: Deadline of one request. A large object is many requests, one for each 8 MiB.

        Raises:
            ValueError: ``attempts`` or ``timeout_s`` is not positive.
        """
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}, expected at least 1")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is {timeout_s}, expected a number of seconds above 0")
        self.url = os.fspath(url)
        self.options = dict(options or {})
        self.attempts = attempts
        self.timeout_s = timeout_s
        self.local_path = local_path_of(self.url)
        # Found out at the first request, by each process: the environment counts, and what is installed.
        self._meter = Meter()
        self._client = PerProcess(functools.partial(_counted_client, self.url, self.options, timeout_s, self._meter))

    def __repr__(self) -> str:
        return f"Storage({self.url!r})"  # without the options, which hold secrets

    @property
    def _backend(self) -> "Directory | Remote":
        if self.local_path is not None:
            return Directory(self.local_path, self._meter)
        note = endpoint_note(self.url, self.options)
        return Remote(self.url, self._client.get(), self.attempts, self.timeout_s, note)

    @property
    def client(self) -> str:
        """What carries the bytes: ``files``, ``obstore``, or ``fsspec (s3fs): …`` with the reason."""
        return "files" if self.local_path is not None else self._client.get().name

    @property
    def cost(self) -> Cost:
        """What this process has asked of the remote with this object."""
        return self._meter.cost

    @property
    def canonical_url(self) -> str:
        """The same for every spelling of the place."""
        return str(self.local_path.resolve()) if self.local_path is not None else self.url.rstrip("/")

    def url_of(self, key: str) -> str:
        """Name one object, percent-encoded where the protocol wants it (``file``, ``http``, ``https``)."""
        check_key(key)
        return join_url(self.url, key)

    def read(self, key: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Read an object, or its bytes from ``start`` up to and without ``stop``.

        Raises:
            StorageError: The object ends before ``stop``.
            ValueError: The range is negative.
        """
        check_key(key)
        if start is None and stop is None:
            return self._backend.read(key)
        start = start or 0
        if start < 0 or (stop is not None and stop < start):
            raise ValueError(f"{self.url_of(key)}: no range from {start} to {stop}, expected 0 <= start <= stop")
        if stop is None:
            stop = max(start, self._backend.size(key))
        return self._backend.read_range(key, start, stop) if start < stop else b""

    def download(self, key: str, path: Path, *, num_bytes: int | None = None, look: Look | None = None) -> None:
        """Copy an object into a file, which is created or truncated and is incomplete until this returns.

        Args:
            key: The object.
            path: The file. To make it appear at once, give a temporary name and rename it.
            num_bytes: How long the object has to be; it saves a request to say so.
            look: Is given the object's bytes from its beginning to its end as they arrive, to hash them, say; by one
                thread at a time, not always the same.

        Raises:
            StorageError: The object is not ``num_bytes`` long.
            UnwritableError: The file cannot be written; ``errno`` says why.
        """
        check_key(key)
        self._backend.download(key, path, num_bytes, look)

    def upload(self, path: Path, key: str) -> None:
        """Store a file as an object, which appears complete or not at all.

        Raises:
            UnwritableError: The storage is local and does not take it.
        """
        check_key(key)
        self._backend.upload(path, key)

    def write(self, key: str, data: bytes) -> None:
        """Store a small object, which appears complete or not at all.

        Raises:
            UnwritableError: The storage is local and does not take it.
        """
        check_key(key)
        self._backend.write(key, data)

    def size(self, key: str) -> int:
        """Tell how many bytes an object has."""
        check_key(key)
        return self._backend.size(key)

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object; a directory is none."""
        check_key(key)
        try:
            self._backend.size(key)
        except RemoteNotFoundError:
            return False
        return True

    def entries(self) -> list[Entry]:
        """Find all objects below, with their lengths and versions, sorted by key; from listings alone."""
        return sorted(self._backend.entries(), key=lambda entry: entry.key)

    def list(self) -> list[str]:
        """Find the keys of all objects below, sorted; none where the directory does not exist.

        Unfinished files of a local ``write`` or ``upload`` (``.*.tmp``) are no objects.
        """
        return sorted(self._backend.keys())

    def delete(self, key: str) -> None:
        """Delete an object; one that is gone already is as good."""
        check_key(key)
        with contextlib.suppress(RemoteNotFoundError):
            self._backend.delete(key)


def _counted_client(url: str, options: Mapping[str, object], timeout_s: float, meter: Meter) -> Client:
    return CountedClient(client_for(url, options, timeout_s), meter)
