"""What each encoding takes, what it refuses, and how it says so."""

import re
import sys
from decimal import Decimal
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arrowstream.columns import Encoding, parse_encoding
from arrowstream.columns.buffers import list_offsets
from arrowstream.columns.describe import describe
from arrowstream.columns.encoding import single_array
from arrowstream.columns.headed import pack_header, unpack
from arrowstream.errors import EncodingError, MissingDependencyError
from tests.columns.reading import read_all, same, written


def refusal(spec: Any, value: Any) -> str:
    with pytest.raises(EncodingError) as caught:
        parse_encoding(spec).encode(value)
    assert str(caught.value).startswith("expected "), "reads on after 'column …, row …: '"
    assert len(str(caught.value)) < 300
    return str(caught.value)


def through(encoding: Encoding, *values: Any) -> list[Any]:
    return read_all(encoding, written(encoding, list(values)))


INTEGERS = ["int", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]


@pytest.mark.parametrize("spec", INTEGERS)
def test_an_integer_column_refuses_what_is_no_integer(spec: str) -> None:
    for value in (1.0, np.float32(1), True, np.True_, "1", Decimal(1), np.array([1]), [1]):
        assert re.search(f"expected an integer from .* to .*, got {type(value).__name__}", refusal(spec, value))


@pytest.mark.parametrize("spec", INTEGERS)
def test_an_integer_column_takes_its_range_and_no_more(spec: str) -> None:
    limits = np.iinfo("int64" if spec == "int" else spec)
    assert through(parse_encoding(spec), limits.min, np.int8(5), limits.max) == [limits.min, 5, limits.max]
    assert re.search(str(int(limits.max) + 1), refusal(spec, int(limits.max) + 1))
    assert re.search(f"got int {int(limits.min) - 1}", refusal(spec, int(limits.min) - 1))
    assert re.search("got int of 33220 bits", refusal(spec, 10**10000))


@pytest.mark.parametrize("spec", FLOATS)
def test_a_float_column_takes_numbers_and_refuses_overflow(spec: str) -> None:
    dtype = np.dtype(spec)
    high = float(np.finfo(dtype).max)
    values = [1, -0.0, 0.1, np.float32(0.5), np.int64(3), high, -high, np.inf, -np.inf, np.nan, np.float16(2)]
    assert same(through(parse_encoding(spec), *values), [dtype.type(value) for value in values])
    for value in (True, "1", Decimal(1), np.array(1.0), 1j):
        assert re.search(f"got {type(value).__name__}", refusal(spec, value))
    for value in (10**400, -(10**400)):
        assert re.search(f"expected a number within the range of {spec}", refusal(spec, value))
    if spec != "float64":
        assert re.search("expected a number within the range", refusal(spec, high * 1.1))
        assert re.search("expected a number within the range", refusal(spec, np.float64(high * 1.1)))


def test_a_bool_column_takes_bools_alone() -> None:
    assert through(parse_encoding("bool"), True, np.False_, np.True_) == [True, False, True]
    for value in (1, 0, "True", np.array(True), 1.0):
        assert re.search("expected a bool, got", refusal("bool", value))


def test_a_str_column_refuses_lone_surrogates_and_bytes() -> None:
    assert re.search(
        r"lone surrogate '\\ud800' at position 1; decode with errors='replace'", refusal("str", "a\ud800b")
    )
    assert re.search("expected a str, got bytes of 5 bytes b'bytes'", refusal("str", b"bytes"))
    assert through(parse_encoding("str"), np.str_("numpy")) == ["numpy"]


def test_numbers_as_text_keep_every_digit() -> None:
    assert through(parse_encoding("str_int"), 10**100, np.int8(3)) == [10**100, 3]
    assert through(parse_encoding("str_float"), np.float32(0.1), 2) == [float(np.float32(0.1)), 2.0]
    assert re.search("expected int, got float 1.0", refusal("str_int", 1.0))
    assert re.search("expected int, got bool True", refusal("str_int", True))
    assert re.search("expected a number that can be written out, got int", refusal("str_int", 10**10000))
    assert re.search("expected a number that can be written out, got int", refusal("str_float", 10**400))
    assert re.search("expected float, got str '1'", refusal("str_float", "1"))
    assert re.search("expected Decimal, got float 1.5", refusal("str_decimal", 1.5))


def test_a_bytes_column_keeps_a_copy_of_what_it_is_given() -> None:
    buffer = bytearray(b"abc")
    for value in (buffer, memoryview(buffer)):
        encoded = parse_encoding("bytes").encode(value)
        buffer[:] = b"xyz"
        assert encoded == b"abc"
        buffer[:] = b"abc"
    assert re.search("expected bytes, got str 'abc'", refusal("bytes", "abc"))
    assert re.search("expected bytes, got int 3", refusal("bytes", 3))


@pytest.mark.parametrize("spec", ["ndarray:float32:2", "ndarray:float32", "ndarray"])
def test_a_buffer_may_be_reused_for_the_next_sample(spec: str) -> None:
    encoding = parse_encoding(spec)
    buffer = np.zeros(2, np.float32)
    encoded = []
    for number in range(3):
        buffer[:] = number
        encoded.append(encoding.encode(buffer))
    assert [value.tolist() for value in read_all(encoding, encoding.to_arrow(encoded))] == [[0, 0], [1, 1], [2, 2]]


def test_a_list_may_be_reused_for_the_next_sample() -> None:
    encoding = parse_encoding(pa.list_(pa.int64()))
    values = [1]
    first = encoding.encode(values)
    values.append(2)
    assert read_all(encoding, encoding.to_arrow([first, encoding.encode(values)])) == [[1], [1, 2]]


def test_arrays_of_another_dtype_or_shape_are_refused() -> None:
    assert re.search(
        r"dtype float32, got ndarray of dtype float64 and shape \(2, 3\)",
        refusal("ndarray:float32:2,3", np.zeros((2, 3))),
    )
    assert re.search("got ndarray of dtype >f4", refusal("ndarray:float32:2,3", np.zeros((2, 3), ">f4")))
    assert re.search(
        r"shape \(2, 3\), got ndarray of dtype float32 and shape \(6,\)",
        refusal("ndarray:float32:2,3", np.zeros(6, "f4")),
    )
    assert re.search("dtype float32, got ndarray of dtype int32", refusal("ndarray:float32", np.zeros(3, "i4")))
    assert re.search("dtype bool, got ndarray of dtype uint8", refusal("ndarray:bool:2", np.zeros(2, "u1")))
    assert re.search("dtype uint8, got ndarray of dtype bool", refusal("ndarray:uint8:2", np.zeros(2, "?")))
    assert re.search("dtype bfloat16, got ndarray of dtype float32", refusal("ndarray:bfloat16:2", np.zeros(2, "f4")))
    assert re.search(
        "dtype uint16, got ndarray of dtype bfloat16", refusal("ndarray:uint16:2", np.zeros(2, ml_dtypes.bfloat16))
    )
    assert re.search(
        "expected an array of dtype uint8, .*got ndarray of dtype <U1", refusal("ndarray", np.array(["a"]))
    )
    assert re.search("got ndarray of dtype object", refusal("ndarray", np.array([None])))
    for spec in ("ndarray", "ndarray:float32", "ndarray:float32:2"):
        assert re.search(r"expected an array, got list \[1.0, 2.0\]; pass np.asarray", refusal(spec, [1.0, 2.0]))
        assert re.search("without masked elements", refusal(spec, np.ma.masked_array(np.zeros(2, "f4"), [True, False])))


def test_arrays_in_any_memory_layout_are_stored_row_major() -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (base.T[:2, :3], base[::2, ::2], base[::-1, :3][:2], np.asfortranarray(base[:2, :3])):
        fitting = view[:2, :3]
        for spec in ("ndarray:float32:2,3", "ndarray:float32", "ndarray"):
            assert through(parse_encoding(spec), fitting)[0].tolist() == fitting.tolist()


def test_a_dynamic_array_is_stored_in_the_byte_order_of_the_machine() -> None:
    (value,) = through(parse_encoding("ndarray"), np.arange(3, dtype=">i4"))
    assert same(value, np.arange(3, dtype=np.int32))


def test_whatever_views_as_an_array_is_taken() -> None:
    class Wrapped:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.ones(2, np.float32)

    tensor = torch.ones(2, requires_grad=True)
    for spec in ("ndarray:float32:2", "ndarray:float32", "ndarray"):
        for value in (Wrapped(), tensor, torch.nn.Parameter(torch.ones(2)), np.ma.masked_array(np.ones(2, "f4"))):
            assert same(through(parse_encoding(spec), value), [np.ones(2, np.float32)])
    assert same(through(parse_encoding("ndarray:float32"), np.float32(3)), [np.array(3, np.float32)])


def test_bfloat16_tensors_keep_their_bits() -> None:
    tensor = torch.randn(3, 4, requires_grad=True).to(torch.bfloat16)
    for value in (tensor, tensor.detach().T.contiguous().T):
        for spec in ("ndarray:bfloat16:3,4", "ndarray:bfloat16", "ndarray"):
            (read,) = through(parse_encoding(spec), value)
            assert read.dtype == ml_dtypes.bfloat16
            assert torch.equal(torch.from_numpy(read.view(np.int16)).view(torch.bfloat16), value.detach())


def test_bfloat16_names_the_extra_that_it_needs_for_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = parse_encoding("ndarray:bfloat16:2")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    array = written(encoding, [torch.ones(2, dtype=torch.bfloat16)])
    with pytest.raises(MissingDependencyError, match=r"pip install 'arrowstream\[bfloat16\]'"):
        encoding.reader(array)


def test_the_header_of_a_dynamic_array_is_that_of_mosaicml_streaming() -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert parse_encoding("ndarray").encode(value) == bytes([34, 2 << 2, 2, 3]) + value.tobytes()
    assert pack_header("uint8", (256, 1)) == bytes([8, 2 << 2 | 1, 0, 1, 1, 0])
    assert pack_header("int64", (2**40,)) == bytes([65, 1 << 2 | 3]) + (2**40).to_bytes(8, "little")
    assert pack_header("float64", ()) == bytes([66, 0])


@pytest.mark.parametrize("content", [b"", b"\x22", b"\x07\x00", b"\x22\x04", b"\x22\x04\x02123", b"\x08\x04\x02123"])
def test_bytes_that_are_no_dynamic_array_are_refused(content: bytes) -> None:
    with pytest.raises(EncodingError, match="expected an array with its header, got"):
        unpack(memoryview(content))


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 has at most 32 dimensions")
def test_arrays_of_too_many_dimensions_are_refused() -> None:
    assert re.search("at most 63 dimensions, got one of 64", refusal("ndarray", np.zeros((1,) * 64, "u1")))


def test_json_takes_what_json_holds_and_numpy() -> None:
    values = {"a": np.arange(2), "b": np.float32(0.5), "c": [np.int8(1)]}
    assert through(parse_encoding("json"), values) == [{"a": [0, 1], "b": 0.5, "c": [1]}]
    assert same(through(parse_encoding("json"), float("nan")), [float("nan")])
    assert through(parse_encoding("json"), "lone \ud800") == ["lone \ud800"]
    assert re.search("expected a value that JSON can hold, got set", refusal("json", {1, 2}))
    circle: list[Any] = []
    circle.append(circle)
    assert re.search("Circular reference", refusal("json", circle))


def test_pickle_says_what_does_not_pickle() -> None:
    assert re.search("expected a value that pickles, got function", refusal("pkl", lambda: None))


def test_arrow_types_refuse_what_does_not_convert() -> None:
    assert re.search(r"expected a value of timestamp\[us\], got str 'today'", refusal(pa.timestamp("us"), "today"))
    assert re.search("expected a value of list<item: int32>", refusal(pa.list_(pa.int32()), [1, "a"]))
    assert re.search("expected a value of decimal128", refusal(pa.decimal128(3, 1), Decimal("1.25")))
    assert re.search("expected an integer", refusal(pa.int64(), 1.0))
    assert re.search("fixed_size_binary", refusal(pa.binary(2), b"abc"))
    assert re.search("expected a value of null", refusal(pa.null(), 1))


def test_fractions_are_not_cut_off_inside_of_nested_types() -> None:
    assert re.search("2.5 is no integer", refusal(pa.list_(pa.int32()), [1, 2.5]))
    assert re.search("is no integer", refusal(pa.list_(pa.list_(pa.int32())), [[1], [np.float32(2)]]))
    assert re.search("1.5 is no integer", refusal(pa.struct({"a": pa.int64()}), {"a": 1.5}))
    assert through(parse_encoding(pa.list_(pa.int32())), np.array([1, 2]), (3,)) == [[1, 2], [3]]


def test_too_much_for_one_array_says_what_to_do() -> None:
    split = pa.chunked_array([[b"a"], [b"b"]])  # what pa.array gives for more than 2 GiB
    with pytest.raises(EncodingError, match="do not fit into one binary array; pass fewer rows at a time"):
        single_array(split)
    with pytest.raises(EncodingError, match="2147483648 values do not fit into one list array"):
        list_offsets([2**30, 2**30])


@pytest.mark.parametrize(
    "value", ["x" * 10**6, b"x" * 10**6, list(range(10**5)), {i: i for i in range(10**5)}, object()]
)
def test_descriptions_are_short(value: Any) -> None:
    assert len(describe(value)) < 120
    assert describe(value).startswith(type(value).__name__)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_any_integers_come_back(values: list[int | None]) -> None:
    assert read_all(parse_encoding("int"), written(parse_encoding("int"), values)) == values


@given(st.lists(st.none() | st.floats(width=32)))
def test_any_float32_come_back(values: list[float | None]) -> None:
    encoding = parse_encoding("float32")
    read = read_all(encoding, written(encoding, values))
    assert [type(value) for value in read] == [type(None) if value is None else np.float32 for value in values]
    assert same([None if value is None else value.item() for value in read], values)


@given(st.lists(st.none() | st.booleans()), st.integers(0, 20))
def test_any_bools_come_back_from_any_slice(values: list[bool | None], start: int) -> None:
    encoding = parse_encoding("bool")
    assert read_all(encoding, written(encoding, values).slice(start)) == values[start:]


@given(st.lists(st.none() | st.text()), st.integers(0, 5))
def test_any_text_comes_back_from_any_slice(values: list[str | None], start: int) -> None:
    for spec in ("str", "json"):
        encoding = parse_encoding(spec)
        assert read_all(encoding, written(encoding, values).slice(start)) == values[start:]


NUMERIC = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="="), hnp.unsigned_integer_dtypes(endianness="="),
    hnp.floating_dtypes(endianness="=", sizes=(16, 32, 64)),
)  # fmt: skip


@given(st.data())
def test_any_array_comes_back(data: st.DataObject) -> None:
    dtype = data.draw(NUMERIC)
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    values = data.draw(st.lists(st.none() | hnp.arrays(dtype, shapes), max_size=5))
    for spec in ("ndarray", f"ndarray:{dtype.name}"):
        encoding = parse_encoding(spec)
        assert same(read_all(encoding, written(encoding, values)), values)


@given(st.data())
def test_any_array_of_one_shape_comes_back(data: st.DataObject) -> None:
    dtype, shape = data.draw(NUMERIC), data.draw(hnp.array_shapes(max_dims=3, max_side=4))
    values = data.draw(st.lists(st.none() | hnp.arrays(dtype, shape), max_size=5))
    start = data.draw(st.integers(0, 5))
    encoding = parse_encoding(f"ndarray:{dtype.name}:{','.join(map(str, shape))}")
    assert same(read_all(encoding, written(encoding, values).slice(start)), values[start:])
