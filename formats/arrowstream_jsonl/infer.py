"""The type of a JSON value, and the type that holds what two types hold."""

from collections.abc import Iterable
from functools import reduce
from typing import Any, NoReturn

import pyarrow as pa

#: More fields than this are no record with named parts, but a dictionary with keys of its own.
MAX_FIELDS = 256
_MAX_DEPTH = 64


class NoCommonTypeError(Exception):
    """No Arrow type holds the values as they are; ``json`` does."""


def type_of(value: Any, depth: int = 0) -> pa.DataType:
    """Find the narrowest type of a value that Python's json module read.

    Raises:
        NoCommonTypeError: A list holds values of several types, an integer has more than 64 bits, or it is nested too
            deeply.
    """
    if depth > _MAX_DEPTH:
        raise NoCommonTypeError
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise NoCommonTypeError
        return pa.int64()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, str):
        return pa.string() if is_text(value) else _refuse()
    if isinstance(value, list):
        return pa.list_(reduce(common_type, (type_of(item, depth + 1) for item in value), pa.null()))
    return pa.struct([(name, type_of(item, depth + 1)) for name, item in value.items() if is_text(name) or _refuse()])


def is_text(text: str) -> bool:
    """Tell whether UTF-8 can hold a text: JSON can write half a surrogate pair."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _refuse() -> NoReturn:
    raise NoCommonTypeError


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Find the narrowest type that holds what two types hold: integers become floats, records get all fields.

    Raises:
        NoCommonTypeError: There is none.
    """
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if {first, second} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(common_type(first.value_type, second.value_type))
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        return pa.struct(list(merge_fields({field.name: field.type for field in first}, second).items()))
    raise NoCommonTypeError


def merge_fields(fields: dict[str, pa.DataType], more: Iterable[pa.Field]) -> dict[str, pa.DataType]:
    """Give all fields with the types that hold both, in the order in which they were first seen.

    Raises:
        NoCommonTypeError: A field has no such type, or there are too many.
    """
    merged = dict(fields)
    for field in more:
        known = merged.get(field.name)
        merged[field.name] = field.type if known is None else common_type(known, field.type)
    if len(merged) > MAX_FIELDS:
        raise NoCommonTypeError
    return merged
