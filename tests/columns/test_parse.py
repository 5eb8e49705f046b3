"""Names, types and fields: which encoding they stand for."""

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

from arrowstream.columns import ENCODING_NAMES, encoding_of, infer_encoding, parse_encoding
from arrowstream.columns.bfloat16 import BFloat16Type
from arrowstream.errors import EncodingError, UnknownEncodingError


@pytest.mark.parametrize("name", [*ENCODING_NAMES, "ndarray:float32", "ndarray:bool:3", "ndarray:bfloat16:2,30,4"])
def test_names_are_canonical_but_for_one_alias(name: str) -> None:
    encoding = parse_encoding(name)
    assert encoding.name == {"jpeg_array": "jpegarray"}.get(name, name)
    assert encoding_of(encoding.field("c")) == encoding
    assert infer_encoding(encoding.field("c")) == encoding
    assert repr(encoding).endswith(f"({encoding.name!r})")


def test_a_field_names_its_encoding_and_takes_nulls() -> None:
    field = parse_encoding("int").field("label")
    assert field.equals(pa.field("label", pa.int64(), metadata={b"mds.encoding": b"int"}), check_metadata=True)


@pytest.mark.parametrize("arrow_type", [pa.int64(), pa.string(), pa.timestamp("us"), pa.list_(pa.int8()), pa.null()])
def test_an_arrow_type_stands_for_itself(arrow_type: pa.DataType) -> None:
    encoding = parse_encoding(arrow_type)
    assert (encoding.name, encoding.arrow_type) == (str(arrow_type), arrow_type)
    assert encoding.field("c").equals(pa.field("c", arrow_type), check_metadata=True)
    assert encoding_of(pa.field("c", arrow_type)) == encoding


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "string",
            r"no encoding is named 'string'; did you mean 'str'\? There are: .*bytes, float, float16, .*DTYPE",
        ),
        ("jpg", "did you mean 'jpeg'"),
        ("zzzzz", "no encoding is named 'zzzzz'; There are: bool"),
        ("", "no encoding is named ''"),
        ("int:4", "'int' takes no configuration; write 'int'"),
        ("Int", "did you mean 'int'"),
        ("ndarray:", "no dtype is named ''"),
        ("ndarray:float", r"no dtype is named 'float'; did you mean '.*'\? There are: int8, .*bfloat16"),
        ("ndarray:complex64", "'ndarray' alone also takes complex64"),
        ("ndarray:object:2", "no dtype is named 'object'"),
        ("ndarray:float32:", "expected dimensions of 1 or more such as 3,224,224, got ''; 'ndarray:float32' takes any"),
        ("ndarray:float32:0", "got '0'"),
        ("ndarray:float32:3,0,2", "got '3,0,2'"),
        ("ndarray:float32:3, 4", "got '3, 4'"),
        ("ndarray:float32:3,", "got '3,'"),
        ("ndarray:float32:-3", "got '-3'"),
        ("ndarray:float32:3:4", "got '3:4'"),
        ("ndarray:float32:٣", "got '٣'"),
        ("ndarray:float32:65536,65536", "4294967296 elements, at most 2147483647 fit into a row"),
        (int, "expected the name of an encoding or a pyarrow type, got type"),
        (None, "expected the name of an encoding or a pyarrow type, got NoneType None"),
    ],
)
def test_unknown_encodings_are_refused_with_what_there_is(spec: Any, message: str) -> None:
    with pytest.raises(UnknownEncodingError, match=message):
        parse_encoding(spec)


def claiming(encoding: str, arrow_type: pa.DataType) -> pa.Field:
    return pa.field("c", arrow_type, metadata={"mds.encoding": encoding})


@pytest.mark.parametrize(
    ("encoding", "arrow_type"),
    [
        ("int", pa.int32()),
        ("str", pa.binary()),
        ("bytes", pa.string()),
        ("jpegarray", pa.binary()),
        ("ndarray:float32:2,3", pa.fixed_shape_tensor(pa.float32(), (3, 2))),
        ("ndarray:float32:2,3", pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[1, 0])),
        ("ndarray:bfloat16:2,3", pa.fixed_shape_tensor(pa.uint16(), (2, 3))),
        ("ndarray:uint16:2,3", BFloat16Type([2, 3])),
        ("ndarray:bfloat16:2,3", BFloat16Type([3, 2])),
        ("ndarray:float32", pa.list_(pa.float32())),
    ],
)
def test_a_field_stored_otherwise_than_it_claims_is_refused(encoding: str, arrow_type: pa.DataType) -> None:
    for find in (encoding_of, infer_encoding):
        with pytest.raises(EncodingError) as caught:
            find(claiming(encoding, arrow_type))
        expected = parse_encoding(encoding).arrow_type
        assert str(caught.value) == (
            f"column 'c': encoding {encoding!r} is stored as {expected}, this column is {arrow_type}"
        )


def test_large_variants_fit_what_they_claim() -> None:
    for encoding, arrow_type in [
        ("str", pa.large_string()),
        ("json", pa.string_view()),
        ("png", pa.large_binary()),
        ("list[png]", pa.list_(pa.large_binary())),
        ("ndarray:int8:2", pa.fixed_shape_tensor(pa.int8(), (2,), dim_names=["x"])),
    ]:
        assert encoding_of(claiming(encoding, arrow_type)).name == encoding


def test_a_field_that_claims_an_unknown_encoding_is_named() -> None:
    with pytest.raises(UnknownEncodingError, match=r"column 'c': no encoding is named 'new�'"):
        encoding_of(pa.field("c", pa.int64(), metadata={b"mds.encoding": b"new\xff"}))


@pytest.mark.parametrize(
    ("arrow_type", "name"),
    [
        (pa.int64(), "int64"),
        (pa.uint8(), "uint8"),
        (pa.float16(), "float16"),
        (pa.float64(), "float64"),
        (pa.bool_(), "bool"),
        (pa.string(), "str"),
        (pa.large_string(), "str"),
        (pa.string_view(), "str"),
        (pa.binary(), "bytes"),
        (pa.large_binary(), "bytes"),
        (pa.binary_view(), "bytes"),
        (pa.fixed_shape_tensor(pa.float32(), (2, 3)), "ndarray:float32:2,3"),
        (pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[0, 1]), "ndarray:float32:2,3"),
        (BFloat16Type([4]), "ndarray:bfloat16:4"),
    ],
    ids=str,
)
def test_columns_of_a_dataframe_get_the_encoding_of_their_type(arrow_type: pa.DataType, name: str) -> None:
    encoding = infer_encoding(pa.field("c", arrow_type, metadata={"other": "metadata"}))
    assert encoding.name == name
    assert encoding_of(encoding.field("c")) == encoding


@pytest.mark.parametrize(
    ("arrow_type", "stored"),
    [
        (pa.timestamp("us"), pa.timestamp("us")),
        (pa.null(), pa.null()),
        (pa.binary(4), pa.binary(4)),
        (pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[1, 0]),) * 2,
        (pa.fixed_shape_tensor(pa.float32(), ()),) * 2,
        (pa.fixed_shape_tensor(pa.bool_(), (2,)),) * 2,
        (pa.large_list(pa.string_view()), pa.large_list(pa.string())),
        (pa.list_(pa.binary_view(), 3), pa.list_(pa.binary(), 3)),
        (pa.list_(pa.large_string()), pa.list_(pa.large_string())),
        (pa.map_(pa.string_view(), pa.int8()), pa.map_(pa.string(), pa.int8())),
        (pa.dictionary(pa.uint32(), pa.string_view()), pa.dictionary(pa.uint32(), pa.string())),
        (
            pa.struct([pa.field("a", pa.list_(pa.string_view()), nullable=False)]),
            pa.struct([pa.field("a", pa.list_(pa.string()), nullable=False)]),
        ),
    ],
    ids=str,
)
def test_other_columns_of_a_dataframe_keep_their_type_without_views(arrow_type: Any, stored: Any) -> None:
    encoding = infer_encoding(pa.field("c", arrow_type))
    assert encoding.arrow_type == stored
    assert encoding.field("c").metadata is None


def test_importing_encodings_imports_no_optional_package() -> None:
    script = (
        "import sys, pyarrow, arrowstream.columns\n"
        "arrowstream.columns.parse_encoding(pyarrow.float32())\n"
        "print(*{'torch', 'polars', 'PIL', 'ml_dtypes', 'pandas'} & {name.partition('.')[0] for name in sys.modules})"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == ""
    )
