"""Batches of tensors, equal to what torch's ``default_collate`` makes of the samples."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from arrowstream.batch_forms import AnyArray, BatchForm
from arrowstream.errors import EncodingError
from arrowstream.tensor_window import TakeMemory, TensorWindow


class TorchForm(BatchForm):
    """Tensors, and where ``default_collate`` has them lists.

    Its result is that of ``default_collate`` bit for bit. Where ``default_collate`` refuses, so does this, but for two
    dtypes of which it knows no scalar or no array, uint64 and bfloat16.

    Args:
        take_memory: Is asked for the memory of each column whose values are of one size. None: it is new.
    """

    def __init__(self, take_memory: TakeMemory | None = None) -> None:
        self._take_memory = take_memory

    def make_window(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> TensorWindow:
        """Make what gathers tensors."""
        return TensorWindow(dtype, shape, self.array(np.empty(0, dtype)).dtype, self._take_memory)

    def rows(self, column: str, values: torch.Tensor, valid: AnyArray | None) -> torch.Tensor:
        """Hand over the tensor.

        Raises:
            EncodingError: There are nulls.
        """
        if valid is not None:
            raise EncodingError(
                f"column {column!r}: {len(valid) - int(valid.sum())} of {len(valid)} values are null, and a tensor has "
                f"no nulls; leave it out with columns=, or read it with as_='numpy' or 'arrow'"
            )
        return values

    def objects(self, column: str, values: list[Any]) -> Any:
        """Let ``default_collate`` join the values.

        Raises:
            EncodingError: It refuses them.
        """
        try:
            return default_collate(values)
        except (TypeError, RuntimeError, ValueError, KeyError, OverflowError) as error:
            raise EncodingError(
                f"column {column!r}: default_collate of torch does not take these values ({_first_line(error)}); leave "
                f"the column out with columns=, give arrays of many shapes a form with ragged='offsets' or 'pad', or "
                f"read with as_='numpy' or 'arrow'"
            ) from error

    def array(self, values: AnyArray) -> Any:
        """View an array as a tensor."""
        if values.dtype.kind == "V":  # of ml_dtypes, whose bfloat16 torch does not know (its name takes NumPy 5 us)
            return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(values)


TORCH_FORM = TorchForm()


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
