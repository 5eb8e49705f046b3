"""Dates and times come out as Arrow itself would give them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.columns import parse_encoding
from tests.columns.reading import read_all

TYPES = [
    pa.timestamp("s"),
    pa.timestamp("ms"),
    pa.timestamp("us"),
    pa.timestamp("ns"),
    pa.timestamp("us", "UTC"),
    pa.timestamp("ms", "UTC"),
    pa.timestamp("us", "America/New_York"),
    pa.timestamp("s", "Europe/Berlin"),
    pa.timestamp("us", "+05:30"),
    pa.duration("s"),
    pa.duration("ms"),
    pa.duration("us"),
    pa.date32(),
    pa.date64(),
    pa.time32("s"),
    pa.time64("us"),
]
# Years 1902 to 2097 in seconds: what every unit holds in 64 bits and every zone has rules for.
SECONDS = st.integers(-(2**31), 2**32 - 2**28)


def array_of(kind: pa.DataType, seconds: list[int | None]) -> pa.Array:
    if pa.types.is_date32(kind):
        values = [second if second is None else second // 86_400 for second in seconds]
        return pa.array(values, pa.int32()).cast(kind)
    if pa.types.is_date64(kind):
        values = [second if second is None else second // 86_400 * 86_400_000 for second in seconds]
        return pa.array(values, pa.int64()).cast(kind)
    if pa.types.is_time(kind):
        storage = pa.int32() if kind == pa.time32("s") else pa.int64()
        return pa.array([second if second is None else second % 86_400 for second in seconds], storage).cast(kind)
    scale = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[kind.unit]
    odd = 7 if kind.unit in ("ms", "us") else 0  # something below the second
    return pa.array([second if second is None else second * scale + odd for second in seconds], pa.int64()).cast(kind)


@pytest.mark.parametrize("kind", TYPES, ids=str)
@given(st.lists(st.none() | SECONDS, max_size=20), st.integers(0, 3))
def test_rows_are_read_as_arrow_reads_them(kind: pa.DataType, seconds: list[int | None], start: int) -> None:
    array = array_of(kind, seconds)[start:]
    read = read_all(parse_encoding(kind), array)
    assert read == array.to_pylist()
    zones = [getattr(value, "tzinfo", None) for value in read]
    assert [str(zone) for zone in zones] == [str(getattr(value, "tzinfo", None)) for value in array.to_pylist()]


def test_an_hour_that_a_zone_has_twice_keeps_its_offset() -> None:
    # Two instants that both read 01:30 on the clocks of New York.
    instants = np.array(["2013-11-03T05:30", "2013-11-03T06:30"], "datetime64[us]")
    array = pa.array(instants).cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", "America/New_York"))
    first, second = read_all(parse_encoding(array.type), array)
    assert (first.hour, first.minute) == (second.hour, second.minute) == (1, 30)
    assert (second.timestamp() - first.timestamp()) == 3600
