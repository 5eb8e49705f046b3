"""Every encoding gives back what went in, whatever Arrow did with the column in between."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from arrowstream.columns import ENCODING_NAMES, RowReader, encoding_of, parse_encoding
from arrowstream.columns.bfloat16 import BFloat16Type
from tests.columns.reading import read_all, read_rows, same, written
from tests.columns.samples import SAMPLES

every_encoding = pytest.mark.parametrize("spec", list(SAMPLES), ids=str)


def with_nulls(spec: Any) -> list[Any]:
    values = [None, None]
    for value in SAMPLES[spec] * 5:
        values += [value, None]
    return values


def test_every_encoding_has_samples() -> None:
    heads = {str(spec).partition(":")[0] for spec in SAMPLES}
    lossy = {"jpeg", "jpegarray", "jpeg_array", "list[jpeg]"}  # test_images.py
    assert set(ENCODING_NAMES) - heads == lossy


@every_encoding
def test_values_come_back_with_their_types(spec: Any) -> None:
    encoding = parse_encoding(spec)
    assert same(read_all(encoding, written(encoding, SAMPLES[spec])), SAMPLES[spec])


@every_encoding
def test_missing_values_come_back_as_none(spec: Any) -> None:
    encoding = parse_encoding(spec)
    array = written(encoding, with_nulls(spec))
    assert array.null_count == len(SAMPLES[spec]) * 5 + 2
    assert same(read_all(encoding, array), with_nulls(spec))


@every_encoding
@pytest.mark.parametrize("nulls", [True, False])
def test_slices_read_their_own_rows(spec: Any, nulls: bool) -> None:
    encoding = parse_encoding(spec)
    values = with_nulls(spec) if nulls else SAMPLES[spec] * 9
    array = written(encoding, values)
    for start, length in [(1, 100), (3, 2), (9, 8), (len(values), 1)]:
        assert same(read_all(encoding, array.slice(start, length)), values[start : start + length])


@every_encoding
def test_a_column_of_nulls_reads_as_none(spec: Any) -> None:
    encoding = parse_encoding(spec)
    assert read_all(encoding, written(encoding, [None] * 3)) == [None] * 3
    assert read_all(encoding, encoding.column(pa.nulls(3))) == [None] * 3
    assert read_all(encoding, pa.nulls(3, encoding.arrow_type)) == [None] * 3


@every_encoding
def test_empty_arrays_have_a_reader(spec: Any) -> None:
    encoding = parse_encoding(spec)
    full = written(encoding, SAMPLES[spec])
    for empty in (encoding.to_arrow([]), encoding.column([]), full[:0], pa.nulls(0, encoding.arrow_type)):
        assert empty.type == encoding.arrow_type
        assert read_all(encoding, empty) == []


@every_encoding
def test_arrow_files_give_back_field_and_values(spec: Any, tmp_path: Path) -> None:
    encoding = parse_encoding(spec)
    batch = pa.record_batch([written(encoding, with_nulls(spec))], pa.schema([encoding.field("c")]))
    path = tmp_path / "shard.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch.slice(1, 2))
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        assert encoding_of(file.schema.field("c")) == encoding
        got = read_all(encoding, file.get_batch(0).column(0)), read_all(encoding, file.get_batch(1).column(0))
    assert same(list(got), [with_nulls(spec), with_nulls(spec)[1:3]])


@pytest.mark.parametrize("spec", [spec for spec in SAMPLES if not isinstance(spec, pa.MapType)], ids=str)
def test_arrow_files_open_in_polars(spec: Any, tmp_path: Path) -> None:
    encoding = parse_encoding(spec)
    batch = pa.record_batch([written(encoding, with_nulls(spec))], pa.schema([encoding.field("c")]))
    path = tmp_path / "shard.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    frame = pl.read_ipc(path)
    assert frame["c"].null_count() == batch.column(0).null_count
    assert frame["c"].len() == batch.num_rows


@every_encoding
def test_encodings_pickle(spec: Any) -> None:
    encoding = parse_encoding(spec)
    again = pickle.loads(pickle.dumps(encoding))
    assert again == encoding
    assert hash(again) == hash(encoding)
    assert same(read_all(again, written(again, SAMPLES[spec])), SAMPLES[spec])


@pytest.mark.parametrize(
    ("spec", "values"), [(spec, v) for spec, v in SAMPLES.items() if str(spec).startswith("ndarray")], ids=str
)
def test_arrays_are_read_as_writable_copies(spec: Any, values: list[np.ndarray]) -> None:
    encoding = parse_encoding(spec)
    array = written(encoding, values)
    for value in read_all(encoding, array):
        value[...] = 1
    assert same(read_all(encoding, array), values)


def test_bfloat16_arrays_are_read_where_the_extension_type_is_unknown() -> None:
    encoding = parse_encoding("ndarray:bfloat16:2,3")
    array = written(encoding, with_nulls("ndarray:bfloat16:2,3"))
    assert same(read_all(encoding, array.storage), with_nulls("ndarray:bfloat16:2,3"))


def test_the_bfloat16_type_says_its_shape_and_refuses_another_storage() -> None:
    bfloat16 = BFloat16Type([2, 3])
    assert str(bfloat16) == "extension<arrowstream.bfloat16[shape=[2, 3]]>"
    assert bfloat16 != BFloat16Type([3, 2])
    with pytest.raises(pa.ArrowInvalid, match="is stored as"):
        BFloat16Type.__arrow_ext_deserialize__(pa.list_(pa.uint16(), 5), b'{"shape": [2, 3]}')


def test_large_and_view_variants_of_a_column_read_alike() -> None:
    for spec, variants in {
        "str": [pa.large_string(), pa.string_view()],
        "json": [pa.large_string(), pa.string_view()],
        "bytes": [pa.large_binary(), pa.binary_view()],
        "png": [pa.large_binary(), pa.binary_view()],
    }.items():
        encoding = parse_encoding(spec)
        array = written(encoding, with_nulls(spec))
        for variant in variants:
            column = array.cast(variant).slice(1)
            assert encoding.fits(variant)
            assert same(read_all(encoding, column), with_nulls(spec)[1:])


def test_lists_of_images_in_large_binary_read_alike() -> None:
    encoding = parse_encoding("list[png]")
    array = written(encoding, with_nulls("list[png]")).cast(pa.list_(pa.large_binary()))
    assert same(read_all(encoding, array), with_nulls("list[png]"))


def test_a_reader_names_everything_it_needs() -> None:
    for spec in SAMPLES:
        encoding = parse_encoding(spec)
        reader = encoding.reader(written(encoding, with_nulls(spec)))
        assert isinstance(reader, RowReader)
        assert "{" not in reader.expression
        assert read_rows(reader, [0]) == [None]


def test_only_pickle_is_unsafe() -> None:
    assert [spec for spec in SAMPLES if parse_encoding(spec).unsafe] == ["pkl"]
