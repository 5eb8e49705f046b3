"""A batch on its way from a worker process: all of its tensors in one piece of shared memory.

Torch sends every tensor of a batch through a file descriptor of its own, each with a file, a map and an unmap at both
ends. Here they lie in one slab, which is used again; on arrival they are slices of it.
"""

import pickle
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import torch

from arrowstream.errors import ArrowStreamError
from arrowstream.slabs import Parcel, SlabPool

#: Of the places of tensors: a cache line, which vector instructions like.
_ALIGNMENT = 64


class Place(NamedTuple):
    """Where a tensor lies in the batch's memory.

    Attributes:
        start: Its first byte.
        num_bytes: Its length.
        dtype: Of its elements, torch's name for it: that pickles ten times as fast.
        shape: Its shape.
    """

    start: int
    num_bytes: int
    dtype: str
    shape: tuple[int, ...]


class Packed(NamedTuple):
    """A batch that has arrived; a named tuple, because torch pins what is in one.

    Attributes:
        memory: uint8 of shape (bytes,); None: no tensor was packed.
        layout: The batch, with a ``Place`` for each tensor that lies in the memory.
    """

    memory: torch.Tensor | None
    layout: Any


class Sent:
    """A batch that a worker process sends, and what goes with it; it arrives as ``Packed``.

    Args:
        parcel: The batch's memory; None: no tensor was packed.
        layout: The batch, with a ``Place`` for each tensor that lies in the memory.

    Raises:
        Exception: The layout does not pickle. Were it left to the queue's thread, nobody would hear of it, and the loop
            would wait for ever.
    """

    def __init__(self, parcel: Parcel | None, layout: Any) -> None:
        self._parcel = parcel
        self._layout = bytes(ForkingPickler.dumps(layout))

    def __reduce__(self) -> Any:
        return _receive, (self._parcel, self._layout)


class Message(NamedTuple):
    """What a worker process sends at a time; a named tuple, because torch pins what is in one.

    Attributes:
        worker: Its number.
        batches: In their order; ``Sent``, and ``Packed`` when they have arrived.
    """

    worker: int
    batches: list[Any]


def in_turn(messages: Iterator[Message], num_workers: int) -> Iterator[Any]:
    """Take the workers' batches apart into the order of the epoch: one batch of each worker in turn.

    Args:
        messages: One of each worker in turn, as torch gives them. The n-th of all workers have equally many batches,
            but for a worker's last.
        num_workers: How many there are.

    Yields:
        The batches, ``Packed``.

    Raises:
        ArrowStreamError: A worker sent more after its turn had passed: the workers' messages are not of one size.
    """
    waiting: list[deque[Any]] = [deque() for _ in range(num_workers)]
    turns = deque(range(num_workers))
    while turns:
        worker = turns[0]
        if not waiting[worker]:
            for sender, batches in islice(messages, 1):
                if sender not in turns:
                    raise ArrowStreamError(
                        f"worker {sender} of the loader sent batches out of its turn: the workers do not see the same "
                        f"dataset; was it written to, or changed in worker_init_fn, meanwhile?"
                    )
                waiting[sender].extend(batches)
                del batches  # else their memory would not be free until the next message
            if not waiting[worker]:
                turns.popleft()  # it has no more, or its turn would have come before that worker's
                continue
        turns.rotate(-1)
        yield waiting[worker].popleft()


def _receive(memory: torch.Tensor | None, layout: bytes) -> Packed:
    return Packed(memory, pickle.loads(layout))  # noqa: S301  # by a worker of this process


def pack(batch: Any, pool: SlabPool) -> tuple[Parcel | None, Any]:
    """Copy the tensors of a batch into one piece of shared memory.

    Args:
        batch: Dictionaries, lists, tuples and named tuples of tensors and of anything that pickles, at any depth. Only
            plain, contiguous tensors of the CPU are packed; others go torch's way.
        pool: Has the memory.

    Returns:
        What ``Sent`` takes.
    """
    tensors: list[tuple[Place, torch.Tensor]] = []
    end = 0

    def place(value: Any) -> Any:
        nonlocal end
        if not _is_plain(value):
            return value
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        found = Place(
            start, value.numel() * value.element_size(), str(value.dtype)[len("torch.") :], tuple(value.shape)
        )
        end = start + found.num_bytes
        tensors.append((found, value))
        return found

    layout = _walk(batch, torch.Tensor, place)
    if not tensors:
        return None, layout
    parcel = pool.take(end)
    for found, tensor in tensors:
        # As bytes: torch copies some dtypes, such as uint16, at half the speed.
        parcel.memory[found.start : found.start + found.num_bytes].copy_(tensor.view(-1).view(torch.uint8))
    return parcel, layout


def unpack(packed: Packed) -> Any:
    """Give the batch back; its tensors share the memory, each in its own part."""
    memory = packed.memory
    return packed.layout if memory is None else _walk(packed.layout, Place, lambda place: _slice(memory, place))


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) is torch.Tensor
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.is_contiguous()  # else its strides mean something to somebody: channels_last
        and not (tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
    )


def _slice(memory: torch.Tensor, place: Place) -> torch.Tensor:
    dtype = getattr(torch, place.dtype)
    return memory[place.start : place.start + place.num_bytes].view(dtype).view(place.shape)


def _walk(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Rebuild containers with every value of a kind changed."""
    if isinstance(value, kind):
        return change(value)
    if type(value) is dict:
        return {key: _walk(item, kind, change) for key, item in value.items()}
    if type(value) is list:
        # Long lists are of strings or numbers, and are not looked through one by one.
        return value if value and type(value[0]) in _LEAVES else [_walk(item, kind, change) for item in value]
    if type(value) is tuple:
        return tuple(_walk(item, kind, change) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_walk(item, kind, change) for item in value))
    return value


_LEAVES = (str, bytes, int, float, bool, type(None))
