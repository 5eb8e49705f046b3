"""A type that was printed into an index is the same type again."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.columns.type_names import parse_type
from arrowstream.errors import UnknownEncodingError

UNITS = st.sampled_from(["s", "ms", "us", "ns"])
LEAVES = st.one_of(
    st.sampled_from(
        [
            *(pa.null(), pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string()),
            *(pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(), pa.date32()),
            *(pa.date64(), pa.time32("s"), pa.time64("ns"), pa.month_day_nano_interval()),
        ]
    ),
    st.builds(pa.timestamp, UNITS, st.sampled_from([None, "UTC", "Europe/Berlin", "+05:30"])),
    st.builds(pa.duration, UNITS),
    st.builds(pa.binary, st.integers(1, 100)),
    st.builds(pa.decimal128, st.integers(1, 38), st.integers(-5, 38)),
    st.builds(pa.decimal256, st.integers(39, 76), st.integers(0, 38)),
)
NAMES = st.sampled_from(["item", "a", "a b", "x, y", "Ä<b>", "not null", ""])


def nested(types: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    fields = st.builds(
        lambda name, kind, nullable: pa.field(name, kind, nullable=nullable or pa.types.is_null(kind)),
        NAMES,
        types,
        st.booleans(),
    )
    return st.one_of(
        st.builds(pa.list_, fields),
        st.builds(pa.large_list, fields),
        st.builds(pa.list_, fields, st.integers(0, 9)),
        st.lists(fields, max_size=3).map(pa.struct),
        st.builds(pa.map_, types.filter(lambda kind: not pa.types.is_null(kind)), types, keys_sorted=st.booleans()),
        st.builds(pa.dictionary, st.sampled_from([pa.int8(), pa.int32(), pa.uint16()]), LEAVES, ordered=st.booleans()),
    )


@given(st.recursive(LEAVES, nested, max_leaves=5))
def test_a_printed_type_is_read_back(arrow_type: pa.DataType) -> None:
    assert parse_type(str(arrow_type)) == arrow_type


@pytest.mark.parametrize(
    "text",
    [
        *("", "int64 ", "int65", "list<", "list<item: int8", "liste<item: int8>", "struct<a>", "map<string>"),
        *("timestamp[xs]", "timestamp[us, tz=]", "decimal128(100, 2)", "decimal32(10, 2)", "fixed_size_binary[]"),
        *("fixed_size_list<item: int8>[99999999999999]", "dictionary<values=string, indices=string, ordered=0>"),
        *("list<item: " * 100, "extension<arrow.uuid>", "struct<a: int8,b: int8>"),
    ],
)
def test_what_is_no_name_of_a_type_is_refused(text: str) -> None:
    with pytest.raises(UnknownEncodingError):
        parse_type(text)
