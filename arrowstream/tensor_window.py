"""Rows of one size that lie at many places of memory, gathered into a tensor by one step of torch."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from arrowstream.recycled import RecycledMemory
from arrowstream.windows import AnyArray, IntArray, RowWindow

# Threads that sleep, as they do while a model trains, take longer to wake than copying a megabyte does (0.25 MiB with
# two threads: 5.6 ms instead of 0.1; 1 MiB: as with one; 4 MiB: 0.48 instead of 0.80; 16 MiB: 1.6 instead of 3.0).
_WORTH_THREADS = 4 << 20
_WORTH_RECYCLING = 1 << 18
# A loop holds one or two batches while the next one is read.
_MOST_SPARE = 2

#: Gives memory for a tensor: uint8 of shape (bytes,), of which nobody else writes.
TakeMemory = Callable[[int], torch.Tensor]


class TensorWindow(RowWindow):
    """The rows of one column, gathered into tensors; what is large by as many threads as torch may use.

    Args:
        dtype: Of the elements in NumPy.
        shape: Of a row.
        tensor_dtype: Of the elements in torch.
        take_memory: Is asked for the memory of each tensor. None: it is new, or that of tensors that are gone.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        tensor_dtype: torch.dtype,
        take_memory: TakeMemory | None,
    ) -> None:
        # Torch does not know NumPy's bfloat16, which is of ml_dtypes, but it knows the bits.
        super().__init__(np.dtype(np.int16) if tensor_dtype == torch.bfloat16 else dtype, shape)
        self._tensor_dtype = tensor_dtype
        self._take_memory = take_memory
        self._recycled = RecycledMemory(_MOST_SPARE)
        self._overlapping: torch.Tensor | None = None  # (items of the window, bytes of a row)

    def _cover(self, memory: AnyArray) -> None:
        super()._cover(memory)
        self._overlapping = None
        if self._items is not None:
            # Torch would warn of memory that is not writable.
            interface = {**memory.__array_interface__, "data": (memory.__array_interface__["data"][0], False)}
            whole = torch.from_numpy(np.asarray(SimpleNamespace(__array_interface__=interface)))
            self._overlapping = whole.as_strided((len(self._items), self._row_bytes), (1, 1))

    def _copy(self, places: IntArray) -> torch.Tensor:
        num_rows, num_bytes = len(places), len(places) * self._row_bytes
        if self._overlapping is not None and not _is_for_torch(num_bytes):
            return self._tensor(self._copied(places))
        out = self._take(num_bytes)
        if self._overlapping is not None:
            torch.index_select(self._overlapping, 0, torch.from_numpy(places), out=out.view(num_rows, self._row_bytes))
        else:
            self._copy_each(places, out.numpy().reshape(num_rows, self._row_bytes))
        return out.view(self._tensor_dtype).view(num_rows, *self.shape)

    def _own(self, rows: AnyArray) -> torch.Tensor:
        return self._tensor(rows if self._take_memory is not None else rows.copy())

    def _tensor(self, rows: AnyArray) -> torch.Tensor:
        """Make a tensor of an array that is its own, or a copy where its memory is given."""
        tensor = torch.from_numpy(rows)
        if self._tensor_dtype != tensor.dtype:
            tensor = tensor.view(self._tensor_dtype)
        if self._take_memory is None:
            return tensor
        return self._take(rows.nbytes).view(self._tensor_dtype).view(tensor.shape).copy_(tensor)

    def _take(self, num_bytes: int) -> torch.Tensor:
        if self._take_memory is not None:
            return self._take_memory(num_bytes)
        if num_bytes < _WORTH_RECYCLING:
            return torch.empty(num_bytes, dtype=torch.uint8, device="cpu")
        return torch.from_numpy(self._recycled.take(num_bytes))


def _is_for_torch(num_bytes: int) -> bool:
    # In a forked process OpenMP waits for ever for threads that its parent had; a loader's workers use one alone.
    return torch.get_num_threads() == 1 or (num_bytes >= _WORTH_THREADS and not _is_forked)


_is_forked = False


def _note_fork() -> None:
    global _is_forked  # noqa: PLW0603
    _is_forked = True


os.register_at_fork(after_in_child=_note_fork)
