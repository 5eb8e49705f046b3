"""Rows of one size that lie at many places of memory, gathered into a tensor by one step of torch."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from arrowstream.windows import AnyArray, IntArray, RowWindow

# Threads that sleep, as they do while a model trains, take longer to wake than copying a megabyte does (0.25 MiB with
# two threads: 5.6 ms instead of 0.1; 1 MiB: as with one; 4 MiB: 0.48 instead of 0.80; 16 MiB: 1.6 instead of 3.0).
_WORTH_THREADS = 4 << 20

#: Gives memory for a tensor: uint8 of shape (bytes,), of which nobody else writes.
TakeMemory = Callable[[int], torch.Tensor]


class TensorWindow(RowWindow):
    """The rows of one column, gathered into tensors; what is large by as many threads as torch may use.

    Args:
        dtype: Of the elements in NumPy.
        shape: Of a row.
        tensor_dtype: Of the elements in torch.
        take_memory: Is asked for the memory of each tensor. None: it is new.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        tensor_dtype: torch.dtype,
        take_memory: TakeMemory | None,
    ) -> None:
        super().__init__(dtype, shape)
        self._tensor_dtype = tensor_dtype
        self._take_memory = take_memory
        self._overlapping: torch.Tensor | None = None  # (items of the window, bytes of a row)

    def _cover(self, memory: AnyArray) -> None:
        super()._cover(memory)
        if self._items is not memory and self._row_bytes:
            # Torch would warn of memory that is not writable.
            interface = {**memory.__array_interface__, "data": (memory.__array_interface__["data"][0], False)}
            whole = torch.from_numpy(np.asarray(SimpleNamespace(__array_interface__=interface)))
            self._overlapping = whole.as_strided((len(self._items), self._row_bytes), (1, 1))

    def _copy(self, places: IntArray) -> torch.Tensor:
        num_rows, num_bytes = len(places), len(places) * self._row_bytes
        if self._overlapping is not None and _is_for_torch(num_bytes):
            copied = self._take(num_bytes).view(num_rows, self._row_bytes)
            torch.index_select(self._overlapping, 0, torch.from_numpy(places), out=copied)
        else:
            copied = torch.from_numpy(self._copy_bytes(places).view(np.uint8))
            if self._take_memory is not None:
                copied = self._take(num_bytes).copy_(copied.view(-1))
        return copied.view(-1).view(self._tensor_dtype).view(num_rows, *self.shape)

    def _take(self, num_bytes: int) -> torch.Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8) if self._take_memory is None else self._take_memory(num_bytes)


def _is_for_torch(num_bytes: int) -> bool:
    # In a forked process OpenMP waits for ever for threads that its parent had; a loader's workers use one alone.
    return torch.get_num_threads() == 1 or (num_bytes >= _WORTH_THREADS and not _is_forked)


_is_forked = False


def _note_fork() -> None:
    global _is_forked  # noqa: PLW0603
    _is_forked = True


os.register_at_fork(after_in_child=_note_fork)
