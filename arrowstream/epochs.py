"""Which epoch comes next, known to a dataset and to all its copies in worker processes.

A loader without persistent workers gives every epoch to new copies of the dataset, made by fork or by pickling; none of
them lives long enough to count. So the count lies in an unnamed file that the copies inherit: nothing has a name on the
host, nothing is left behind by a process that dies.

A dataset may also be handed to the ranks of a job when they are started. Those count each for themselves: a counter is
shared by the process that made it, or parted with it, and the workers of that process's loaders.
"""

import contextlib
import fcntl
import mmap
import multiprocessing
import os
import struct
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing import reduction
from typing import Any

from arrowstream.per_process import PerProcess

_COUNTER = struct.Struct("<qqqq")  # the next epoch and its first sample, the epoch begun last and its first sample
_CLAIM = struct.Struct("<qqqqq")
_NUM_CLAIMS = 16
_COUNT = struct.Struct("<q")
_SKIP = struct.Struct("<qqq")
_NUM_SKIPS = 128
_SKIPS = _COUNTER.size + _NUM_CLAIMS * _CLAIM.size  # how many there are, then those
_FIRST_SKIP = _SKIPS + _COUNT.size
_SIZE = _FIRST_SKIP + _NUM_SKIPS * _SKIP.size


class EpochCounter:
    """The number of the next epoch, shared by a dataset and its copies.

    One iteration of a loader with ``w`` workers is one epoch, though each worker starts it on its own: workers that
    show the same token get the same epoch. The last few tokens are remembered.
    """

    def __init__(self, next_epoch: int = 0, next_sample: int = 0, skipped: Sequence[tuple[int, int, int]] = ()) -> None:
        self._owner = os.getpid()
        with tempfile.TemporaryFile(prefix="arrowstream-") as file:
            file.truncate(_SIZE)
            self._map(os.dup(file.fileno()))
        _COUNTER.pack_into(self._shared, 0, next_epoch, next_sample, -1, 0)
        self.skipped = tuple(skipped)

    def _map(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._in_worker = False
        _living.add(self)
        self._shared = mmap.mmap(descriptor, _SIZE)
        self._thread_lock = PerProcess(threading.Lock)

    def __del__(self) -> None:
        descriptor = self.__dict__.pop("_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    def part(self) -> None:
        """Count for this process and its workers alone from now on, if another process made the counter.

        It is for those who know that this process is no worker; a process that forks is none either.
        """
        if self._owner == os.getpid() or self._in_worker:
            return
        upcoming, skipped = self.upcoming, self.skipped
        os.close(self._descriptor)
        self.__init__(*upcoming, skipped)  # type: ignore[misc]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # A record lock is the process's own: freed by the kernel when it dies, and never inherited by a fork.
        with self._thread_lock.get():
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    @property
    def upcoming(self) -> tuple[int, int]:
        """The epoch that the next iteration will be, and the sample that it will begin with."""
        with self._locked():
            epoch, sample, _, _ = _COUNTER.unpack_from(self._shared, 0)
            return int(epoch), int(sample)

    @upcoming.setter
    def upcoming(self, start: tuple[int, int]) -> None:
        with self._locked():
            _COUNTER.pack_into(self._shared, 0, *start, -1, 0)

    @property
    def begun(self) -> tuple[int, int] | None:
        """The epoch that was begun last, and the sample that it began with; None when none was."""
        with self._locked():
            _, _, epoch, sample = _COUNTER.unpack_from(self._shared, 0)
            return (int(epoch), int(sample)) if epoch >= 0 else None

    @property
    def skipped(self) -> tuple[tuple[int, int, int], ...]:
        """Positions that are not read: epoch, first, and the one behind the last.

        They lie here because workers that persist would not hear of them otherwise.
        """
        with self._locked():
            (count,) = _COUNT.unpack_from(self._shared, _SKIPS)
            return tuple(_SKIP.iter_unpack(self._shared[_FIRST_SKIP : _FIRST_SKIP + count * _SKIP.size]))

    @skipped.setter
    def skipped(self, skipped: tuple[tuple[int, int, int], ...]) -> None:
        if len(skipped) > _NUM_SKIPS:
            raise ValueError(f"{len(skipped)} runs of positions are to be skipped; at most {_NUM_SKIPS} can be kept")
        with self._locked():
            _COUNT.pack_into(self._shared, _SKIPS, len(skipped))
            for number, skip in enumerate(skipped):
                _SKIP.pack_into(self._shared, _FIRST_SKIP + number * _SKIP.size, *skip)

    def claim(self, token: tuple[int, int] | None = None, sharers: int = 1) -> tuple[int, int]:
        """Begin an epoch.

        Args:
            token: What the workers of one iteration have in common; None when there is nobody else.
            sharers: How many they are; each claims once.

        Returns:
            The epoch's number, from 0, and the sample that it begins with: not 0 where it goes on after a resume.
        """
        self._in_worker = token is not None
        with self._locked():
            if token is not None:
                for slot in range(_NUM_CLAIMS):
                    place = _COUNTER.size + slot * _CLAIM.size
                    seed, iteration, claimed, first, missing = _CLAIM.unpack_from(self._shared, place)
                    # A token that all have shown is spent: a loader that is seeded anew shows it again.
                    if missing and (seed, iteration) == token:
                        _CLAIM.pack_into(self._shared, place, *token, claimed, first, missing - 1)
                        return int(claimed), int(first)
            epoch, sample, _, _ = _COUNTER.unpack_from(self._shared, 0)
            _COUNTER.pack_into(self._shared, 0, epoch + 1, 0, epoch, sample)
            if token is not None:
                place = _COUNTER.size + epoch % _NUM_CLAIMS * _CLAIM.size
                _CLAIM.pack_into(self._shared, place, *token, epoch, sample, sharers - 1)
            return int(epoch), int(sample)

    def __getstate__(self) -> dict[str, Any]:
        # While a process is being spawned its file descriptors can be handed over; any other pickle gets the value.
        if multiprocessing.context.get_spawning_popen() is not None:
            return {"descriptor": reduction.DupFd(self._descriptor), "owner": self._owner}
        return {"upcoming": self.upcoming, "skipped": self.skipped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "descriptor" in state:
            self._owner = state["owner"]
            self._map(state["descriptor"].detach())
        else:
            self.__init__(*state["upcoming"], state["skipped"])  # type: ignore[misc]


_living: "weakref.WeakSet[EpochCounter]" = weakref.WeakSet()


def _part_before_fork() -> None:
    # The child may be a worker: it has to find the counter of this process, which may not have asked for it yet.
    for counter in list(_living):
        counter.part()


os.register_at_fork(before=_part_before_fork)
