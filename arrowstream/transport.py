"""A batch on its way from a worker process: all of its tensors in one piece of shared memory.

Torch sends every tensor of a batch through a file descriptor of its own, each with a file, a map and an unmap at both
ends. In one piece a batch costs that once; on arrival its tensors are slices of the piece, which lives as long as one
of them does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

#: Of the places of tensors: a cache line, which vector instructions like.
_ALIGNMENT = 64


class Place(NamedTuple):
    """Where a tensor lies in the piece.

    Attributes:
        start: Its first byte.
        num_bytes: Its length.
        dtype: Of its elements.
        shape: Its shape.
    """

    start: int
    num_bytes: int
    dtype: torch.dtype
    shape: torch.Size


class Packed(NamedTuple):
    """A batch without its tensors, and the tensors.

    Attributes:
        memory: uint8 of shape (bytes,), shared between processes.
        layout: The batch, with a ``Place`` for each tensor that lies in the memory.
    """

    memory: torch.Tensor
    layout: Any


def pack(batch: Any) -> Packed:
    """Copy the tensors of a batch into one piece of shared memory.

    Args:
        batch: Dictionaries, lists, tuples and named tuples of tensors and of anything that pickles, at any depth. Only
            plain, contiguous tensors of the CPU are packed; others stay where they are.
    """
    tensors: list[tuple[Place, torch.Tensor]] = []
    end = 0

    def place(value: Any) -> Any:
        nonlocal end
        if not _is_plain(value):
            return value
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        found = Place(start, value.numel() * value.element_size(), value.dtype, value.shape)
        end = start + found.num_bytes
        tensors.append((found, value))
        return found

    layout = _walk(batch, torch.Tensor, place)
    # share_memory_() would fill ordinary memory first.
    shared = torch.UntypedStorage._new_shared(max(end, 1))  # type: ignore[no-untyped-call]
    memory = torch.empty(0, dtype=torch.uint8).set_(shared)
    for found, tensor in tensors:
        _slice(memory, found).copy_(tensor)
    return Packed(memory, layout)


def unpack(packed: Packed) -> Any:
    """Give the batch back; its tensors share the memory, each in its own part."""
    return _walk(packed.layout, Place, lambda place: _slice(packed.memory, place))


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) is torch.Tensor
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.is_contiguous()  # else its strides mean something to somebody: channels_last
        and not (tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
    )


def _slice(memory: torch.Tensor, place: Place) -> torch.Tensor:
    return memory[place.start : place.start + place.num_bytes].view(place.dtype).view(place.shape)


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
