"""Room among the temporary files that somebody has asked for: a file as long as what is to come, and locked.

When the kernel has freed the lock, the owner is dead, and all that it left goes.
"""

import contextlib
import errno
import os
from pathlib import Path

from arrowstream.cache.locks import Lock

SUFFIX = ".room"


def reserve(prefix: Path, num_bytes: int) -> Lock:
    """Reserve room for the temporary files whose names begin with a prefix; the lock is the caller's to close."""
    file = prefix.with_name(prefix.name + SUFFIX)
    lock = Lock(file)
    try:
        lock.take()
        resize(prefix, num_bytes)
    except BaseException:
        file.unlink(missing_ok=True)
        lock.close()
        raise
    return lock


def resize(prefix: Path, num_bytes: int) -> None:
    """Set what is still to come."""
    try:
        os.truncate(prefix.with_name(prefix.name + SUFFIX), num_bytes)  # sparse: it has a length, and takes no space
    except OSError as error:
        # Somebody deleted the directory; or this process may write no file so long (ulimit -f), in one at least.
        if error.errno not in (errno.ENOENT, errno.EFBIG):
            raise


def release(prefix: Path) -> None:
    """Delete the temporary files of a prefix."""
    # The reservation goes last: without one, the others are a dead process's.
    for leftover in sorted(_files(prefix), key=lambda file: file.suffix == SUFFIX):
        leftover.unlink(missing_ok=True)


def held_bytes(prefix: Path) -> int:
    """Sum up the temporary files of a prefix."""
    return sum(file.stat().st_size for file in _files(prefix) if file.suffix != SUFFIX)


def _files(prefix: Path) -> list[Path]:
    try:
        found = os.listdir(prefix.parent)
    except FileNotFoundError:  # somebody deleted the directory
        return []
    return [prefix.parent / name for name in found if name.startswith(f"{prefix.name}.")]


def of_the_living(temporary: Path) -> list[Path]:
    """Find the reservations whose owners live."""
    living = []
    for file in temporary.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # its owner has just finished
            lock = Lock(file, create=False)
            if lock.is_taken():
                living.append(file)
            lock.close()
    return living


def sweep(temporary: Path) -> bool:
    """Delete what the dead left behind; the lock on the room is held.

    Returns:
        Whether there was anything.
    """
    alive = {file.stem for file in of_the_living(temporary)}
    dead = [file for file in temporary.iterdir() if file.name.partition(".")[0] not in alive]
    for leftover in dead:
        leftover.unlink(missing_ok=True)
    return bool(dead)


def wait_for(reservation: Path, timeout_s: float) -> bool:
    """Wait until its owner is done, or dead."""
    try:
        lock = Lock(reservation, create=False)
    except FileNotFoundError:
        return True
    try:
        return lock.take(timeout_s=max(timeout_s, 0.001))
    finally:
        lock.close()
