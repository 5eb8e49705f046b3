"""Parquet: whatever pyarrow reads comes out as a user expects it."""

import datetime as dt
import io
import json
import zoneinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from arrowstream import MDSWriter, ParquetWriter, StreamingDataset, index_files, ipc, scan
from arrowstream.errors import CorruptShardError, EncodingError
from arrowstream.ipc import writing
from tests.columns.reading import same
from tests.columns.samples import SAMPLES

WHEN = dt.datetime(2021, 5, 6, 7, 8, 9, 123456)
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")

#: Arrow type -> values in the file, and values of samples where they differ.
KINDS: list[tuple[pa.DataType, list[Any], list[Any] | None]] = [
    (pa.int8(), [1, None, -5], None),
    (pa.uint64(), [1, None, 2**64 - 1], None),
    (pa.float16(), [0.5, None, -2.0], None),
    (pa.bool_(), [True, None, False], None),
    (pa.null(), [None, None, None], None),
    (pa.string(), ["a", None, ""], None),
    (pa.large_string(), ["a", None, "ß"], None),
    (pa.string_view(), ["a", None, "longer than twelve bytes"], None),
    (pa.binary(), [b"a", None, b""], None),
    (pa.large_binary(), [b"a", None, b""], None),
    (pa.binary(3), [b"abc", None, b"def"], None),
    (pa.dictionary(pa.int8(), pa.string()), ["a", None, "a"], None),
    (pa.dictionary(pa.int32(), pa.int64(), ordered=True), [7, None, 8], None),
    (pa.decimal128(10, 2), [Decimal("1.25"), None, Decimal("-99999999.99")], None),
    (pa.decimal256(60, 3), [Decimal("1.250"), None, Decimal(10**50)], None),
    (pa.date32(), [dt.date(2020, 2, 29), None, dt.date(1960, 1, 1)], None),
    (pa.time64("us"), [dt.time(1, 2, 3, 4), None, dt.time(0)], None),
    (pa.timestamp("s"), [WHEN.replace(microsecond=0), None, dt.datetime(1969, 1, 1)], None),
    (pa.timestamp("us"), [WHEN, None, dt.datetime(1969, 1, 1)], None),
    (pa.timestamp("ms", "Europe/Berlin"), [WHEN.replace(microsecond=0, tzinfo=BERLIN), None, None], None),
    (pa.duration("us"), [dt.timedelta(seconds=1), None, dt.timedelta(days=-1)], None),
    (pa.list_(pa.int64()), [[1, None], None, []], None),
    (pa.large_list(pa.large_string()), [["a"], None, []], None),
    (pa.list_(pa.float32(), 2), [[1.0, 2.0], None, [3.0, 4.0]], None),
    (pa.list_(pa.list_(pa.int8())), [[[1], []], None, []], None),
    (pa.list_(pa.dictionary(pa.int32(), pa.string())), [["a", "b"], None, ["a"]], None),
    (
        pa.struct({"a": pa.int64(), "b": pa.list_(pa.struct({"c": pa.timestamp("us", "UTC")}))}),
        [{"a": 1, "b": [{"c": WHEN.replace(tzinfo=dt.UTC)}]}, None, {"a": None, "b": None}],
        None,
    ),
    (pa.map_(pa.string(), pa.list_(pa.int32())), [[("k", [1])], None, []], None),
    (pa.uuid(), [b"0123456789abcdef", None, b"f" * 16], None),
    (pa.json_(), ['{"a": 1}', None, "[]"], None),
]


@pytest.mark.parametrize(("arrow_type", "values", "read"), KINDS, ids=[str(kind) for kind, _, _ in KINDS])
def test_every_type_comes_out_of_a_file_of_another_writer(
    tmp_path: Path, arrow_type: pa.DataType, values: list[Any], read: list[Any] | None
) -> None:
    if isinstance(arrow_type, pa.BaseExtensionType):
        column = pa.ExtensionArray.from_storage(arrow_type, pa.array(values, arrow_type.storage_type))
    else:
        column = pa.array(values, arrow_type)
    pq.write_table(pa.table({"value": column, "id": [0, 1, 2]}), tmp_path / "part.parquet", store_schema=True)
    index_files(tmp_path)
    assert [sample["value"] for sample in StreamingDataset(remote=tmp_path)] == (read or values)


@pytest.mark.parametrize("spec", [spec for spec in SAMPLES if not isinstance(spec, pa.DataType)], ids=str)
def test_every_encoding_goes_through_parquet(tmp_path: Path, spec: str) -> None:
    samples = [{"value": value, "id": number} for number, value in enumerate([*SAMPLES[spec], None])]
    with ParquetWriter(columns={"value": spec, "id": "int"}, out=tmp_path / "data", compression="zstd") as writer:
        for sample in samples:
            writer.write(sample)
    for arguments in ({"remote": tmp_path / "data", "local": tmp_path / "cache"}, {"local": tmp_path / "data"}):
        dataset = StreamingDataset(**arguments, allow_unsafe_types=True)
        assert same([sample["value"] for sample in dataset], [sample["value"] for sample in samples])


def test_parquet_shards_hold_what_mds_shards_hold(tmp_path: Path) -> None:
    table = pa.table({"id": np.arange(30_000), "text": [f"{number} " * 10 for number in range(30_000)]})
    for kind in (MDSWriter, ParquetWriter):
        with kind(columns=table.schema, out=tmp_path / kind.__name__, size_limit="500kb") as writer:
            writer.write_batch(table)
    mds, parquet = (StreamingDataset(remote=tmp_path / name) for name in ("MDSWriter", "ParquetWriter"))
    assert parquet.samples_per_shard.tolist() == mds.samples_per_shard.tolist()
    assert parquet.schema == mds.schema
    assert parquet.take(np.arange(30_000)).equals(mds.take(np.arange(30_000)))
    assert pl.read_parquet(tmp_path / "ParquetWriter" / "*.parquet")["id"].sum() == sum(range(30_000))


def test_row_groups_are_record_batches_as_a_shard_has_them(tmp_path: Path) -> None:
    with ParquetWriter(columns={"x": "float64"}, out=tmp_path, size_limit="4mb") as writer:
        writer.write_batch({"x": np.random.default_rng(0).random(1 << 20)})
    footer = pq.read_metadata(tmp_path / "shard.00000.parquet")
    rows = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    assert len(rows) > 2
    assert set(rows[:-1]) == {rows[0]}
    assert 0.5 <= rows[0] * 8 / ipc.BATCH_BYTES <= 1.5


@pytest.mark.parametrize("compression", ["zstd:5", "lz4", "gz:1", "br:3", "snappy", "bz2:1"])
def test_codecs_compress_inside_the_file_where_parquet_has_them(tmp_path: Path, compression: str) -> None:
    with ParquetWriter(columns={"x": "int"}, out=tmp_path, compression=compression) as writer:
        writer.write_batch({"x": np.zeros(10_000, np.int64)})
    [file] = tmp_path.glob("shard.*")
    assert file.name == ("shard.00000.parquet.bz2" if compression == "bz2:1" else "shard.00000.parquet")
    assert StreamingDataset(remote=tmp_path)[9_999] == {"x": 0}


def test_a_type_that_parquet_does_not_store_is_refused_by_name(tmp_path: Path) -> None:
    with (
        pytest.raises(EncodingError, match="Parquet does not store these columns"),
        ParquetWriter(columns=pa.schema({"x": pa.month_day_nano_interval()}), out=tmp_path) as writer,
    ):
        writer.write_batch(pa.record_batch({"x": pa.array([None], pa.month_day_nano_interval())}))
    assert not (tmp_path / "index.json").exists()


def test_only_the_declared_columns_are_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"id": np.arange(1000), "ballast": [b"x" * 1000] * 1000}), path, use_dictionary=False)
    footer = pq.read_metadata(path)
    column = footer.row_group(0).column(1)
    contents = bytearray(path.read_bytes())
    start = column.data_page_offset
    contents[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(contents)
    index_files(tmp_path, columns=["id"])
    assert list(StreamingDataset(remote=tmp_path)) == [{"id": number} for number in range(1000)]
    index_files(tmp_path, rebuild=True)
    with pytest.raises(CorruptShardError, match=r"part\.parquet: is no whole Parquet file"):
        StreamingDataset(remote=tmp_path)[0]


def test_columns_with_names_that_are_parts_of_others_are_kept_apart(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": 1}], "a.b": [2], "ab": [3], "b": [4]})
    pq.write_table(table, tmp_path / "part.parquet")
    index_files(tmp_path, columns=["b", "a", "a.b"])
    assert list(StreamingDataset(remote=tmp_path)) == [{"b": 4, "a": {"b": 1}, "a.b": 2}]


def photo(kind: str, shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (shade, 0, 0)).save(file, kind)
    return file.getvalue()


def hugging_face(features: dict[str, Any], columns: dict[str, Any]) -> pa.Table:
    """Lay out a table as ``datasets`` does in to_parquet."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    arrays = {
        name: pa.array(values, kind) if features[name]["_type"] in {"Image", "Audio"} else pa.array(values)
        for name, values in columns.items()
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(arrays).replace_schema_metadata(metadata)


FEATURES = {"image": {"_type": "Image"}, "audio": {"_type": "Audio"}, "label": {"_type": "ClassLabel", "names": ["a"]}}


def test_images_of_hugging_face_become_images(tmp_path: Path) -> None:
    columns = {
        "image": [{"bytes": photo("PNG", 10), "path": None}, {"bytes": photo("JPEG", 20), "path": "x.jpg"}, None],
        "audio": [{"bytes": b"RIFF", "path": "a.wav"}] * 3,
        "label": [0, 0, 0],
    }
    pq.write_table(hugging_face(FEATURES, columns), tmp_path / "train-00000-of-00001.parquet")
    index = index_files(tmp_path)
    assert dict(index.groups[0].columns) == {
        "image": "image",
        "audio": "struct<bytes: binary, path: string>",
        "label": "int64",
    }
    first, second, third = StreamingDataset(remote=tmp_path)
    assert first["image"].getpixel((0, 0)) == (10, 0, 0)
    assert (first["image"].format, second["image"].format, second["image"].size) == ("PNG", "JPEG", (4, 3))
    assert third["image"] is None
    assert first["audio"] == {"bytes": b"RIFF", "path": "a.wav"}
    assert scan(tmp_path).collect()["image"].to_list()[0] == photo("PNG", 10)


def test_an_image_that_is_not_in_the_file_is_named(tmp_path: Path) -> None:
    columns = {"image": [{"bytes": photo("PNG", 10), "path": None}, {"bytes": None, "path": "/photos/7.jpg"}]}
    pq.write_table(hugging_face(FEATURES, columns), tmp_path / "part.parquet")
    index_files(tmp_path)
    with pytest.raises(CorruptShardError, match=r"column 'image'.*/photos/7\.jpg.*embedded"):
        StreamingDataset(remote=tmp_path)[0]


@pytest.mark.parametrize("metadata", ["", "[]", "null", '{"info": 5}', '{"info": {"features": []}}', "[" * 10_000])
def test_metadata_that_is_not_hugging_faces_changes_nothing(tmp_path: Path, metadata: str) -> None:
    table = pa.table({"image": [{"bytes": b"x", "path": "y"}]}).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "part.parquet")
    index_files(tmp_path)
    assert StreamingDataset(remote=tmp_path)[0] == {"image": {"bytes": b"x", "path": "y"}}


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    # One row group, in pages of one value; a page is decompressed as a whole.
    noise = np.random.default_rng(0)
    table = pa.table({"bytes": [noise.bytes(1 << 20) for _ in range(64)]})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, write_batch_size=1)
    del table
    index_files(tmp_path)
    before, peak = pa.total_allocated_bytes(), 0
    real = writing.Output.write

    def watched(output: Any, batch: pa.RecordBatch) -> None:
        nonlocal peak
        peak = max(peak, pa.total_allocated_bytes() - before)
        real(output, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing.Output, "write", watched)
        StreamingDataset(remote=tmp_path)[0]
    assert 0 < peak < 40 << 20


def test_a_file_that_was_replaced_by_one_of_another_type_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"x": [1, 2]}), path, compression="none")
    index_files(tmp_path)
    size = path.stat().st_size
    pq.write_table(pa.table({"x": [1.0, 2.0]}), path, compression="none")
    tree = json.loads((tmp_path / "index.json").read_text())
    assert tree["groups"][0]["shards"]["file_bytes"] == [size]
    tree["groups"][0]["shards"]["file_bytes"] = [path.stat().st_size]
    (tmp_path / "index.json").write_text(json.dumps(tree))
    with pytest.raises(CorruptShardError, match=r"column 'x' is double, the index declares int64.*index it again"):
        StreamingDataset(remote=tmp_path)[0]


@pytest.mark.parametrize(
    ("arrow_type", "value"),
    [
        (pa.timestamp("s"), WHEN.replace(microsecond=0)),
        (pa.timestamp("s", "UTC"), WHEN.replace(microsecond=0, tzinfo=dt.UTC)),
        (pa.time32("s"), dt.time(1, 2, 3)),
        (pa.decimal32(5, 2), Decimal("1.25")),
        (pa.decimal64(12, 2), Decimal("1.25")),
        (pa.duration("s"), dt.timedelta(seconds=5)),
    ],
    ids=str,
)
def test_what_parquet_stores_otherwise_is_read_as_it_was_written(
    tmp_path: Path, arrow_type: pa.DataType, value: Any
) -> None:
    with ParquetWriter(columns={"x": arrow_type}, out=tmp_path) as writer:
        writer.write({"x": value})
        writer.write({"x": None})
    dataset = StreamingDataset(local=tmp_path)
    assert (dataset[0]["x"], dataset[1]["x"], dataset.schema.field("x").type) == (value, None, arrow_type)


@pytest.mark.parametrize("arrow_type", [pa.uuid(), pa.list_view(pa.int64()), pa.list_(pa.uuid())], ids=str)
def test_what_parquet_would_not_give_back_is_refused_at_writing(tmp_path: Path, arrow_type: pa.DataType) -> None:
    with pytest.raises(EncodingError, match=r"column 'x' is .*, which Parquet files do not give back; write mds"):
        ParquetWriter(columns={"x": arrow_type}, out=tmp_path)
