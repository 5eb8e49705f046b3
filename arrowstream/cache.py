"""The cache: a directory of Arrow IPC files, each of which is whole or not there.

A shard arrives under a temporary name, is checked (length, hash, every record batch), written to the disk and renamed.
So a process may be killed at any moment, any file may be deleted at any moment, and several jobs may share a directory.
A lock saves them from fetching the same shard twice; nothing but time is lost when it fails.
"""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

import xxhash

from arrowstream import ipc
from arrowstream.compression import decompress_file
from arrowstream.errors import (
    ArrowStreamError,
    CorruptShardError,
    MissingShardError,
    RemoteNotFoundError,
    UnwritableError,
)
from arrowstream.hashing import DEFAULT_HASH, hash_file
from arrowstream.index import PRIVATE_FOLDER, Shard
from arrowstream.per_process import PerProcess
from arrowstream.registry import load_format
from arrowstream.storage import Storage

_FULL_OR_READ_ONLY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT}  # or taken away, with all that it held
_log = logging.getLogger(__name__)


class ShardCache:
    """The shards of one remote directory that lie on this machine's disk.

    Args:
        storage: Where the shards come from.
        directory: Where they go.
        validate_hash: The hash to check them with; None: the one that every writer stores.
        attempts: How often a shard whose bytes are wrong is fetched before it is an error.
        lock_timeout_s: How long to wait for another process that is fetching the same shard, before fetching it too.
    """

    def __init__(
        self,
        storage: Storage,
        directory: Path,
        *,
        validate_hash: str | None = None,
        attempts: int = 2,
        lock_timeout_s: float = 300.0,
    ) -> None:
        self.storage = storage
        self.directory = directory
        self._validate_hash = validate_hash
        self._attempts = attempts
        self._lock_timeout_s = lock_timeout_s
        self._swept_by = 0

    def path(self, shard: Shard) -> Path:
        """Name the place of a shard, whether it is there or not."""
        return self.directory / cached_name(shard)

    def has(self, shard: Shard) -> bool:
        """Tell whether the shard lies in the cache, with the content that the index asks for."""
        path = self.path(shard)
        try:
            return ipc.content_of(ipc.open_file(path).schema) == shard.content
        except MissingShardError:
            return False
        except CorruptShardError:
            # Nobody writes here but by renaming a whole file: somebody else damaged it, and it is fetched again.
            return False

    def fetch(self, shard: Shard) -> Path:
        """Give the shard's file, which is fetched unless it is there.

        Raises:
            StorageError: The remote failed.
            CorruptShardError: What the remote holds is not what the index describes.
            UnwritableError: The directory or the disk takes no file.
        """
        path = self.path(shard)
        if self.has(shard):
            return path
        private = self.directory / PRIVATE_FOLDER
        with _writable(self.directory):
            (private / "tmp").mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(private / "tmp")
            with _claims.get().claim(private / "lock", cached_name(shard), self._lock_timeout_s):
                if not self.has(shard):
                    self._fetch_claimed(shard, path, private / "tmp")
        return path

    def _fetch_claimed(self, shard: Shard, path: Path, temporary: Path) -> None:
        prefix = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
        arrived, plain, ready = (temporary / f"{prefix}.{step}" for step in ("arrived", "plain", "ready"))
        try:
            for attempt in range(1, self._attempts + 1):
                try:
                    self._arrive(shard, arrived, plain, ready)
                    break
                except CorruptShardError as error:
                    if attempt == self._attempts:
                        raise CorruptShardError(
                            f"{self.storage.url_of(shard.basename)}: {error}; fetched {attempt} times with the same "
                            f"result: the shard or the index is damaged, write it again"
                        ) from error
            _flush(ready)
            ready.replace(path)
            _flush(path.parent)
        finally:
            for leftover in (arrived, plain, ready):
                leftover.unlink(missing_ok=True)

    def _arrive(self, shard: Shard, arrived: Path, plain: Path, ready: Path) -> None:
        try:
            self.storage.download(shard.basename, arrived, num_bytes=shard.file_bytes)
        except RemoteNotFoundError as error:
            raise MissingShardError(
                f"{self.storage.url_of(shard.basename)}: does not exist, but the index names it; "
                f"was it deleted, or is the dataset being written again?"
            ) from error
        self._check_bytes(shard, arrived)
        codec = wrapping(shard)
        if codec is not None:
            decompress_file(arrived, plain, codec, num_bytes=shard.raw_bytes)
        else:
            arrived.replace(plain)
        load_format(shard.format).transcode(plain, ready, shard)
        reader = ipc.open_file(ready)
        ipc.validate(reader, ready, shard.num_samples)
        if ipc.content_of(reader.schema) != shard.content:
            raise CorruptShardError(
                f"holds the content {ipc.content_of(reader.schema)!r}, the index says {shard.content!r}"
            )

    def _check_bytes(self, shard: Shard, file: Path) -> None:
        num_bytes = file.stat().st_size
        if num_bytes != shard.file_bytes:
            raise CorruptShardError(f"is {num_bytes} bytes long, the index says {shard.file_bytes}")
        name = self._validate_hash or (DEFAULT_HASH if DEFAULT_HASH in shard.hashes else None)
        if name is None:
            return
        expected = shard.hashes.get(name)
        if expected is None:
            written = ", ".join(sorted(shard.hashes)) or "none"
            raise ValueError(
                f"{self.storage.url_of(shard.basename)}: validate_hash={name!r} was not written; hashes: {written}"
            )
        found = hash_file(file, [name])[name]
        if found != expected:
            raise CorruptShardError(f"its {name} is {found}, the index says {expected}")

    def _sweep(self, temporary: Path) -> None:
        """Delete what processes of this machine left behind when they were killed."""
        if self._swept_by == os.getpid():
            return
        self._swept_by = os.getpid()
        host = socket.gethostname()
        for leftover in temporary.iterdir():
            owner = leftover.name.removeprefix(f"{host}-").partition("-")[0]
            if leftover.name.startswith(f"{host}-") and owner.isdecimal() and not _is_alive(int(owner)):
                leftover.unlink(missing_ok=True)


def cached_name(shard: Shard) -> str:
    """Name the Arrow IPC file of a shard, relative to the cache's directory."""
    name = shard.basename.removesuffix(f".{wrapping(shard)}")
    # A foreign Arrow file and its twin that can be mapped are two files.
    return name if name.endswith(".arrow") and load_format(shard.format).in_place else f"{name}.arrow"


def wrapping(shard: Shard) -> str | None:
    """Name the codec that is wrapped around a shard's file; None where there is none, or the format has it inside."""
    codec = (shard.compression or "").partition(":")[0]
    return codec if codec and codec not in load_format(shard.format).codecs else None


class _Claims:
    """Who fetches what: one lock a shard between the threads of this process, one between processes."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._by_name: WeakValueDictionary[tuple[Path, str], threading.Lock] = WeakValueDictionary()
        self._files: dict[Path, tuple[BinaryIO, int]] = {}  # and how many claims use it

    @contextlib.contextmanager
    def claim(self, lock_file: Path, name: str, timeout_s: float) -> Iterator[None]:
        place = xxhash.xxh3_64_intdigest(name.encode()) >> 2  # below 2^63: an offset
        with self._open(lock_file) as file:
            with self._guard:
                between_threads = self._by_name.setdefault((lock_file, name), threading.Lock())
            with between_threads:
                held = _lock_byte(file, place, name, timeout_s)
                try:
                    yield
                finally:
                    if held:
                        fcntl.lockf(file, fcntl.LOCK_UN, 1, place)

    @contextlib.contextmanager
    def _open(self, lock_file: Path) -> Iterator[BinaryIO]:
        """Open a file once for all its claims: closing any descriptor of it frees all record locks of the process."""
        with self._guard:
            file, users = self._files.get(lock_file) or (lock_file.open("ab"), 0)
            self._files[lock_file] = (file, users + 1)
        try:
            yield file
        finally:
            with self._guard:
                _, users = self._files.pop(lock_file)
                if users > 1:
                    self._files[lock_file] = (file, users - 1)
                else:
                    file.close()


# One for all caches of a process: record locks do not keep its threads apart.
_claims = PerProcess(_Claims)


def _lock_byte(file: BinaryIO, place: int, name: str, timeout_s: float) -> bool:
    """Lock one byte of a file; the kernel frees it when this process dies.

    Returns:
        Whether it is held. After the deadline, and on file systems without locks, the work goes on without.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return False
    else:
        return True
    outcome: Future[bool] = Future()

    def wait() -> None:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, place)
        except OSError:  # no deadlock comes of it: the kernel saw one, and this process goes on without the lock
            outcome.set_result(False)
            return
        if outcome.set_running_or_notify_cancel():
            outcome.set_result(True)
        else:
            with contextlib.suppress(ValueError):  # the file was closed, and the lock is gone with it
                fcntl.lockf(file, fcntl.LOCK_UN, 1, place)

    # The kernel wakes the waiter, but its wait has no deadline; so it is a thread's that may be left behind.
    threading.Thread(target=wait, name="arrowstream-lock", daemon=True).start()
    try:
        return outcome.result(timeout_s)
    except TimeoutError:
        if not outcome.cancel():
            return outcome.result()
        _log.warning("%s: another process has been fetching it for %.0f s; fetching it here too", name, timeout_s)
        return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk: a rename must not outlive its data."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _writable(directory: Path) -> Iterator[None]:
    try:
        yield
    except ArrowStreamError:
        raise
    except OSError as error:
        if error.errno not in _FULL_OR_READ_ONLY | _IN_THE_WAY:
            raise
        raise UnwritableError(
            error.errno, f"{error.strerror}; give another directory as local=, or make room in this one", str(directory)
        ) from error
