"""How mosaicml-streaming lays values out: which encodings it has, and how many bytes a value takes."""

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

from arrowstream.errors import UnknownEncodingError

_SCALARS = {f"{kind}{bits}": bits // 8 for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_SCALARS |= {"int": 8, "float16": 2, "float32": 4, "float64": 8}
_VARYING = frozenset({
    "bytes", "str", "str_int", "str_float", "str_decimal", "ndarray", "json", "pkl",
    "jpeg", "png", "pil", "jpegarray", "list[jpeg]", "list[png]", "list[pil]",
})  # fmt: skip
#: The dtypes of arrays, by the byte that stands for them where a column has no dtype of its own.
DTYPES: Mapping[int, str] = MappingProxyType(
    {
        8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 18: "float16", 32: "uint32", 33: "int32", 34: "float32",
        64: "uint64", 65: "int64", 66: "float64",
    }
)  # fmt: skip
_ITEM_BYTES = {name: _SCALARS[name] for name in DTYPES.values()}


def value_bytes(name: str) -> int | None:
    """Tell how many bytes every value of an encoding, by its canonical name, takes; None where they vary.

    Raises:
        UnknownEncodingError: mosaicml-streaming has no such encoding.
    """
    if name in _SCALARS:
        return _SCALARS[name]
    if name in _VARYING:
        return None
    _, _, config = name.partition(":")
    dtype, _, shape = config.partition(":")
    if not name.startswith("ndarray:") or dtype not in _ITEM_BYTES:
        raise UnknownEncodingError(
            f"mosaicml-streaming has no encoding {name!r}; it has: {', '.join(sorted(_SCALARS.keys() | _VARYING))}, "
            f"ndarray:DTYPE and ndarray:DTYPE:D0,D1 with a DTYPE of {', '.join(DTYPES.values())}"
        )
    return prod(map(int, shape.split(","))) * _ITEM_BYTES[dtype] if shape else None
