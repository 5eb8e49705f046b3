"""What counts as an array: ndarrays, tensors, and whatever else NumPy can view; and the elements they may have."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.columns.buffers import AnyArray
from arrowstream.columns.describe import describe
from arrowstream.errors import EncodingError, MissingDependencyError

BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True)
class Element:
    """One element of an array: what the user calls it, and how Arrow and NumPy hold it.

    Attributes:
        name: The dtype that the values have.
        stored: The dtype of the same width in which their bytes lie in the column.
    """

    name: str
    stored: np.dtype[Any]

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type of one stored element."""
        return pa.from_numpy_dtype(self.stored)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values.

        Raises:
            MissingDependencyError: It is bfloat16, which NumPy knows from ml_dtypes, which is not installed.
        """
        return bfloat16_dtype() if self.name == BFLOAT16 else np.dtype(self.name)

    def matches(self, dtype: np.dtype[Any]) -> bool:
        """Tell whether arrays of a dtype have these elements, in the byte order of this machine."""
        if self.name == BFLOAT16:
            return dtype.name == BFLOAT16
        return bool(dtype == np.dtype(self.name))

    def stored_array(self, value: Any) -> AnyArray:
        """View an array or tensor of these elements as the bytes that are stored.

        Raises:
            EncodingError: The value is no array, or one of another dtype.
        """
        if self.name == BFLOAT16 and is_bfloat16_tensor(value):
            return bfloat16_bits(value)
        array = as_ndarray(value)
        if not self.matches(array.dtype):
            raise EncodingError(f"expected an array of dtype {self.name}, got {describe(array)}; cast it first")
        return array.view(self.stored)


def _elements() -> dict[str, Element]:
    numeric = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    elements = [Element(name, np.dtype(name)) for name in [*numeric, "float16", "float32", "float64"]]
    # Arrow packs bool into bits, which NumPy cannot view; it has no bfloat16.
    elements += [Element("bool", np.dtype(np.uint8)), Element(BFLOAT16, np.dtype(np.uint16))]
    return {element.name: element for element in elements}


ELEMENTS = _elements()


def bfloat16_dtype() -> np.dtype[Any]:
    """The bfloat16 of ml_dtypes.

    Raises:
        MissingDependencyError: ml_dtypes is not installed.
    """
    try:
        import ml_dtypes
    except ImportError as error:
        raise MissingDependencyError(
            "bfloat16 arrays need ml_dtypes; install it with: pip install 'arrowstream[bfloat16]'"
        ) from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def is_tensor(value: object) -> bool:
    """Tell a torch tensor without importing torch."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def is_bfloat16_tensor(value: object) -> bool:
    """Tell a torch tensor of bfloat16, which NumPy refuses to view."""
    return is_tensor(value) and str(getattr(value, "dtype", "")) == "torch.bfloat16"


def bfloat16_bits(tensor: Any) -> AnyArray:
    """Copy or view the bits of a bfloat16 tensor as uint16 of the same shape."""
    bits = tensor.detach().cpu().contiguous().view(sys.modules["torch"].int16)
    return np.asarray(bits.numpy()).view(np.uint16)


def as_ndarray(value: Any) -> AnyArray:
    """View an array, a tensor (but of bfloat16) or anything with ``__array__`` as an ndarray.

    Raises:
        EncodingError: The value is none of these, or has masked elements, which are not stored.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise EncodingError(f"expected an array without masked elements, got {describe(value)}; fill it first")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if is_tensor(value):
        return np.asarray(value.detach().cpu())
    if hasattr(value, "__array__"):
        return np.asarray(value)
    raise EncodingError(f"expected an array, got {describe(value)}; pass np.asarray(value, dtype)")
