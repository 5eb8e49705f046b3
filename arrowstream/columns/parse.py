"""From the name of an encoding, an Arrow type or a field to the encoding itself."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from math import prod

import numpy as np
import pyarrow as pa

from arrowstream.columns.arrays import BFLOAT16, ELEMENTS
from arrowstream.columns.arrow import ArrowEncoding
from arrowstream.columns.arrow_types import is_bytes, is_text, without_views
from arrowstream.columns.bfloat16 import BFloat16Type
from arrowstream.columns.describe import describe
from arrowstream.columns.encoding import METADATA_KEY, Encoding
from arrowstream.columns.headed import HeadedArrayEncoding
from arrowstream.columns.images import AnyImageEncoding, ImageFileEncoding, ImageListEncoding, PixelsEncoding
from arrowstream.columns.ndarrays import FixedArrayEncoding, ShapedArrayEncoding, is_permuted
from arrowstream.columns.objects import JsonEncoding, PickleEncoding
from arrowstream.columns.scalars import FLOAT_NAMES, INTEGER_NAMES, BoolEncoding, FloatEncoding, IntegerEncoding
from arrowstream.columns.text import BytesEncoding, NumberTextEncoding, StrEncoding
from arrowstream.errors import EncodingError, UnknownEncodingError

_MAX_ELEMENTS = np.iinfo(np.int32).max  # of one row of a fixed-size list

_NUMBERS = {element.arrow_type: element for name, element in ELEMENTS.items() if name not in {"bool", BFLOAT16}}

_NAMED: dict[str, Callable[[str], Encoding]] = {
    **dict.fromkeys(("int", *INTEGER_NAMES), IntegerEncoding),
    **dict.fromkeys(("float", *FLOAT_NAMES), FloatEncoding),
    **dict.fromkeys(("str_int", "str_float", "str_decimal"), NumberTextEncoding),
    **dict.fromkeys(("jpeg", "png"), ImageFileEncoding),
    "image": lambda _: AnyImageEncoding(),
    "bool": lambda _: BoolEncoding(),
    "str": StrEncoding,
    "bytes": lambda _: BytesEncoding(),
    "ndarray": lambda _: HeadedArrayEncoding(),
    "pil": lambda _: PixelsEncoding(),
    "jpegarray": lambda name: ImageListEncoding(name, ImageFileEncoding("jpeg")),
    "list[jpeg]": lambda name: ImageListEncoding(name, ImageFileEncoding("jpeg")),
    "list[png]": lambda name: ImageListEncoding(name, ImageFileEncoding("png")),
    "list[pil]": lambda name: ImageListEncoding(name, PixelsEncoding()),
    "json": lambda _: JsonEncoding(),
    "pkl": lambda _: PickleEncoding(),
}
_ALIASES = {"jpeg_array": "jpegarray"}

ENCODING_NAMES = tuple(sorted((*_NAMED, *_ALIASES)))
"""The names without a configuration; ``ndarray`` may also stand as ``ndarray:DTYPE`` and ``ndarray:DTYPE:D0,D1``."""


def parse_encoding(spec: str | pa.DataType) -> Encoding:
    """Find the encoding that a column is declared with.

    Args:
        spec: A name such as ``"int"`` or ``"ndarray:float32:3,4"``, or a type of Arrow, which stands for itself.

    Raises:
        UnknownEncodingError: There is none of that name.
    """
    if isinstance(spec, pa.DataType):
        return ArrowEncoding(spec, _native_encoding(spec))
    if not isinstance(spec, str):
        raise UnknownEncodingError(f"expected the name of an encoding or a pyarrow type, got {describe(spec)}")
    name = _ALIASES.get(spec, spec)
    if name in _NAMED:
        return _NAMED[name](name)
    head, colon, config = spec.partition(":")
    if head == "ndarray" and colon:
        return _array_encoding(spec, config)
    if colon and head in ENCODING_NAMES:
        raise UnknownEncodingError(f"encoding {spec!r}: {head!r} takes no configuration; write {head!r}")
    close = get_close_matches(spec, (*ENCODING_NAMES, "string"), n=1)
    hint = f"did you mean {close[0].replace('string', 'str')!r}? " if close else ""
    raise UnknownEncodingError(
        f"no encoding is named {spec!r}; {hint}There are: {', '.join(ENCODING_NAMES)}; "
        "ndarray:DTYPE and ndarray:DTYPE:D0,D1 for arrays of one dtype and shape; and every pyarrow type, as an object"
    )


def encoding_of(field: pa.Field) -> Encoding:
    """Find the encoding of a column of a shard: the one its metadata names, else its Arrow type.

    Raises:
        EncodingError: The column is stored as another type than its encoding stores.
        UnknownEncodingError: The metadata names an encoding that does not exist.
    """
    declared = (field.metadata or {}).get(METADATA_KEY)
    if declared is None:
        return parse_encoding(field.type)
    try:
        encoding = parse_encoding(declared.decode("utf-8", "replace"))
    except UnknownEncodingError as error:
        raise UnknownEncodingError(f"column {field.name!r}: {error}") from error
    if not encoding.fits(field.type):
        raise EncodingError(
            f"column {field.name!r}: encoding {encoding.name!r} is stored as {encoding.arrow_type}, "
            f"this column is {field.type}"
        )
    return encoding


def infer_encoding(field: pa.Field) -> Encoding:
    """Choose the encoding for a column of a DataFrame that none was declared for.

    Raises:
        EncodingError: As ``encoding_of``, for a column that names its encoding.
    """
    if METADATA_KEY in (field.metadata or {}):
        return encoding_of(field)
    return _native_encoding(field.type) or ArrowEncoding(without_views(field.type), None)


def _array_encoding(spec: str, config: str) -> Encoding:
    dtype, colon, dims = config.partition(":")
    element = ELEMENTS.get(dtype)
    if element is None:
        close = get_close_matches(dtype, ELEMENTS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownEncodingError(
            f"encoding {spec!r}: no dtype is named {dtype!r}; {hint}There are: {', '.join(ELEMENTS)}; "
            "'ndarray' alone also takes complex64 and complex128"
        )
    if not colon:
        return ShapedArrayEncoding(element)
    if not re.fullmatch(r"[1-9][0-9]*(,[1-9][0-9]*)*", dims, re.ASCII):
        raise UnknownEncodingError(
            f"encoding {spec!r}: expected dimensions of 1 or more such as 3,224,224, got {dims!r}; "
            f"'ndarray:{dtype}' takes any shape, also scalars and empty arrays"
        )
    shape = tuple(map(int, dims.split(",")))
    if prod(shape) > _MAX_ELEMENTS:
        raise UnknownEncodingError(f"encoding {spec!r}: {prod(shape)} elements, at most {_MAX_ELEMENTS} fit into a row")
    return FixedArrayEncoding(element, shape)


def _native_encoding(arrow_type: pa.DataType) -> Encoding | None:
    """The encoding of ours that stores values of exactly this type, if there is one."""
    if is_text(arrow_type):
        return StrEncoding()
    if is_bytes(arrow_type):
        return BytesEncoding()
    if pa.types.is_boolean(arrow_type):
        return BoolEncoding()
    if arrow_type in _NUMBERS:
        return parse_encoding(_NUMBERS[arrow_type].name)
    if isinstance(arrow_type, BFloat16Type):
        return FixedArrayEncoding(ELEMENTS[BFLOAT16], arrow_type.shape)
    if isinstance(arrow_type, pa.FixedShapeTensorType) and not is_permuted(arrow_type):
        element = _NUMBERS.get(arrow_type.value_type)
        shape = tuple(arrow_type.shape)
        return FixedArrayEncoding(element, shape) if element and shape and all(shape) else None
    return None
