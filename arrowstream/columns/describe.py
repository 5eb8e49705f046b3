"""How a value reads in an error message: its type, and as much of it as fits."""

from reprlib import Repr
from typing import Any

import numpy as np

_MAX_CHARS = 60


def _short_repr() -> Repr:
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = _MAX_CHARS
    return short


_REPR = _short_repr()


def describe(value: Any) -> str:
    """Name the type of a value and show about 60 characters of it; of an array, its dtype and shape."""
    kind = type(value).__name__
    if isinstance(value, np.ndarray) or (hasattr(value, "dtype") and getattr(value, "shape", ()) != ()):
        return f"{kind} of dtype {value.dtype} and shape {tuple(value.shape)}"
    if isinstance(value, bytes | bytearray | memoryview):
        head = bytes(value[:16])
        return f"{kind} of {len(value)} bytes {head!r}{'…' if len(value) > len(head) else ''}"
    try:
        text = _REPR.repr(value)
    except ValueError:  # an int of more digits than Python is willing to write
        return f"{kind} of {value.bit_length()} bits"
    if len(text) > _MAX_CHARS:
        text = f"{text[: _MAX_CHARS - 1]}…"
    return f"{kind} {text}"
