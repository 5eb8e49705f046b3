"""DataFrames of every library, in and out again without a change."""

import datetime as dt
import decimal
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from arrowstream import StreamingDataset, scan, write_dataframe
from arrowstream.errors import EncodingError, MissingColumnError
from tests.writing.directories import index_of, read_rows, read_shard, run_python, shards_of

ROWS = [
    {
        "id": number,
        "text": None if number % 5 == 2 else f"Zeile ß {number}",
        "value": None if number % 3 == 0 else number / 8,
    }
    for number in range(200)
]
TABLE = pa.Table.from_pylist(ROWS)


class Stranger:
    """Speaks Arrow's C stream and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def _relation(table: pa.Table) -> Any:
    return duckdb.connect().from_arrow(table)


FRAMES = {
    "pandas": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas of its own types": lambda table: table.to_pandas(
        types_mapper={pa.int64(): pd.Int64Dtype(), pa.float64(): pd.Float64Dtype()}.get
    ),
    "polars": pl.from_arrow,
    "polars in chunks": lambda table: pl.concat([pl.from_arrow(table[:70]), pl.from_arrow(table[70:])], rechunk=False),
    "polars lazy": lambda table: pl.from_arrow(table).lazy().with_columns(pl.col("id") + 0),
    "table": lambda table: table,
    "table in chunks": lambda table: pa.concat_tables([table[:70], table[70:]]),
    "record batch": lambda table: pa.record_batch(
        [column.combine_chunks() for column in table.columns], schema=table.schema
    ),
    "reader": lambda table: table.to_reader(max_chunksize=30),
    "dataset": pads.dataset,
    "duckdb": _relation,
    "stranger": Stranger,
}


@pytest.mark.parametrize("library", FRAMES)
def test_values_and_nulls_survive(tmp_path: Path, library: str) -> None:
    index = write_dataframe(FRAMES[library](TABLE), tmp_path, size_limit="4kb")
    assert (index.num_samples, index.num_shards > 1) == (200, True)
    assert index_of(tmp_path)["groups"][0]["columns"] == {"id": "int64", "text": "str", "value": "float64"}
    assert list(StreamingDataset(local=tmp_path)) == ROWS
    assert scan(tmp_path).collect().to_dicts() == ROWS
    assert read_rows(tmp_path) == ROWS


@pytest.mark.parametrize("library", FRAMES)
def test_an_empty_frame_is_a_dataset_without_samples(tmp_path: Path, library: str) -> None:
    index = write_dataframe(FRAMES[library](TABLE[:0]), tmp_path)
    assert (index.num_samples, index.num_shards) == (0, 0)
    assert index_of(tmp_path)["groups"][0]["columns"] == {"id": "int64", "text": "str", "value": "float64"}
    assert list(StreamingDataset(local=tmp_path)) == []


@pytest.mark.parametrize(
    "frame", [None, [{"a": 1}], {"a": [1]}, "frame.parquet", np.zeros((2, 2)), pd.Series([1]), pl.Series([1])]
)
def test_what_is_no_dataframe_is_refused(tmp_path: Path, frame: Any) -> None:
    with pytest.raises(TypeError, match=f"{type(frame).__qualname__} is no DataFrame that arrowstream knows; expected"):
        write_dataframe(frame, tmp_path / "x")
    assert not (tmp_path / "x").exists()


UTC_NOON = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
TYPED: dict[str, tuple[pa.DataType, list[Any]]] = {
    "timestamp": (pa.timestamp("us"), [dt.datetime(1969, 12, 31, 23, 59, 59, 999999), dt.datetime(2024, 1, 1)]),
    "zoned": (pa.timestamp("us", "Europe/Berlin"), [UTC_NOON.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))]),
    "date": (pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    "time": (pa.time64("us"), [dt.time(23, 59, 59, 5)]),
    "duration": (pa.duration("us"), [dt.timedelta(days=-1, microseconds=1)]),
    "decimal": (pa.decimal128(20, 4), [decimal.Decimal("1234.5000"), decimal.Decimal("-0.0001")]),
    "list": (pa.list_(pa.int32()), [[], [1, None, 3]]),
    "large list": (pa.large_list(pa.large_string()), [["a", None], []]),
    "struct": (
        pa.struct({"a": pa.int8(), "b": pa.list_(pa.struct({"c": pa.string()}))}),
        [{"a": 1, "b": [{"c": "x"}]}],
    ),
    "map": (pa.map_(pa.string(), pa.float64()), [[("a", 1.0), ("b", None)], []]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["red", "green", "red"]),
    "bool": (pa.bool_(), [True, False]),
    "half": (pa.float16(), [0.5, -1.0]),
    "binary": (pa.large_binary(), [b"", b"\0\xff"]),
    "text": (pa.large_string(), ["", "ß"]),
    "fixed": (pa.binary(3), [b"abc"]),
    "null": (pa.null(), []),
    "unsigned": (pa.uint64(), [2**64 - 1]),
}


@pytest.mark.parametrize("name", TYPED)
def test_every_type_survives_with_nulls_and_across_shards(tmp_path: Path, name: str) -> None:
    kind, values = TYPED[name]
    column = [*values, None] * 300
    table = pa.table({"value": pa.array(column, kind), "id": range(len(column))})
    write_dataframe(table, tmp_path, size_limit="6kb", compression="zstd")
    assert [row["value"] for row in StreamingDataset(local=tmp_path)] == column
    assert [row["value"] for row in read_rows(tmp_path)] == column
    frame = scan(tmp_path).collect()
    assert frame["id"].to_list() == list(range(len(column)))
    assert frame["value"].to_list() == pl.from_arrow(table)["value"].to_list()
    stored = read_shard(shards_of(tmp_path)[0]).schema.field("value").type
    same = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    same[pa.dictionary(pa.int8(), pa.string())] = pa.dictionary(pa.int32(), pa.string())  # narrow ones may overflow
    assert stored == same.get(kind, kind)


def test_pandas_types_survive(tmp_path: Path) -> None:
    when = pd.to_datetime(["2024-01-01T10:00:00.000001", None, "1960-05-05T00:00:00.000000"]).tz_localize(
        "America/New_York"
    )
    frame = pd.DataFrame(
        {
            "nullable": pd.array([1, None, 2**62], "Int64"),
            "small": pd.array([None, 255, 0], "UInt8"),
            "flag": pd.array([True, None, False], "boolean"),
            "text": pd.Series(["a", None, "ß"], dtype="str"),
            "object": pd.Series(["a", None, "ß"], dtype=object),
            "category": pd.Categorical(["x", None, "y"], categories=["y", "x"], ordered=True),
            "when": when,
            "float": [1.5, float("nan"), -0.0],
            "list": [[1], None, []],
        }
    )
    frame.index = ["rows", "with", "names"]
    write_dataframe(frame, tmp_path)
    rows = list(StreamingDataset(local=tmp_path))
    assert [row["nullable"] for row in rows] == [1, None, 2**62]
    assert [row["small"] for row in rows] == [None, 255, 0]
    assert [row["flag"] for row in rows] == [True, None, False]
    assert [row["text"] for row in rows] == [row["object"] for row in rows] == ["a", None, "ß"]
    assert [row["category"] for row in rows] == ["x", None, "y"]
    assert [row["when"] for row in rows] == [when[0], None, when[2]]
    assert [row["list"] for row in rows] == [[1], None, []]
    assert list(rows[0]) == list(frame.columns)
    assert read_shard(shards_of(tmp_path)[0]).schema.field("category").type.ordered


def test_pandas_columns_may_be_named_by_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.arange(6).reshape(3, 2))
    write_dataframe(frame, tmp_path)
    assert read_rows(tmp_path) == [{"0": 0, "1": 1}, {"0": 2, "1": 3}, {"0": 4, "1": 5}]
    assert list(frame.columns) == [0, 1]


def test_a_pandas_frame_of_many_pieces_is_whole(tmp_path: Path) -> None:
    count = 150_000
    words = pd.Categorical.from_codes(np.arange(count) % 3, ["a", "b", "c"])
    frame = pd.DataFrame({"id": np.arange(count), "late": [None] * (count - 1) + ["here"], "word": words})
    assert write_dataframe(frame, tmp_path).num_samples == count
    scanned = scan(tmp_path).collect()
    assert scanned["id"].to_list() == list(range(count))
    assert scanned["late"].drop_nulls().to_list() == ["here"]
    assert scanned["word"].cast(pl.String).to_list() == ["a", "b", "c"] * (count // 3)


def test_polars_types_survive(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["short", None, "long enough to lie outside of the view"] * 50,
            "category": pl.Series(["x", None, "y"] * 50, dtype=pl.Categorical),
            "enum": pl.Series(["x", None, "y"] * 50, dtype=pl.Enum(["y", "x"])),
            "array": pl.Series([[1.0, 2.0], None, [3.0, 4.0]] * 50, dtype=pl.Array(pl.Float32, 2)),
            "struct": [{"a": ["x"]}, None, {"a": []}] * 50,
            "when": pl.Series([UTC_NOON, None, UTC_NOON] * 50, dtype=pl.Datetime("ns", "UTC")),
        }
    )
    write_dataframe(frame, tmp_path, size_limit="8kb")
    assert scan(tmp_path).collect().to_dicts() == frame.to_dicts()
    assert [row["text"] for row in StreamingDataset(local=tmp_path)] == frame["text"].to_list()


def test_only_the_declared_columns_are_written(tmp_path: Path) -> None:
    write_dataframe(TABLE, tmp_path, columns={"value": "float32", "id": "str_int"})
    assert index_of(tmp_path)["groups"][0]["columns"] == {"value": "float32", "id": "str_int"}
    rows = list(StreamingDataset(local=tmp_path))
    assert [row["id"] for row in rows] == list(range(200))
    assert [row["value"] for row in rows] == [row["value"] for row in ROWS]
    assert read_rows(tmp_path)[7]["id"] == "7"


def test_declared_tensors_are_made_of_lists(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [[number / 2, number + 1.0] for number in range(10)]})
    write_dataframe(frame, tmp_path, columns={"x": "ndarray:float64:2"})
    assert [row["x"].tolist() for row in StreamingDataset(local=tmp_path)] == frame["x"].to_list()
    assert isinstance(read_shard(shards_of(tmp_path)[0]).schema.field("x").type, pa.FixedShapeTensorType)


def test_a_schema_says_which_columns_are_written(tmp_path: Path) -> None:
    write_dataframe(TABLE, tmp_path, columns=pa.schema({"text": pa.string()}))
    assert read_rows(tmp_path) == [{"text": row["text"]} for row in ROWS]


def test_a_declared_column_that_does_not_fit_or_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"column 'text' \(int\): expected a column of int64, got one of string"):
        write_dataframe(TABLE, tmp_path / "x", columns={"text": "int"})
    with pytest.raises(MissingColumnError, match="column 'nothing' is missing; the batch has: id, text, value"):
        write_dataframe(TABLE, tmp_path / "y", columns={"nothing": "int"})
    assert not list(tmp_path.glob("*/index.json"))


def test_a_source_that_fails_leaves_no_index(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield TABLE.to_batches()[0]
        raise RuntimeError("the source broke off")

    with pytest.raises(Exception, match="the source broke off"):
        write_dataframe(pa.RecordBatchReader.from_batches(TABLE.schema, batches()), tmp_path, size_limit="4kb")
    assert not (tmp_path / "index.json").exists()


def test_a_progress_bar_counts_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataframe(TABLE, tmp_path / "a", progress_bar=True)
    assert "200/200" in capsys.readouterr().err
    write_dataframe(TABLE, tmp_path / "b")
    assert capsys.readouterr().err == ""


def test_dictionaries_that_differ_from_batch_to_batch_become_one_column(tmp_path: Path) -> None:
    words = [["red", "green"], ["blue", "red"], ["green"]]
    batches = [pa.record_batch({"w": pa.array(each).dictionary_encode()}) for each in words]
    write_dataframe(pa.RecordBatchReader.from_batches(batches[0].schema, iter(batches)), tmp_path)
    assert [row["w"] for row in read_rows(tmp_path)] == [word for each in words for word in each]
    assert scan(tmp_path).collect()["w"].cast(pl.String).to_list() == [word for each in words for word in each]


LAZY = """
import sys
from pathlib import Path
import polars as pl
from polars.io.plugins import register_io_source
from arrowstream import write_dataframe

out, total, on_disk = Path(sys.argv[1]), 200, []
schema = {"id": pl.Int64, "text": pl.String}

def batches(with_columns, predicate, n_rows, batch_size):
    for number in range(total):
        on_disk.append(len(list(out.glob("shard.*"))))
        ids = range(number * 1000, number * 1000 + 1000)
        yield pl.DataFrame({"id": ids, "text": ["t" * 1000] * 1000}, schema=schema)

frame = register_io_source(batches, schema=schema).with_columns(pl.col("id") * 2)
index = write_dataframe(frame, out, size_limit="2mb", max_workers=1)
assert index.num_samples == total * 1000
print(on_disk[-1], index.num_shards)
"""


def test_a_lazy_frame_is_never_whole_in_memory(tmp_path: Path) -> None:
    # When the source gives its last part, most of what came before lies in finished shards.
    finished, shards = map(int, run_python(LAZY, tmp_path / "x").split())
    assert finished > shards / 2


RELATION = """
import resource, sys
import duckdb
from arrowstream import write_dataframe

duckdb.sql("SET threads = 2; SET enable_progress_bar = false")  # on a slow machine it would stand before the number
query = "SELECT range AS i, repeat('x', 300) AS s FROM range({})"
write_dataframe(duckdb.sql(query.format(1000)), sys.argv[1] + "-warm")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
index = write_dataframe(duckdb.sql(query.format(1_000_000)), sys.argv[1], size_limit="8mb")
assert index.num_samples == 1_000_000
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown * (1 if sys.platform == "darwin" else 1024) / 300e6)
"""


def test_a_relation_is_never_whole_in_memory(tmp_path: Path) -> None:
    assert float(run_python(RELATION, tmp_path / "x")) < 0.6


def test_dictionaries_that_together_overflow_their_index_are_joined(tmp_path: Path) -> None:
    words = [[f"{side}{number}" for number in range(100)] for side in "ab"]
    kind = pa.dictionary(pa.int8(), pa.string())
    chunks = [pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), pa.array(each)) for each in words]
    table = pa.table({"word": pa.chunked_array(chunks, kind)})
    write_dataframe(table, tmp_path)
    assert [row["word"] for row in StreamingDataset(local=tmp_path)] == [*words[0], *words[1]]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(EncodingError, match="several columns are named 'a'"):
        write_dataframe(table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_column_of_several_types_is_refused_by_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"mixed": [1, "two"]})
    with pytest.raises(EncodingError, match=r"column 'mixed': .*values of one type"):
        write_dataframe(frame, tmp_path / "out")


def test_an_index_of_pandas_is_kept_if_it_has_a_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=pd.Index([7, 8, 9], name="id"))
    write_dataframe(frame, tmp_path / "named")
    write_dataframe(frame.reset_index()[lambda rows: rows["a"] > 1], tmp_path / "filtered")
    assert [row["id"] for row in StreamingDataset(local=tmp_path / "named")] == [7, 8, 9]
    assert [dict(row) for row in StreamingDataset(local=tmp_path / "filtered")] == [
        {"id": 8, "a": 2},
        {"id": 9, "a": 3},
    ]
