"""Queries over shards with Polars, Arrow and DuckDB give the right answers, from the cache alone where told so."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from arrowstream import (
    LocalDataset,
    MDSWriter,
    Stream,
    StreamingDataset,
    merge_index,
    scan,
    to_arrow_dataset,
    write_dataframe,
)
from arrowstream.errors import EncodingError, MissingShardError, RemoteNotFoundError, UnsafeTypeError
from tests.writing.directories import listing, run_python

COUNT = 1000
FRAME = pl.DataFrame(
    {
        "id": range(COUNT),
        "word": [None if number % 10 == 9 else f"word {number % 7}" for number in range(COUNT)],
        "x": [number / 4 for number in range(COUNT)],
    }
)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    index = write_dataframe(FRAME, tmp_path / "remote", size_limit="8kb", compression="zstd")
    assert index.num_shards > 4
    return tmp_path / "remote"


@pytest.fixture
def dataset(remote: Path, tmp_path: Path) -> StreamingDataset:
    return StreamingDataset(remote=remote, local=tmp_path / "local")


def _some_cached(dataset: StreamingDataset) -> list[int]:
    """Fetch the second and the fourth shard; give the ids of their samples."""
    starts = np.cumsum([0, *dataset.samples_per_shard]).tolist()
    ids = [*range(starts[1], starts[2]), *range(starts[3], starts[4])]
    dataset[ids[0]], dataset[ids[-1]]
    return ids


@pytest.mark.parametrize("as_text", [str, Path.as_uri, lambda path: path])
def test_a_directory_is_scanned_in_place(remote: Path, as_text: Any) -> None:
    before = listing(remote)
    assert scan(as_text(remote)).collect().equals(FRAME)
    assert pl.from_arrow(to_arrow_dataset(as_text(remote)).to_table()).equals(FRAME)
    assert listing(remote) == before


def test_a_cached_dataset_is_scanned_without_its_remote(remote: Path, dataset: StreamingDataset) -> None:
    ids = _some_cached(dataset)
    before = listing(Path(dataset.streams[0].local or ""))
    shutil.rmtree(remote)
    assert scan(dataset).collect().equals(FRAME[ids])
    assert to_arrow_dataset(dataset).to_table()["id"].to_pylist() == ids
    assert listing(Path(dataset.streams[0].local or "")) == before


def test_on_request_all_shards_are_fetched(dataset: StreamingDataset) -> None:
    _some_cached(dataset)
    assert scan(dataset, fetch=True).collect().equals(FRAME)
    assert to_arrow_dataset(dataset, fetch=True).count_rows() == COUNT
    assert scan(dataset).collect().equals(FRAME)


def test_a_cache_directory_is_a_dataset_of_its_own(remote: Path, dataset: StreamingDataset) -> None:
    list(dataset)
    shutil.rmtree(remote)
    assert scan(dataset.streams[0].local or "").collect().equals(FRAME)


@pytest.mark.parametrize("call", [scan, to_arrow_dataset])
def test_a_dataset_with_an_empty_cache_says_so(dataset: StreamingDataset, call: Any) -> None:
    with pytest.raises(MissingShardError, match=r"none of its shards lies in the cache yet.*fetch=True"):
        call(dataset)


def test_what_a_query_finds_is_taken_by_id(dataset: StreamingDataset) -> None:
    cached = _some_cached(dataset)
    wanted = pl.col("word").is_null() & (pl.col("x") > 10)
    found = scan(dataset, sample_id=True).filter(wanted).collect()
    expected = [number for number in cached if number % 10 == 9 and number > 40]
    assert found["sample_id"].to_list() == found["id"].to_list() == expected
    assert found.schema["sample_id"] == pl.Int64
    rows = found.drop("sample_id").to_dicts()
    assert dataset[found["sample_id"].to_numpy()] == rows
    assert dataset[found["sample_id"].to_list()] == rows
    assert dataset.take(found["sample_id"].to_numpy()).to_pylist() == rows


def test_ids_run_on_over_several_streams(tmp_path: Path, remote: Path) -> None:
    write_dataframe(FRAME.with_columns(pl.col("id") + COUNT), tmp_path / "more", size_limit="8kb")
    both = StreamingDataset(streams=[Stream(local=str(remote)), Stream(local=str(tmp_path / "more"))])
    frame = scan(both, sample_id=True).collect()
    assert frame["sample_id"].to_list() == frame["id"].to_list() == list(range(2 * COUNT))


@pytest.mark.parametrize("sample_id", [True, False])
def test_projection_and_predicate_give_what_they_give_in_memory(remote: Path, sample_id: bool) -> None:
    query = scan(remote, sample_id=sample_id)
    for plan in (
        lambda frame: frame.select("x").sum(),
        lambda frame: frame.filter(pl.col("id").is_between(333, 666)).select("word", "id"),
        lambda frame: frame.group_by("word").agg(pl.len(), pl.col("x").mean()).sort("word", nulls_last=True),
        lambda frame: frame.select(pl.len()),
        lambda frame: frame.slice(500, 7).select("id", "word"),
    ):
        assert plan(query).collect().equals(plan(FRAME.lazy()).collect())


def test_arrow_and_duckdb_give_the_same_answers(remote: Path) -> None:
    shards = to_arrow_dataset(remote)
    table = shards.to_table(columns=["id"], filter=pc.field("word").is_null() & (pc.field("id") < 100))
    assert table.to_pydict() == {"id": list(range(9, 100, 10))}
    answer = duckdb.sql("SELECT word, count(*) AS n, sum(x) AS s FROM shards GROUP BY word ORDER BY word").fetchall()
    expected = FRAME.group_by("word").agg(pl.len(), pl.col("x").sum()).sort("word", nulls_last=True)
    assert answer == expected.rows()


def _tensors(directory: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {
        "flat": rng.random((300, 4), np.float32),
        "image": rng.integers(0, 256, (300, 2, 3), np.uint8),
        "cube": rng.integers(-9, 9, (300, 2, 2, 2)).astype(np.int16),
    }
    with MDSWriter(out=directory, size_limit="10kb") as writer:
        writer.write_batch(arrays)
        assert writer.finish().num_shards > 2
    return arrays


@pytest.mark.parametrize("sample_id", [True, False])
def test_tensors_are_arrays_in_polars(tmp_path: Path, sample_id: bool) -> None:
    arrays = _tensors(tmp_path)
    frame = scan(tmp_path, sample_id=sample_id).collect()
    assert [frame.schema[name] for name in arrays] == [
        pl.Array(pl.Float32, 4),
        pl.Array(pl.UInt8, (2, 3)),
        pl.Array(pl.Int16, (2, 2, 2)),
    ]
    for name, array in arrays.items():
        assert np.array_equal(frame[name].to_numpy(), array)
        assert np.array_equal(scan(tmp_path).select(name).slice(7, 9).collect()[name].to_numpy(), array[7:16])


def test_a_filter_goes_past_tensors_into_the_files(tmp_path: Path) -> None:
    arrays = _tensors(tmp_path)
    with MDSWriter(out=tmp_path / "x", size_limit="10kb") as writer:
        writer.write_batch({"id": np.arange(300), **arrays})
    query = scan(tmp_path / "x").filter(pl.col("id") % 100 == 7).select("id", "cube")
    assert query.collect()["id"].to_list() == [7, 107, 207]
    assert np.array_equal(query.collect()["cube"].to_numpy(), arrays["cube"][[7, 107, 207]])
    assert query.filter(pl.col("id") < 0).collect().schema["cube"] == pl.Array(pl.Int16, (2, 2, 2))
    assert "FILTER" not in query.explain()  # it is part of the scan


def test_a_missing_tensor_is_null_in_polars(tmp_path: Path) -> None:
    with MDSWriter(columns={"t": "ndarray:float32:2,2"}, out=tmp_path) as writer:
        writer.write({"t": np.ones((2, 2), np.float32)})
        writer.write({"t": None})
    assert scan(tmp_path).collect()["t"].to_list() == [[[1, 1], [1, 1]], None]


def test_tensors_are_tensors_in_arrow_and_arrays_in_duckdb(tmp_path: Path) -> None:
    arrays = _tensors(tmp_path)
    shards = to_arrow_dataset(tmp_path)
    table = shards.to_table()
    for name, array in arrays.items():
        assert isinstance(table.schema.field(name).type, pa.FixedShapeTensorType)
        assert np.array_equal(table[name].combine_chunks().to_numpy_ndarray(), array)
    read = duckdb.sql("SELECT flat, image FROM shards").fetchnumpy()
    assert np.array_equal(np.stack(read["flat"]), arrays["flat"])
    assert np.array_equal(np.stack(read["image"]), arrays["image"].reshape(300, 6))


def test_bfloat16_is_bits_for_others(tmp_path: Path) -> None:
    import ml_dtypes

    ones = np.ones(3, ml_dtypes.bfloat16)
    with MDSWriter(columns={"b": "ndarray:bfloat16:3"}, out=tmp_path) as writer:
        writer.write({"b": ones})
    assert scan(tmp_path).collect()["b"].to_list() == [ones.view(np.uint16).tolist()]


@pytest.mark.parametrize("sample_id", [True, False])
def test_an_empty_dataset_gives_no_rows(tmp_path: Path, sample_id: bool) -> None:
    write_dataframe(FRAME[:0], tmp_path)
    assert scan(tmp_path, sample_id=sample_id).collect().height == 0
    assert to_arrow_dataset(tmp_path).count_rows() == 0


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RemoteNotFoundError, match=r"index.json: does not exist"):
        scan(tmp_path)


def test_shards_wrapped_as_a_whole_are_scanned_by_way_of_a_cache(tmp_path: Path) -> None:
    write_dataframe(FRAME, tmp_path / "remote", compression="gz", size_limit="8kb")
    dataset = StreamingDataset(remote=tmp_path / "remote", local=tmp_path / "local")
    assert scan(dataset, fetch=True).collect().equals(FRAME)


def test_wrapped_shards_of_this_machine_get_their_twins_outside_of_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataframe(FRAME, tmp_path / "data", compression="gz", size_limit="8kb")
    before = sorted((tmp_path / "data").rglob("*"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert scan(StreamingDataset(local=tmp_path / "data"), fetch=True).collect().equals(FRAME)
    assert len(StreamingDataset(remote=tmp_path / "data")[:]) == COUNT
    assert sorted((tmp_path / "data").rglob("*")) == before
    assert list((tmp_path / "temporary").rglob("*.arrow"))


def test_names_with_patterns_in_them_are_names(tmp_path: Path) -> None:
    write_dataframe(FRAME, tmp_path / "a [b]*?", size_limit="8kb")
    assert scan(tmp_path / "a [b]*?", sample_id=True).drop("sample_id").collect().equals(FRAME)
    assert to_arrow_dataset(tmp_path / "a [b]*?").count_rows() == COUNT


def test_dictionaries_of_several_shards_are_one_column(tmp_path: Path) -> None:
    parts = [pa.table({"c": pa.array(words * 500).dictionary_encode()}) for words in (["a", None], ["b", "a"])]
    reader = pa.RecordBatchReader.from_batches(parts[0].schema, [part.to_batches()[0] for part in parts])
    assert write_dataframe(reader, tmp_path, size_limit="4kb").num_shards > 1
    expected = ["a", None] * 500 + ["b", "a"] * 500
    assert scan(tmp_path).collect()["c"].cast(pl.String).to_list() == expected
    assert to_arrow_dataset(tmp_path).to_table()["c"].to_pylist() == expected


WITHOUT_POLARS = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "polars":
            raise ModuleNotFoundError("No module named 'polars'", name="polars")
sys.meta_path.insert(0, Blocker())
from arrowstream import StreamingDataset, scan, to_arrow_dataset
from arrowstream.errors import MissingDependencyError
print(to_arrow_dataset(sys.argv[1]).count_rows(), len(StreamingDataset(local=sys.argv[1])))
try:
    scan(sys.argv[1])
except MissingDependencyError as error:
    print(error)
"""


def test_without_polars_scan_says_what_to_install(remote: Path) -> None:
    counts, said = run_python(WITHOUT_POLARS, remote).splitlines()
    assert counts == f"{COUNT} {COUNT}"
    assert "pip install 'arrowstream[polars]'" in said


IMPORTS = """
import sys
import arrowstream
assert not {"torch", "polars", "pandas", "duckdb", "pyarrow", "fsspec"} & set(sys.modules), "import arrowstream"
from arrowstream import MDSWriter, StreamingDataset, scan, to_arrow_dataset, write_dataframe
assert "polars" not in sys.modules, "names"
import torch.utils.data

class Telling(StreamingDataset):
    def get_item(self, sample_id):
        return super().get_item(sample_id)["id"], "polars" in sys.modules

dataset = Telling(remote=sys.argv[1], local=sys.argv[2], batch_size=10, shuffle=True)
if __name__ == "__main__":
    told = []
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None
        )
        told += list(loader)
    imported = any(told_so for _, told_so in told)
    print(len(told), len({int(number) for number, _ in told}), imported, "polars" in sys.modules)
"""


def test_polars_is_imported_neither_by_name_nor_by_workers(remote: Path, tmp_path: Path) -> None:
    assert run_python(IMPORTS, remote, tmp_path / "local").split() == [str(2 * COUNT), str(COUNT), "False", "False"]


SCAN_THEN_LOAD = """
import sys
import polars as pl
import torch.utils.data
from arrowstream import StreamingDataset, scan
dataset = StreamingDataset(remote=sys.argv[1], local=sys.argv[2], batch_size=10)
total = scan(dataset, fetch=True).select(pl.col("id").sum()).collect().item()
loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
assert sum(row["id"] for row in loader) == total
assert scan(dataset).select(pl.col("id").sum()).collect().item() == total
print(total)
"""


def test_workers_forked_after_a_query_do_their_work(remote: Path, tmp_path: Path) -> None:
    assert run_python(SCAN_THEN_LOAD, remote, tmp_path / "local").strip() == str(sum(range(COUNT)))


def parts(root: Path, *tables: pa.Table) -> Path:
    for number, table in enumerate(tables):
        write_dataframe(table, root / str(number))
    merge_index(root)
    return root


@pytest.mark.parametrize("sample_id", [False, True])
def test_types_of_parts_widen(tmp_path: Path, sample_id: bool) -> None:
    narrow = pa.table({"n": pa.array([1, 2], pa.int8()), "x": pa.array([0.5, 1.5], pa.float32())})
    wide = pa.table({"x": pa.array([2.5], pa.float64()), "n": pa.array([2**40], pa.int64())})
    root = parts(tmp_path, narrow, wide)
    frame = scan(root, sample_id=sample_id).collect()
    assert frame["n"].to_list() == [1, 2, 2**40]
    assert frame["x"].to_list() == [0.5, 1.5, 2.5]
    if sample_id:
        assert frame["sample_id"].to_list() == [0, 1, 2]
    table = to_arrow_dataset(root).to_table()
    assert table.to_pydict() == {"n": [1, 2, 2**40], "x": [0.5, 1.5, 2.5]}
    assert StreamingDataset(local=root).take([2, 0]).to_pydict() == {"n": [2**40, 1], "x": [2.5, 0.5]}


def test_columns_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    missing = parts(tmp_path / "missing", pa.table({"a": [1]}), pa.table({"a": [1], "b": [2]}))
    other = parts(tmp_path / "other", pa.table({"a": [1]}), pa.table({"a": [b"x"]}))
    for open_as in (scan, to_arrow_dataset):
        with pytest.raises(EncodingError, match=r"0/shard.00000.arrow: has no column 'b', which .*1/shard.00000.arrow"):
            open_as(missing)
        with pytest.raises(EncodingError, match=r"column 'a' is int64 in .*0/shard.* and bytes in .*1/shard"):
            open_as(other)


def test_pickles_are_bytes_to_a_query(tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path, columns={"p": "pkl"}) as writer:
        writer.write({"p": {"a": 1}})
    assert scan(tmp_path).collect()["p"].dtype == pl.Binary
    assert pa.types.is_binary(to_arrow_dataset(tmp_path).to_table()["p"].type)
    for read in (lambda each: each[0], list, lambda each: next(each.batches(1, as_="numpy"))):
        with pytest.raises(UnsafeTypeError, match="allow_unsafe_types"):
            read(StreamingDataset(local=tmp_path))
    with pytest.raises(UnsafeTypeError, match="allow_unsafe_types"):
        LocalDataset(tmp_path)[0]
