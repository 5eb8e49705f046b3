"""Dates and times, read without a call into Arrow: its ``as_py`` takes 9 us for a timestamp with a time zone."""

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.columns.buffers import fixed_width
from arrowstream.columns.encoding import RowReader

# How many of a unit a microsecond is worth; nanoseconds are more than Python's types hold, and stay with Arrow.
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_UNIX_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


def reads_as_datetime(arrow_type: pa.DataType) -> bool:
    """Tell whether a type is one of those that ``temporal_reader`` reads."""
    return bool(
        pa.types.is_date32(arrow_type)
        or (pa.types.is_timestamp(arrow_type) and arrow_type.unit in _MICROSECONDS)
        or (pa.types.is_duration(arrow_type) and arrow_type.unit in _MICROSECONDS)
    )


def temporal_reader(array: pa.Array) -> RowReader:
    """Prepare to read dates, timestamps or durations that are not null, as Python's own types."""
    if pa.types.is_date32(array.type):
        days = fixed_width(array, np.dtype(np.int32)).data
        return RowReader(f"$date($v[r] + {_UNIX_EPOCH_ORDINAL})", {"v": days, "date": date.fromordinal})
    values = fixed_width(array, np.dtype(np.int64)).data
    per_unit = _MICROSECONDS[array.type.unit]
    since = f"$delta(0, 0, $v[r] * {per_unit})" if per_unit > 1 else "$delta(0, 0, $v[r])"
    names: dict[str, object] = {"v": values, "delta": timedelta}
    if pa.types.is_duration(array.type):
        return RowReader(since, names)
    zone: Any = pa.scalar(0, array.type).as_py().tzinfo  # as Arrow itself understands the zone's name
    if zone is None or array.type.tz == "UTC":
        return RowReader(f"$epoch + {since}", {**names, "epoch": datetime(1970, 1, 1, tzinfo=zone)})
    utc = pa.scalar(0, pa.timestamp("us", "UTC")).as_py()
    return RowReader(f"($epoch + {since}).astimezone($zone)", {**names, "epoch": utc, "zone": zone})
