"""Files that exist become a dataset by their index alone."""

import bz2
import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from PIL import Image
from pyarrow import feather

from arrowstream import MDSWriter, StreamingDataset, index_files, write_dataframe
from arrowstream.errors import CorruptShardError, DirectoryInUseError, EncodingError, RemoteNotFoundError
from arrowstream.index import parse_index


def numbers(start: int, count: int) -> pa.Table:
    ids = np.arange(start, start + count)
    return pa.table({"id": ids, "text": [f"row {number}" for number in ids]})


def ids(dataset: StreamingDataset) -> list[int]:
    return [int(sample["id"]) for sample in dataset]


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Three files with 0, …, 59, of which a plain sort would put the second last."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number, part in enumerate((1, 2, 10)):
        pq.write_table(numbers(20 * number, 20), folder / f"part-{part}.parquet")
    return folder


def test_files_are_shards_in_the_natural_order_of_their_names(parquet: Path) -> None:
    before = {path: path.read_bytes() for path in parquet.iterdir()}
    index = index_files(parquet)
    assert list(index.groups[0].basename) == ["part-1.parquet", "part-2.parquet", "part-10.parquet"]
    assert parse_index((parquet / "index.json").read_bytes(), "test").groups[0].content == index.groups[0].content
    assert ids(StreamingDataset(remote=parquet)) == list(range(60))
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in parquet.iterdir()} == {path.name for path in before} | {"index.json"}


def test_a_folder_without_index_says_that_its_files_can_be_streamed(parquet: Path) -> None:
    with pytest.raises(RemoteNotFoundError) as caught:
        StreamingDataset(remote=parquet)[0]
    assert f"arrowstream index {parquet}" in str(caught.value)
    assert "The 3 .parquet files there (the first is part-1.parquet)" in str(caught.value)


def test_every_format_of_arrow_files_mixes_with_parquet_in_one_index(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "deep" / "er").mkdir(parents=True)
    pq.write_table(numbers(0, 10), folder / "a.parquet")
    feather.write_feather(numbers(10, 10), folder / "b.feather")
    pl.from_arrow(numbers(20, 10)).write_ipc(folder / "c.arrow", compression="zstd")
    with pa.ipc.new_stream(str(folder / "d.arrow"), numbers(30, 10).schema) as stream:  # as datasets' save_to_disk does
        stream.write_table(numbers(30, 10), max_chunksize=3)
    numbers(40, 10).to_pandas().to_parquet(folder / "deep/e.pq")
    (folder / "deep/f.parquet.bz2").write_bytes(bz2.compress((folder / "a.parquet").read_bytes()))
    (folder / "deep/g.arrow.gz").write_bytes(gzip.compress((folder / "c.arrow").read_bytes()))
    for other in ("_SUCCESS", "_metadata", "dataset_info.json", "state.json", ".hidden.parquet", "README.md"):
        (folder / "deep/er" / other).write_bytes(b"{}")
    index = index_files(folder)
    assert [(group.format, group.compression, len(group)) for group in index.groups] == [
        *(("parquet", None, 1), ("arrow", None, 3), ("parquet", None, 1), ("parquet", "bz2", 1), ("arrow", "gz", 1))
    ]
    expected = [*range(50), *range(10), *range(20, 30)]
    assert ids(StreamingDataset(remote=folder)) == expected
    cached = StreamingDataset(remote=folder, local=tmp_path / "cache")
    assert ids(cached) == expected
    assert cached[12] == {"id": 12, "text": "row 12"}
    shutil.rmtree(folder)
    offline = StreamingDataset(local=tmp_path / "cache")
    assert ids(offline) == expected


def test_one_index_is_of_the_files_that_match(parquet: Path) -> None:
    (parquet / "test").mkdir()
    pq.write_table(pa.table({"other": [1]}), parquet / "test/part-1.parquet")
    assert index_files(parquet, pattern="part-*").num_samples == 60
    assert index_files(parquet, pattern="test/*", rebuild=True).num_samples == 1
    with pytest.raises(RemoteNotFoundError, match=r"no files that match 'nothing\*'"):
        index_files(parquet, pattern="nothing*", rebuild=True)


def test_the_format_can_be_named_where_suffixes_do_not_tell(tmp_path: Path) -> None:
    pq.write_table(numbers(0, 5), tmp_path / "part-0")
    with pytest.raises(RemoteNotFoundError, match="holds no files"):
        index_files(tmp_path)
    index_files(tmp_path, pattern="part-*", format="parquet")
    assert ids(StreamingDataset(remote=tmp_path)) == list(range(5))


def test_an_index_that_is_there_is_replaced_only_on_demand(parquet: Path) -> None:
    index_files(parquet, columns=["id"])
    with pytest.raises(DirectoryInUseError, match=r"index\.json: exists already"):
        index_files(parquet)
    index_files(parquet, rebuild=True)
    assert StreamingDataset(remote=parquet)[3] == {"id": 3, "text": "row 3"}


def test_other_columns_of_the_same_files_are_other_content(parquet: Path) -> None:
    everything = index_files(parquet)
    some = index_files(parquet, columns=["text"], rebuild=True)
    assert set(everything.groups[0].content).isdisjoint(some.groups[0].content)
    assert StreamingDataset(remote=parquet)[3] == {"text": "row 3"}


def test_the_same_files_elsewhere_are_the_same_content(parquet: Path, tmp_path: Path) -> None:
    index = index_files(parquet)
    shutil.copytree(parquet, tmp_path / "copy")
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1, 1))
    assert index_files(tmp_path / "copy", hashes=["xxh3_64"], rebuild=True).groups[0].content == index.groups[0].content


def test_a_file_that_was_replaced_is_fetched_anew_once_it_is_indexed_anew(parquet: Path, tmp_path: Path) -> None:
    index_files(parquet)
    assert ids(StreamingDataset(remote=parquet, local=tmp_path / "cache")) == list(range(60))
    pq.write_table(numbers(100, 20), parquet / "part-2.parquet")
    index_files(parquet, rebuild=True)
    found = ids(StreamingDataset(remote=parquet, local=tmp_path / "cache"))
    assert found == [*range(20), *range(100, 120), *range(40, 60)]


def test_a_file_that_was_replaced_behind_the_index_is_refused(parquet: Path) -> None:
    index_files(parquet, hashes=["xxh3_64", "sha256"])
    contents = (parquet / "part-2.parquet").read_bytes()
    (parquet / "part-2.parquet").write_bytes(contents[:-20] + b"\0" + contents[-19:])
    with pytest.raises(CorruptShardError, match=r"part-2\.parquet: its xxh3_64 is .*, the index says"):
        list(StreamingDataset(remote=parquet))


def test_hashes_are_those_of_the_files(parquet: Path) -> None:
    group = index_files(parquet, hashes=["xxh3_64"]).groups[0]
    assert list(group.hashes["xxh3_64"]) == [
        xxhash.xxh3_64_hexdigest((parquet / name).read_bytes()) for name in group.basename
    ]


def test_files_without_rows_are_left_out(parquet: Path) -> None:
    pq.write_table(numbers(0, 0).select(["id"]), parquet / "part-0.parquet")
    assert index_files(parquet).num_shards == 3


WIDENED = [
    (pa.int32(), pa.int64(), "int64"),
    (pa.int64(), pa.int32(), "int64"),
    (pa.uint8(), pa.int8(), "int16"),
    (pa.int32(), pa.float64(), "float64"),
    (pa.float32(), pa.float64(), "float64"),
    (pa.null(), pa.string(), "str"),
    (pa.string(), pa.large_string(), "str"),
    (pa.dictionary(pa.int8(), pa.string()), pa.string(), "str"),
    (pa.timestamp("s"), pa.timestamp("us"), "timestamp[us]"),
    (pa.list_(pa.int8()), pa.list_(pa.int32()), "list<item: int32>"),
    (pa.struct({"a": pa.int8()}), pa.struct({"a": pa.int16(), "b": pa.string()}), "struct<a: int16, b: string>"),
    (pa.decimal128(5, 2), pa.decimal128(9, 3), "decimal128(9, 3)"),
]


@pytest.mark.parametrize(("one", "other", "declared"), WIDENED, ids=[f"{a}-{b}" for a, b, _ in WIDENED])
def test_types_that_differ_between_files_widen(
    tmp_path: Path, one: pa.DataType, other: pa.DataType, declared: str
) -> None:
    values = {kind: [None, {"a": 5}] if pa.types.is_struct(kind) else [None, None] for kind in (one, other)}
    for kind in (one, other):
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            values[kind] = [None, 5]
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), pa.schema({"x": one})) as file:
        file.write_batch(pa.record_batch({"x": pa.array(values[one], one)}))
    with pa.ipc.new_file(str(tmp_path / "b.arrow"), pa.schema({"x": other})) as file:
        file.write_batch(pa.record_batch({"x": pa.array(values[other], other)}))
    assert dict(index_files(tmp_path).groups[0].columns) == {"x": declared}
    dataset = StreamingDataset(remote=tmp_path)
    found = dataset.take(range(4))
    assert found.column("x").null_count == sum(values[kind].count(None) for kind in (one, other))
    assert found.num_rows == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.int64(), pa.string()),
        (pa.string(), pa.binary()),
        (pa.bool_(), pa.int8()),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.list_(pa.int8()), pa.int8()),
    ],
    ids=str,
)
def test_types_that_no_type_bridges_are_refused_with_column_and_files(
    tmp_path: Path, one: pa.DataType, other: pa.DataType
) -> None:
    for name, kind in (("a", one), ("b", one), ("c", other)):
        pq.write_table(pa.table({"fine": [1], "odd": pa.nulls(1, kind)}), tmp_path / f"{name}.parquet")
    with pytest.raises(EncodingError, match=r"column 'odd' is .* in a\.parquet, and .* in c\.parquet"):
        index_files(tmp_path)
    assert not (tmp_path / "index.json").exists()
    assert dict(index_files(tmp_path, columns=["fine"]).groups[0].columns) == {"fine": "int64"}


def test_a_value_that_does_not_fit_the_wider_type_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [2**53 + 1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [0.5]}), tmp_path / "b.parquet")
    index_files(tmp_path)
    with pytest.raises(CorruptShardError, match=r"a\.parquet: column 'x': .*9007199254740993"):
        StreamingDataset(remote=tmp_path)[0]


def test_columns_that_only_some_files_have_are_named(parquet: Path) -> None:
    pq.write_table(pa.table({"id": [1], "more": [2]}), parquet / "part-11.parquet")
    with pytest.raises(EncodingError, match=r"part-11\.parquet: has no column 'text', part-1\.parquet has"):
        index_files(parquet)
    with pytest.raises(EncodingError, match=r"part-1\.parquet: has no column 'more'"):
        index_files(parquet, columns=["more"])
    assert index_files(parquet, columns=["id"]).num_samples == 61


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([[1], [2]], names=["x", "x"]), tmp_path / "a.parquet")
    with pytest.raises(EncodingError, match=r"a\.parquet: several columns are named 'x'"):
        index_files(tmp_path)


@pytest.mark.parametrize("contents", [b"", b"PAR1", b"not at all" * 100])
def test_a_file_that_is_not_what_its_suffix_says_is_named(parquet: Path, contents: bytes) -> None:
    (parquet / "part-3.parquet").write_bytes(contents)
    with pytest.raises(CorruptShardError, match=r"part-3\.parquet: is no whole Parquet file"):
        index_files(parquet)


def test_parquet_that_was_wrapped_in_its_own_codec_is_refused_with_a_way_out(parquet: Path) -> None:
    path = parquet / "part-3.parquet.zst"
    path.write_bytes(pa.Codec("zstd").compress((parquet / "part-1.parquet").read_bytes()).to_pybytes())
    index = index_files(parquet, pattern="part-?.parquet")
    assert index.num_shards == 2
    with pytest.raises(CorruptShardError, match=r"part-3\.parquet\.zst: is wrapped in zstd.*unwrap it first"):
        index_files(parquet, rebuild=True)


# MDS ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zstd", "lz4", "gz", "snappy"])
def test_a_lost_index_is_rebuilt_from_shards(tmp_path: Path, compression: str | None) -> None:
    columns = {"id": "int", "image": "jpeg", "tensor": "ndarray:float32:2", "tags": pa.list_(pa.string())}
    with MDSWriter(columns=columns, out=tmp_path, compression=compression, size_limit="20kb") as writer:
        for number in range(300):
            sample = {"id": number, "image": Image.new("L", (4, 4), number % 256), "tags": ["a"]}
            writer.write({**sample, "tensor": np.full(2, number, np.float32)})
    written = parse_index((tmp_path / "index.json").read_bytes(), "test")
    fingerprint = StreamingDataset(local=tmp_path, batch_size=1).state_dict(0)
    (tmp_path / "index.json").unlink()
    rebuilt = index_files(tmp_path, hashes=["xxh3_64"])
    [old], [new] = written.groups, rebuilt.groups
    assert new.format == "mds"
    assert dict(new.columns) == dict(old.columns)
    assert new.compression == (compression if compression is None else compression.partition(":")[0])
    for name in ("basename", "content"):
        assert list(getattr(new, name)) == list(getattr(old, name))
    for name in ("num_samples", "file_bytes", "rows_per_batch"):
        assert getattr(new, name).tolist() == getattr(old, name).tolist()
    assert list(new.hashes["xxh3_64"]) == list(old.hashes["xxh3_64"])
    assert StreamingDataset(local=tmp_path, batch_size=1).state_dict(0) == fingerprint
    assert ids(StreamingDataset(remote=tmp_path, local=tmp_path / "cache")) == list(range(300))


def test_mds_and_files_of_others_stand_in_one_index(parquet: Path) -> None:
    write_dataframe(numbers(60, 10), parquet / "mds")
    (parquet / "mds" / "index.json").unlink()
    index = index_files(parquet)
    assert [group.format for group in index.groups] == ["mds", "parquet"]
    assert ids(StreamingDataset(remote=parquet)) == [*range(60, 70), *range(60)]
    with pytest.raises(EncodingError, match="is mapped as it is, with all its columns"):
        index_files(parquet, columns=["id"], rebuild=True)


# Elsewhere ------------------------------------------------------------------------------------------------------------


def test_a_source_that_takes_no_file_has_its_index_in_the_cache(parquet: Path, tmp_path: Path) -> None:
    index_files(parquet, out=tmp_path / "cache")
    assert not (parquet / "index.json").exists()
    dataset = StreamingDataset(remote=parquet, local=tmp_path / "cache")
    assert ids(dataset) == list(range(60))
    with pytest.raises(RemoteNotFoundError, match="arrowstream index"):
        StreamingDataset(remote=parquet)[0]
    (tmp_path / "other").mkdir()
    with pytest.raises(RemoteNotFoundError, match=r"other/index\.json: does not exist"):
        StreamingDataset(remote=tmp_path / "other", local=tmp_path / "cache")[0]


def test_the_index_says_how_large_the_files_are(parquet: Path) -> None:
    tree = json.loads(index_files(parquet).to_json())
    [group] = tree["groups"]
    assert group["shards"]["file_bytes"] == [(parquet / name).stat().st_size for name in group["shards"]["basename"]]
