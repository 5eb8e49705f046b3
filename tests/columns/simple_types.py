"""Every type of Arrow that has no parameters but a unit, and some values of each."""

from typing import Any

import pyarrow as pa

from arrowstream.columns.type_names import _SIMPLE

SIMPLE_TYPES: tuple[pa.DataType, ...] = tuple(_SIMPLE.values())


def values_of(kind: pa.DataType) -> list[Any]:
    """Give two values, as Arrow has them in Python."""
    if pa.types.is_interval(kind):
        return [pa.MonthDayNano([1, 2, 3]), pa.MonthDayNano([0, 0, 5])]
    if pa.types.is_floating(kind):
        return [0.5, -1.0]
    if pa.types.is_temporal(kind):
        second = 400 if kind == pa.date32() else 86_300 if pa.types.is_time(kind) else 86_400_000
        stored = pa.int32() if kind.bit_width == 32 else pa.int64()
        return pa.array([0, second], stored).cast(kind).to_pylist()
    return pa.array([0, 1], pa.int64()).cast(pa.string()).cast(kind).to_pylist()
