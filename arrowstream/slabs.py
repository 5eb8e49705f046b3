"""Slabs: shared memory that a worker process fills with one batch after another.

Fresh shared memory is slow: a file, a map and page faults at both ends cost several times what a batch of a megabyte
costs to read. So a worker keeps a few slabs. It fills one that is free and says which; the training process has it
mapped since it came first, and hands out tensors that are views of it. When the last of them is gone, and all that is
made of them (slices, arrays of NumPy, DLPack), a byte at the head of the slab says that it is free again. Whoever keeps
all batches gets a piece of its own for each, once no slab is free: what is in a batch never changes.

The memory has no name that a kill could leave behind, and is not counted against ``/dev/shm``, which is small in many
containers. Where the system has no such memory (it is Linux's ``memfd_create``), it is torch's own.
"""

import mmap
import os
import weakref
from itertools import count
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from arrowstream.errors import ArrowStreamError

#: Before the batch: a cache line, of which the first byte is the state.
_HEAD_BYTES = 64
_FREE, _TAKEN, _RETIRED = 0, 1, 2

#: Slabs that a worker may keep besides those that are read ahead: one is being filled, the loop holds some.
NUM_SPARE = 6

_IS_NAMELESS = hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()


class Slab:
    """A piece of shared memory, mapped into this process.

    Args:
        memory: uint8 of shape (head and batch,).
        descriptor: Of the file that is mapped, which is closed with the slab; None: torch knows how to share it.

    Attributes:
        num_bytes: That a batch may have.
    """

    def __init__(self, memory: torch.Tensor, descriptor: int | None) -> None:
        self._memory = memory
        self._descriptor = descriptor
        self._bytes: npt.NDArray[np.uint8] = memory.numpy()
        self._lent: weakref.ref[Any] | None = None
        self.num_bytes = len(memory) - _HEAD_BYTES
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)

    @classmethod
    def make(cls, num_bytes: int) -> "Slab":
        """Make one for batches of up to so many bytes."""
        size = -(-(_HEAD_BYTES + num_bytes) // mmap.PAGESIZE) * mmap.PAGESIZE
        if not _IS_NAMELESS:
            shared = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
            return cls(torch.empty(0, dtype=torch.uint8).set_(shared).fill_(_FREE), None)
        descriptor = os.memfd_create("arrowstream-batch", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size)
        return cls(_map(descriptor, size), descriptor)

    def __reduce__(self) -> Any:
        if self._descriptor is None:
            return Slab, (self._memory, None)
        return _attach, (DupFd(self._descriptor), len(self._memory))

    @property
    def state(self) -> int:
        """Free, taken or retired, as both processes see it."""
        return int(self._bytes[0])

    @state.setter
    def state(self, state: int) -> None:
        self._bytes[0] = state

    def fill(self, num_bytes: int) -> torch.Tensor:
        """Give the memory for a batch, uint8 of shape (num_bytes,); the slab is taken from now on."""
        self.state = _TAKEN
        return self._memory[_HEAD_BYTES : _HEAD_BYTES + num_bytes]

    def lend(self, num_bytes: int) -> torch.Tensor:
        """Give the batch's memory, uint8 of shape (num_bytes,); the slab is free when nothing refers to it any more."""
        # A view of NumPy's for each batch: torch keeps it as long as the tensor's storage, whoever shares that.
        view = self._bytes[_HEAD_BYTES : _HEAD_BYTES + num_bytes]
        owner = os.getpid()
        # The callback keeps the slab, and is kept by the slab: a finalizer of weakref's takes three times as long.
        self._lent = weakref.ref(view, lambda _: _give_back(self, owner))
        return torch.from_numpy(view)

    def retire(self) -> None:
        """Never fill it again if a batch in it is alive."""
        if self._lent is not None and self._lent() is not None:
            self.state = _RETIRED


def _give_back(slab: Slab, owner: int) -> None:
    slab._lent = None  # else the two would keep each other, and the memory
    # A child that was forked drops its copies of tensors, which are no business of the parent's.
    if os.getpid() == owner and slab.state == _TAKEN:
        slab.state = _FREE


def _map(descriptor: int, size: int) -> torch.Tensor:
    # Unlike Python's own maps this one keeps no descriptor open, of which a process may have a thousand.
    return torch.from_file(f"/proc/self/fd/{descriptor}", shared=True, size=size, dtype=torch.uint8)


def _attach(sent: Any, size: int) -> Slab:
    descriptor = sent.detach()
    try:
        return Slab(_map(descriptor, size), None)
    finally:
        os.close(descriptor)


class Parcel:
    """Memory for one batch, on its way to the training process; there it becomes a tensor of uint8, (num_bytes,).

    Args:
        slab: Lies there.
        num_bytes: Of the batch.
        table: Of the training process, which knows the slab by its ``place``.
        place: Process id of the worker, and the slab's number in it; None: it is filled only once.
        is_known: Whether the slab was sent before.

    Attributes:
        memory: uint8 of shape (num_bytes,), to be filled.
        place: As given.
        is_known: As given.
    """

    def __init__(self, slab: Slab, num_bytes: int, table: int, place: tuple[int, int] | None, is_known: bool) -> None:
        self.memory = slab.fill(num_bytes)
        self.place = place
        self.is_known = is_known
        self._sent = (table, place, None if is_known else slab, num_bytes)

    def __reduce__(self) -> Any:
        return _arrive, self._sent


class SlabPool:
    """The slabs of a worker process. One thread at a time may use it.

    Args:
        table: Of the training process, which they go to.
        max_slabs: That are kept.
    """

    def __init__(self, table: "SlabTable", max_slabs: int) -> None:
        self._table = table.number
        self._max_slabs = max_slabs
        self._slabs: dict[int, Slab] = {}

    def __len__(self) -> int:
        return len(self._slabs)

    def take(self, num_bytes: int) -> Parcel:
        """Give memory for a batch: a free slab, else a new one, else, if there are enough, a piece that is not kept."""
        free = {}
        for number, slab in list(self._slabs.items()):
            if slab.state == _RETIRED:
                del self._slabs[number]
            elif slab.state == _FREE:
                if slab.num_bytes >= num_bytes:
                    return Parcel(slab, num_bytes, self._table, (os.getpid(), number), is_known=True)
                free[number] = slab
        unused = (number for number in range(self._max_slabs) if number not in self._slabs)
        # One that is too small is made anew, under its number, so that the training process forgets it.
        number = next(iter(free), next(unused, self._max_slabs))
        if number == self._max_slabs:
            return Parcel(Slab.make(num_bytes), num_bytes, self._table, None, is_known=False)
        # Batches of strings and of ragged arrays differ in size: with some room there are soon no more new ones.
        slab = self._slabs[number] = Slab.make(num_bytes + num_bytes // 8)
        return Parcel(slab, num_bytes, self._table, (os.getpid(), number), is_known=False)

    def drop(self, parcel: Parcel) -> None:
        """Take a parcel back that is not sent."""
        if parcel.place is None:
            return
        _, number = parcel.place
        if parcel.is_known:
            self._slabs[number].state = _FREE
        else:
            del self._slabs[number]  # nobody else knows it


class SlabTable:
    """What the training process knows of the slabs of one loader's workers. A copy in a worker knows of none."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.slabs: dict[tuple[int, int], Slab] = {}
        _tables[self.number] = self

    def __getstate__(self) -> dict[str, Any]:
        return {"number": self.number, "slabs": {}}


_numbers = count()
_tables: "weakref.WeakValueDictionary[int, SlabTable]" = weakref.WeakValueDictionary()


def _arrive(table: int, place: tuple[int, int] | None, slab: Slab | None, num_bytes: int) -> torch.Tensor:
    """Make a parcel the batch's memory. It is free again if that is dropped unseen, as torch does at a reset."""
    if place is None and slab is not None:
        return slab.lend(num_bytes)
    known = _tables.get(table)
    if known is None or place is None or (slab is None and place not in known.slabs):
        raise ArrowStreamError(
            f"a batch of worker {place} arrived in process {os.getpid()}, which does not know its memory: iterate "
            f"over a loader in the process that called iter() on it"
        )
    if slab is not None:
        known.slabs[place] = slab
    return known.slabs[place].lend(num_bytes)


def _retire_lent() -> None:
    # A child keeps what it inherits for as long as it likes, and the worker would not know.
    for table in list(_tables.values()):
        for slab in list(table.slabs.values()):
            slab.retire()


os.register_at_fork(before=_retire_lent)
