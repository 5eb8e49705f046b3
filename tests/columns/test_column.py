"""Whole columns: from Arrow, from NumPy, from tensors, and from any sequence."""

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from arrowstream.columns import infer_encoding, parse_encoding
from arrowstream.errors import EncodingError
from tests.columns.reading import read_all, same, written
from tests.columns.samples import SAMPLES

INTEGERS = ["int", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def column(spec: Any, values: Any) -> pa.Array:
    encoding = parse_encoding(spec)
    array = encoding.column(values)
    assert array.type == encoding.arrow_type
    array.validate(full=True)
    return array


def refusal(spec: Any, values: Any) -> str:
    with pytest.raises(EncodingError) as caught:
        parse_encoding(spec).column(values)
    return str(caught.value)


@pytest.mark.parametrize("spec", list(SAMPLES), ids=str)
def test_a_sequence_gives_the_column_of_its_values(spec: Any) -> None:
    encoding = parse_encoding(spec)
    values = [None, *SAMPLES[spec], None]
    for given in (values, tuple(values)):
        assert same(column(spec, given).to_pylist(), written(encoding, values).to_pylist())


@pytest.mark.parametrize("spec", list(SAMPLES), ids=str)
def test_a_stored_column_is_taken_as_it_is(spec: Any) -> None:
    encoding = parse_encoding(spec)
    array = written(encoding, [*SAMPLES[spec], None])
    for given in (array, pa.chunked_array([array[:1], array[1:]])):
        assert same(column(spec, given).to_pylist(), array.to_pylist())
    assert column(spec, pa.chunked_array([], encoding.arrow_type)).equals(array[:0])


@pytest.mark.parametrize("spec", INTEGERS)
def test_integers_of_numpy_are_taken_if_they_fit(spec: str) -> None:
    for dtype in ("int8", "uint64", ">i4", "int16"):
        assert column(spec, np.array([0, 1, 100], dtype)).to_pylist() == [0, 1, 100]
    assert column(spec, np.arange(10)[::-3]).to_pylist() == [9, 6, 3, 0]
    assert column(spec, np.array([], np.int64)).to_pylist() == []
    assert column(spec, np.array([1, None], object)).to_pylist() == [1, None]
    limits = np.iinfo("int64" if spec == "int" else spec)
    if limits.max < 2**63 - 1:
        assert re.search("row 1: expected an integer from", refusal(spec, np.array([0, int(limits.max) + 1])))
    if limits.min > -(2**63):
        assert re.search("row 2: expected an integer from", refusal(spec, np.array([0, 1, int(limits.min) - 1])))
    if limits.max == 2**63 - 1:
        assert re.search("row 0: expected an integer from .* got uint64", refusal(spec, np.array([2**63], np.uint64)))
    assert re.search("expected a column of u?int[0-9]+, got ndarray of dtype float64", refusal(spec, np.array([1.0])))
    assert re.search("got ndarray of dtype bool", refusal(spec, np.array([True])))
    assert re.search(r"shape \(2, 2\)", refusal(spec, np.zeros((2, 2), np.int64)))


@pytest.mark.parametrize("spec", ["float16", "float32", "float64"])
def test_numbers_of_numpy_are_rounded_but_do_not_overflow(spec: str) -> None:
    expected = [0.5, float("inf"), 3.0]
    for dtype in ("float16", "float32", "float64"):
        assert column(spec, np.array(expected, dtype)).to_pylist() == expected
    assert column(spec, np.array([1, 2])).to_pylist() == [1, 2]
    assert column(spec, pa.array([1, None])).to_pylist() == [1, None]
    assert column(spec, pa.array([0.5, None, float("inf")])).to_pylist() == [0.5, None, float("inf")]
    if spec != "float64":
        assert re.search(f"row 1: expected a number within the range of {spec}", refusal(spec, np.array([1.0, 1e300])))
        assert re.search(
            f"row 3: .* within the range of {spec}, got float 1e",
            refusal(spec, pa.array([1.0, float("inf"), None, 1e300])),
        )
    assert re.search("got ndarray of dtype <U1", refusal(spec, np.array(["1"])))
    assert re.search("got ndarray of dtype complex128", refusal(spec, np.array([1j])))


def test_integers_too_large_for_float16_are_refused_from_arrow() -> None:
    assert re.search("expected", refusal("float16", pa.array([70000])))
    assert re.search("expected", refusal("float16", pa.array([1, 70000], pa.int32()).dictionary_encode()))


def test_bools_of_numpy_are_taken() -> None:
    flags = np.arange(20) % 3 == 0
    assert column("bool", flags).to_pylist() == flags.tolist()
    assert column("bool", flags[::2]).to_pylist() == flags[::2].tolist()
    assert re.search("expected a column of bools, got ndarray of dtype int64", refusal("bool", np.array([1, 0])))


def test_arrays_of_numpy_have_a_row_a_sample() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    encoding = parse_encoding("ndarray:float32:2,3")
    for given in (values, torch.from_numpy(values), np.asfortranarray(values), values[::-1][::-1]):
        assert same(read_all(encoding, column("ndarray:float32:2,3", given)), list(values))
    assert re.search(
        r"expected rows of shape \(2, 3\), got ndarray", refusal("ndarray:float32:2,3", values.reshape(4, 3, 2))
    )
    assert re.search("dtype float32, got ndarray of dtype float64", refusal("ndarray:float32:2,3", values.astype("f8")))
    for spec in ("ndarray:float32", "ndarray"):
        assert same(read_all(parse_encoding(spec), column(spec, values)), list(values))


def test_bool_and_bfloat16_arrays_have_a_row_a_sample() -> None:
    flags = np.arange(6).reshape(3, 2) % 2 == 0
    assert same(read_all(parse_encoding("ndarray:bool:2"), column("ndarray:bool:2", flags)), list(flags))
    tensor = torch.arange(6).reshape(3, 2).to(torch.bfloat16)
    read = read_all(parse_encoding("ndarray:bfloat16:2"), column("ndarray:bfloat16:2", tensor))
    assert [value.astype(float).tolist() for value in read] == tensor.tolist()


def test_tensors_of_numbers_are_taken() -> None:
    assert column("int", torch.tensor([1, 2])).to_pylist() == [1, 2]
    assert column("float32", torch.tensor([1.5], requires_grad=True)).to_pylist() == [1.5]


def test_a_column_of_numpy_is_copied() -> None:
    for spec, values in [
        ("int", np.zeros(3, np.int64)),
        ("float32", np.zeros(3, np.float32)),
        ("bool", np.zeros(3, np.bool_)),
        ("ndarray:int8:2", np.zeros((3, 2), np.int8)),
        ("ndarray:int8", np.zeros((3, 2), np.int8)),
        ("ndarray", np.zeros((3, 2), np.int8)),
        (pa.int64(), np.zeros(3, np.int64)),
    ]:
        array = column(spec, values)
        before = array.to_pylist()
        values[...] = 1
        assert array.to_pylist() == before


def test_masked_values_are_missing() -> None:
    values = np.ma.masked_array(np.arange(3), [False, True, False])
    assert column("int", values).to_pylist() == [0, None, 2]


def test_the_row_that_does_not_fit_is_named() -> None:
    assert re.search("^row 3: expected an integer from .* got str '3'", refusal("int", [1, None, 2, "3"]))
    assert re.search("^row 1: expected a str, got int 1", refusal("str", ["a", 1]))
    assert re.search("^row 1: expected a value of timestamp", refusal(pa.timestamp("us"), [None, "x"]))
    assert re.search("^row 1: .*1.5 is no integer", refusal(pa.list_(pa.int32()), [[1], [1.5]]))
    assert re.search(
        r"^row 1: expected an array of shape \(2,\)",
        refusal("ndarray:float32:2", [np.zeros(2, "f4"), np.zeros(3, "f4")]),
    )


@pytest.mark.parametrize("values", ["text", b"bytes", 3, None, np.array(3), object()])
def test_what_is_no_column_is_refused(values: Any) -> None:
    assert re.search("expected a column of values, got .*; pass a list or an array", refusal("int", values))


@pytest.mark.parametrize(
    ("spec", "given", "stored"),
    [
        ("int", pa.array([1, None], pa.uint8()), [1, None]),
        ("int8", pa.array([1, None]), [1, None]),
        ("int", pa.array([5, 5, None]).dictionary_encode(), [5, 5, None]),
        ("float32", pa.array([Decimal("1.5")]), [1.5]),
        ("bool", pa.array([True, None]), [True, None]),
        ("str", pa.array(["a", None], pa.large_string()), ["a", None]),
        ("str", pa.array(["a", None], pa.string_view()), ["a", None]),
        ("str", pa.array(["a", None]).dictionary_encode(), ["a", None]),
        ("bytes", pa.array([b"ab"], pa.large_binary()), [b"ab"]),
        ("bytes", pa.array([b"ab"], pa.binary_view()), [b"ab"]),
        ("bytes", pa.array([b"ab"], pa.binary(2)), [b"ab"]),
        ("str_int", pa.array([5, None]), ["5", None]),
        ("str_int", pa.array(["005", None]), ["5", None]),
        ("str_float", pa.array([0.5, None]), ["0.5", None]),
        ("str_decimal", pa.array([Decimal("1.50")]), ["1.50"]),
        ("json", pa.array(['{"a": 1}', None], pa.large_string()), ['{"a": 1}', None]),
        ("json", pa.array([{"a": [1]}, None]), ['{"a": [1]}', None]),
        ("json", pa.array(["[]"], pa.json_()), ["[]"]),
        ("json", pa.array(["[]"]).dictionary_encode(), ["[]"]),
        ("list[png]", pa.array([[b"1"], None], pa.large_list(pa.large_binary())), [[b"1"], None]),
        (pa.large_string(), pa.array(["a"], pa.string_view()), ["a"]),
        (pa.timestamp("us"), pa.array([1, None], pa.timestamp("ms")), [dt.datetime(1970, 1, 1, 0, 0, 0, 1000), None]),
        (pa.dictionary(pa.int8(), pa.string()), pa.array(["a", None]), ["a", None]),
        (pa.list_(pa.string()), pa.array([["a"]], pa.list_(pa.string_view())), [["a"]]),
    ],
    ids=str,
)  # fmt: skip
def test_columns_of_the_same_family_are_cast(spec: Any, given: pa.Array, stored: list[Any]) -> None:
    assert column(spec, given).to_pylist() == stored
    assert column(spec, pa.concat_arrays([given, given]).slice(len(given))).to_pylist() == stored


@pytest.mark.parametrize(
    ("spec", "given", "message"),
    [
        ("int8", pa.array([300]), "expected a column of int8, got one of int64: Integer value 300"),
        ("int", pa.array([1.0]), "expected a column of int64, got one of double"),
        ("int", pa.array(["1"]), "expected a column of int64, got one of string"),
        ("int", pa.array([True]), "expected a column of int64, got one of bool"),
        ("bool", pa.array([1]), "expected a column of bool, got one of int64"),
        ("str", pa.array([1]), "expected a column of string, got one of int64"),
        ("bytes", pa.array(["a"]), "expected a column of binary, got one of string"),
        ("str_int", pa.array(["1", "x"]), "row 1: expected int as text, got str 'x'"),
        ("str_decimal", pa.array(["x"]), "row 0: expected Decimal as text, got str 'x'"),
        ("json", pa.array(["1", "{"]), "row 1: expected JSON, got str '{'"),
        ("jpeg", pa.array(["a"]), "expected a column of binary, got one of string"),
        ("ndarray:int8", pa.array([1]), "expected a column of struct"),
        ("ndarray:int8:2", pa.array([1]), "expected a column of ndarray:int8:2, got one of int64"),
        (pa.timestamp("s"), pa.array([1], pa.timestamp("ms")), r"expected a column of timestamp\[s\].*would lose data"),
        (pa.large_string(), pa.array([1]), "expected a column of large_string, got one of int64"),
    ],
    ids=str,
)
def test_columns_of_another_family_are_refused(spec: Any, given: pa.Array, message: str) -> None:
    assert re.search(message, refusal(spec, given))


ROWS = [[[1, 2, 3], [4, 5, 6]], None, [[7, 8, 9], [0, 1, 2]]]
FLAT = [[1, 2, 3, 4, 5, 6], None, [7, 8, 9, 0, 1, 2]]
NESTED = [
    pa.array(ROWS, pa.list_(pa.list_(pa.int16(), 3), 2)),
    pa.array(ROWS, pa.list_(pa.list_(pa.int16()))),
    pa.array(ROWS, pa.large_list(pa.list_(pa.int16(), 3))),
    pa.array(FLAT, pa.list_(pa.int16(), 6)),
    pa.array(FLAT, pa.list_(pa.int16())),
    pa.array(FLAT, pa.fixed_shape_tensor(pa.int16(), (2, 3), dim_names=["h", "w"])),
    pl.Series(ROWS, dtype=pl.Array(pl.Int16, (2, 3))).to_arrow(),
]


@pytest.mark.parametrize("given", NESTED, ids=lambda given: str(given.type))
def test_nested_lists_of_one_shape_become_arrays(given: pa.Array) -> None:
    spec = "ndarray:int16:2,3"
    expected = [None if row is None else np.array(row, np.int16) for row in ROWS]
    assert same(read_all(parse_encoding(spec), column(spec, given)), expected)
    assert same(read_all(parse_encoding(spec), column(spec, given.slice(1))), expected[1:])
    assert same(read_all(parse_encoding(spec), column(spec, given.slice(2))), expected[2:])


def test_lists_of_bool_become_arrays() -> None:
    given = pa.array([[True, False], [False, False]])
    assert same(read_all(parse_encoding("ndarray:bool:2"), column("ndarray:bool:2", given))[0], np.array([True, False]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pa.array([[[1, 2, 3]]], pa.list_(pa.list_(pa.int16()))), "got one of length 1 where 2 is expected"),
        (pa.array([[[1, 2, 3], [1]]], pa.list_(pa.list_(pa.int16()))), "got one of length 1 where 3 is expected"),
        (pa.array([[[1, 2, 3], [1, 2, None]]], pa.list_(pa.list_(pa.int16()))), "got 1 nulls inside of lists"),
        (pa.array([[1] * 6]), "expected arrays of int16, got lists of int64; cast them first"),
        (pa.array([[[[1]]]]), r"expected lists of shape \(2, 3\)"),
        (pa.array([[1] * 6], pa.fixed_shape_tensor(pa.int16(), (3, 2))), "expected a column of ndarray:int16:2,3, got"),
        (
            pa.nulls(1, pa.fixed_shape_tensor(pa.int16(), (2, 3), permutation=[1, 0])),
            "expected a column of ndarray:int16:2,3, got",
        ),
    ],
)
def test_nested_lists_of_other_shapes_are_refused(given: pa.Array, message: str) -> None:
    assert re.search(message, refusal("ndarray:int16:2,3", given))


@pytest.mark.parametrize("make", [pa.list_, pa.large_list], ids=["list", "large_list"])
def test_lists_of_numbers_become_arrays_of_any_length(make: Any) -> None:
    given = pa.array([[9], [1, 2], None, [], [3]], make(pa.int32())).slice(1)
    expected = [np.array([1, 2], "i4"), None, np.array([], "i4"), np.array([3], "i4")]
    assert same(read_all(parse_encoding("ndarray:int32"), column("ndarray:int32", given)), expected)
    assert re.search(
        "got 1 nulls inside of lists", refusal("ndarray:int32", pa.array([[1, None]], pa.list_(pa.int32())))
    )
    assert re.search("got lists of double; cast them first", refusal("ndarray:int32", pa.array([[1.5]])))


def test_polars_columns_keep_their_values() -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", None], "number": [1, None], "flag": [True, None], "bytes": [b"x", None],
            "day": [dt.date(2020, 1, 2), None], "list": [["x"], None], "struct": [{"a": "x"}, None],
            "category": pl.Series(["u", None], dtype=pl.Categorical), "nothing": [None, None],
        }
    )  # fmt: skip
    table = frame.to_arrow()
    for field, values in zip(table.schema, table.columns, strict=True):
        encoding = infer_encoding(field)
        read = read_all(encoding, encoding.column(values))
        assert [value.item() if isinstance(value, np.generic) else value for value in read] == frame[
            field.name
        ].to_list()
