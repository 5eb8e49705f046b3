"""Small tensors on their way out of a loader's worker process: inside the message, as text and numbers are.

Torch sends the memory of every tensor through a file descriptor of its own, for which the training process connects to
a thread of the worker: some 700 us for a tensor however small, in which the two wait for each other. A plain
``DataLoader`` spends most of its time there. Writing the bytes into the message takes less up to about 300 KB.
"""

import ctypes
from multiprocessing import reduction
from typing import Any

import torch
from torch.multiprocessing.reductions import reduce_storage

#: A batch may have many, and what is written into a message goes through a pipe of 64 KB.
MAX_INLINE_BYTES = 128 << 10


def send_inline() -> None:
    """Let this process send the memory of small tensors by value from now on, however torch shares the others.

    It is for worker processes, whose tensors nobody changes once they are sent. The tensors arrive as they were, views
    of one memory still being that, in memory of the receiver's own instead of shared memory.
    """
    reduction.register(torch.UntypedStorage, _reduce)


def _reduce(memory: torch.UntypedStorage) -> Any:
    num_bytes = memory.nbytes()
    if memory.device.type != "cpu" or not 0 < num_bytes <= MAX_INLINE_BYTES:
        return reduce_storage(memory)  # type: ignore[no-untyped-call]
    return _rebuild, (ctypes.string_at(memory.data_ptr(), num_bytes),)


def _rebuild(content: bytes) -> torch.UntypedStorage:
    memory: torch.UntypedStorage = torch.UntypedStorage.from_buffer(content, dtype=torch.uint8)  # a copy
    return memory
