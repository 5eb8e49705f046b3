"""Locks between threads and processes that the kernel frees when their holder dies, however it dies.

On Linux they are *open file description* locks: a byte of a file, held by one opening of it, which keeps threads of one
process apart as well as processes, and knows no EDEADLK. Elsewhere ``flock`` on one of a few files does the same for
all names that fall on it.
"""

import contextlib
import errno
import fcntl
import logging
import os
import struct
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import xxhash

_OFD = sys.platform == "linux" and sys.maxsize > 2**32 and hasattr(fcntl, "F_OFD_SETLK")
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock: type, whence, start, length, process (0 for this kind of lock)
_NUM_FILES = 64  # where there is flock alone
_TAKEN = (errno.EACCES, errno.EAGAIN)
_log = logging.getLogger(__name__)

# A fork hands every open file on, and with it the lock: a child would hold what its parent died over.
_descriptors: set[int] = set()


def _close_inherited() -> None:
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_inherited)


class Lock:
    """One opening of a file, locked or not.

    Args:
        file: The file.
        name: What is locked in it; "" locks the file as a whole.
        create: Whether the file is created where it does not exist.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, file: Path, name: str = "", *, create: bool = True) -> None:
        self._place = xxhash.xxh3_64_intdigest(name.encode()) >> 2 if name else 0  # below 2^62: an offset
        self._length = 1 if name else 0  # 0: all of it
        if name and not _OFD:
            file = file.with_name(f"{file.name}.{self._place % _NUM_FILES}")
        self._descriptor: int | None = os.open(file, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o666)
        _descriptors.add(self._descriptor)

    def take(self, *, timeout_s: float = 0.0) -> bool:
        """Lock it, waiting as long as another holds it.

        Returns:
            Whether it is held. After the deadline, and on file systems without locks, it is not.
        """
        assert self._descriptor is not None
        try:
            self._set(self._descriptor, wait=False)
        except OSError as error:
            return self._wait(timeout_s) if error.errno in _TAKEN and timeout_s > 0 else False
        return True

    def is_taken(self) -> bool:
        """Tell whether another holds it; on file systems without locks nobody can tell, and it counts as taken."""
        return not self.take()

    def close(self) -> None:
        """Free it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _free(descriptor)

    def _set(self, descriptor: int, *, wait: bool) -> None:
        if _OFD:
            command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
            fcntl.fcntl(descriptor, command, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self._place, self._length, 0))
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def _wait(self, timeout_s: float) -> bool:
        # The kernel wakes who waits, but its wait has no deadline; so it is a thread's that may be left behind.
        assert self._descriptor is not None
        descriptor = self._descriptor
        outcome: Future[bool] = Future()

        def wait() -> None:
            try:
                self._set(descriptor, wait=True)
                held = True
            except OSError:
                held = False
            if outcome.set_running_or_notify_cancel():
                outcome.set_result(held)
            else:
                _free(descriptor)

        threading.Thread(target=wait, name="arrowstream-lock", daemon=True).start()
        try:
            return outcome.result(timeout_s)
        except TimeoutError:
            if not outcome.cancel():
                return outcome.result()
            self._descriptor = None  # the thread's now
            return False


def _free(descriptor: int) -> None:
    # Out of the set first: a fork in between must not close what the number means by then.
    _descriptors.discard(descriptor)
    with contextlib.suppress(OSError):  # by hand, since a child that was forked just now holds the file too
        if _OFD:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))
        else:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextlib.contextmanager
def locked(file: Path, name: str, *, timeout_s: float, what: str) -> Iterator[bool]:
    """Hold a lock for a block; the work goes on without it after the deadline, or where there are no locks.

    Args:
        file: The file of the lock.
        name: What is locked in it.
        timeout_s: How long to wait for another holder.
        what: What the lock saves from being done twice; the warning after the deadline says so.
    """
    try:
        lock = Lock(file, name)
    except PermissionError:  # of another user's directory that lets us read
        yield False
        return
    try:
        held = lock.take(timeout_s=timeout_s)
        if not held and lock._descriptor is None:
            _log.warning("%s: another process has been %s for %.0f s; going on without waiting", name, what, timeout_s)
        yield held
    finally:
        lock.close()
