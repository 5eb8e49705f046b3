"""How many bytes a directory of a cache holds, written down so that nobody has to sum them up at every fetch.

The directory itself is the truth. The number is a survey of it and what was done since, each step under the lock that
all users of the directory share; it is written before bytes come and after they went, so that it may be too large where
somebody is killed, and never too small. It is believed as long as nothing speaks against it:

* the machine has not been started again since, for what was not flushed may be lost then;
* the directory was last changed by somebody who kept the number: its own time of change is written down beside it;
* nobody has died over a reservation. Whoever finds a dead one throws the number away.

What is not believed is summed up again.
"""

import contextlib
import os
import struct
from functools import cache
from pathlib import Path

import xxhash

from arrowstream.cache import names

_RECORD = struct.Struct("<8s32sqqQ")  # magic, start of the machine, bytes, time of change of the directory, checksum
_MAGIC = b"ledger1\n"
#: Of the file itself.
LEDGER_BYTES = _RECORD.size


class Ledger:
    """The number of one directory; whoever reads or writes it holds the directory's lock.

    Args:
        directory: Of the cache.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / names.LEDGER

    def read(self) -> int | None:
        """Give the bytes in all, reservations included; None where they have to be summed up."""
        try:
            text = self._file.read_bytes()
            changed_ns = self._directory.stat().st_mtime_ns
        except OSError:
            return None
        if len(text) != _RECORD.size:
            return None
        magic, start, num_bytes, known_ns, digest = _RECORD.unpack(text)
        if (magic, known_ns, digest) != (_MAGIC, changed_ns, _digest(text)) or start != _start_of_machine():
            return None
        return int(num_bytes)

    def write(self, num_bytes: int) -> None:
        """Write down what a survey found, or the last number and what was done since."""
        start = _start_of_machine()
        if start is None:
            return
        try:
            fields = (_MAGIC, start, num_bytes, self._directory.stat().st_mtime_ns)
            digest = _digest(_RECORD.pack(*fields, 0))
            # In place, not renamed: a part of a page is written as a whole, whoever is killed; the digest tells.
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                written = os.pwrite(descriptor, _RECORD.pack(*fields, digest), 0)
            finally:
                os.close(descriptor)
        except OSError:
            written = 0  # a full disk, or another user's file
        if written != _RECORD.size:
            self.forget()

    def forget(self) -> None:
        """Let the next one who wants the number sum it up."""
        with contextlib.suppress(OSError):  # it is not there, or in a directory that may only be read
            self._file.unlink()


def _digest(text: bytes) -> int:
    return xxhash.xxh3_64_intdigest(text[: -struct.calcsize("<Q")])


@cache
def _start_of_machine() -> bytes | None:
    """Tell one start of this machine from another; None on systems that do not say: nothing is believed there."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip().replace(b"-", b"")[:32]
    except OSError:
        return None
