"""A batch on its way from a worker process: all of its tensors in one piece of shared memory.

Torch sends every tensor of a batch through a file descriptor of its own, each with a file, a map and an unmap at both
ends. Here they lie in one slab, which is used again; on arrival they are slices of it.
"""

import contextlib
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from arrowstream.batch_forms import Texts
from arrowstream.errors import ArrowStreamError
from arrowstream.slabs import Parcel, SlabPool
from arrowstream.tensor_window import TakeMemory

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


class Joined(NamedTuple):
    """Text or bytes of a batch, end to end; the loop gets a list.

    Attributes:
        content: uint8 of shape (bytes,).
        ends: Where each ends, int64 of shape (n,).
        is_text: Whether they are UTF-8, else bytes.
    """

    content: Any
    ends: Any
    is_text: bool

    @classmethod
    def of(cls, texts: Texts, take_memory: TakeMemory) -> "Joined":
        """Join what has no nulls.

        Args:
            texts: The texts.
            take_memory: Gives the memory.
        """
        joined = np.frombuffer(b"".join(cast(list[memoryview], texts.pieces)), np.uint8)
        content = take_memory(len(joined))
        content.numpy()[:] = joined
        lengths = np.fromiter(map(len, cast(list[memoryview], texts.pieces)), np.int64, len(texts.pieces))
        ends = take_memory(lengths.nbytes).view(torch.int64)
        np.cumsum(lengths, out=ends.numpy())
        return cls(content, ends, texts.is_text)

    def values(self) -> list[str] | list[bytes]:
        """Cut it into objects."""
        content = self.content.numpy().tobytes()
        ends = self.ends.tolist()
        places = zip([0, *ends], ends, strict=False)
        if self.is_text:
            return [content[start:end].decode() for start, end in places]
        return [content[start:end] for start, end in places]


class Message(NamedTuple):
    """What arrives at a time; a named tuple, because torch pins what is in one.

    Attributes:
        worker: Number of the process that sent it.
        batches: In their order.
    """

    worker: int
    batches: list[Packed]


class Sent:
    """What a worker process sends at a time; it arrives as ``Message``.

    Args:
        worker: Number of the process.
        batches: What ``Packer.pack`` gave for each, in their order.

    Raises:
        Exception: A batch does not pickle. Were it left to the queue's thread, nobody would hear of it, and the loop
            would wait for ever.
    """

    def __init__(self, worker: int, batches: list[tuple[Parcel | None, Any]]) -> None:
        self._pickled = bytes(ForkingPickler.dumps((worker, batches)))

    @classmethod
    def as_many_as_pickle(cls, worker: int, batches: list[tuple[Parcel | None, Any]]) -> "Sent | None":
        """Send the batches up to the first that does not pickle; None: there is none before it."""
        sent = None
        with contextlib.suppress(Exception):
            for number in range(1, len(batches) + 1):
                sent = cls(worker, batches[:number])
        return sent

    def __reduce__(self) -> Any:
        return _receive, (self._pickled,)


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


def _receive(pickled: bytes) -> Message:
    worker, batches = pickle.loads(pickled)  # noqa: S301  # by a worker of this process
    return Message(worker, [Packed(memory, layout) for memory, layout in batches])


class Packer:
    """Lays the tensors of a worker's batches into shared memory, one batch after the other.

    Args:
        pool: Has the memory.
    """

    def __init__(self, pool: SlabPool) -> None:
        self._pool = pool
        self._num_bytes = 0  # that the largest batch took
        self._parcel: Parcel | None = None  # of the next batch
        self._end = 0

    def take(self, num_bytes: int) -> torch.Tensor:
        """Give memory for a tensor of the next batch, uint8 of shape (num_bytes,): where it can be sent from, if known.

        Whoever asks must not keep it: it is filled again when the batch is gone.
        """
        if self._parcel is None and self._num_bytes:
            self._parcel = self._pool.take(self._num_bytes)
        start = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        if self._parcel is None or start + num_bytes > self._num_bytes:
            return torch.empty(num_bytes, dtype=torch.uint8, device="cpu")
        self._end = start + num_bytes
        return self._parcel.memory[start : self._end]

    def pack(self, batch: Any) -> tuple[Parcel | None, Any]:
        """Copy the tensors of the next batch into its memory, but those that lie there already.

        Args:
            batch: Dictionaries, lists, tuples and named tuples of tensors and of anything that pickles, at any depth.
                Only plain, contiguous tensors of the CPU are packed; others go torch's way.

        Returns:
            What ``Sent`` takes: the memory, None if no tensor was packed, and the batch with a ``Place`` for each.
        """
        tensors: list[tuple[Place, torch.Tensor]] = []
        parcel, end = self._parcel, self._end
        first = parcel.memory.data_ptr() if parcel is not None else 0

        def place(tensor: torch.Tensor) -> Any:
            nonlocal end
            if not _is_plain(tensor):
                return tensor
            num_bytes = tensor.numel() * tensor.element_size()
            start = tensor.data_ptr() - first
            if not 0 <= start < self._end:
                start = -(-end // _ALIGNMENT) * _ALIGNMENT
                end = start + num_bytes
            found = Place(start, num_bytes, str(tensor.dtype)[len("torch.") :], tuple(tensor.shape))
            tensors.append((found, tensor))
            return found

        layout = _walk(batch, torch.Tensor, place)  # those in Joined too
        if not tensors:
            self._end = 0
            return None, layout
        new = [(found, tensor) for found, tensor in tensors if found.start >= self._end]
        if end > self._num_bytes or parcel is None:
            self._num_bytes = max(end, self._num_bytes)
            larger, new = self._pool.take(self._num_bytes), tensors
            if parcel is not None:
                self._pool.drop(parcel)
            parcel = larger
        for found, tensor in new:
            # As bytes: torch copies some dtypes, such as uint16, at half the speed.
            parcel.memory[found.start : found.start + found.num_bytes].copy_(tensor.view(-1).view(torch.uint8))
        self._parcel, self._end = None, 0
        return parcel, layout


def unpack(packed: Packed) -> Any:
    """Give the batch back; its tensors share the memory, each in its own part."""
    memory = packed.memory
    if memory is None:
        return packed.layout

    def find(value: Any) -> Any:
        if isinstance(value, Place):
            return _slice(memory, value)
        return Joined(_slice(memory, value.content), _slice(memory, value.ends), value.is_text).values()

    return _walk(packed.layout, (Place, Joined), find)


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


def _walk(value: Any, kind: type | tuple[type, ...], change: Callable[[Any], Any]) -> Any:
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
