"""How arrays are recorded: NumPy alone, since mosaic's environment imports this too."""

import hashlib
from typing import Any

import numpy as np

#: Arrays up to this size are recorded by value too, so that a difference can be read.
SMALL = 12


def digest(array: np.ndarray) -> dict[str, Any]:
    """Give what stands for an array of integers in a golden file."""
    values = np.ascontiguousarray(array, dtype="<i8")
    recorded: dict[str, Any] = {
        "shape": list(array.shape),
        "sha256": hashlib.sha256(values.tobytes()).hexdigest()[:16],
    }
    if array.size <= SMALL:
        recorded["values"] = values.reshape(-1).tolist()
    return recorded
