"""Writing many rows at once: record batches, tables and columns of any kind, also between single samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.errors import EncodingError, MissingColumnError
from tests.writing.directories import index_of, read_rows, read_shard, shards_of

ROWS = [{"id": number, "text": None if number % 7 == 3 else f"row {number}"} for number in range(100)]
TABLE = pa.Table.from_pylist(ROWS)


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(TABLE.to_batches()[0], id="record batch"),
        pytest.param(pa.concat_tables([TABLE[:30], TABLE[30:]]), id="table of two chunks"),
        pytest.param({"text": TABLE["text"].to_pylist(), "id": np.arange(100)}, id="list and NumPy"),
        pytest.param({"id": TABLE["id"], "text": TABLE["text"].combine_chunks()}, id="Arrow"),
        pytest.param({"id": range(100), "text": tuple(TABLE["text"].to_pylist())}, id="range and tuple"),
        pytest.param({"id": np.arange(100, dtype=np.uint8), "text": TABLE["text"].to_pylist(), "more": [1]}, id="more"),
    ],
)
def test_a_batch_is_many_samples(tmp_path: Path, batch: Any) -> None:
    with MDSWriter(columns={"id": "int", "text": "str"}, out=tmp_path) as writer:
        writer.write_batch(batch)
    assert read_rows(tmp_path) == ROWS


@settings(deadline=None, max_examples=25)
@given(steps=st.lists(st.one_of(st.none(), st.integers(0, 40)), max_size=30), limit=st.sampled_from([None, 3000, 6000]))
def test_samples_and_batches_keep_their_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | None], limit: int | None
) -> None:
    out = tmp_path_factory.mktemp("mixed")
    written = 0
    with MDSWriter(columns={"id": "int", "text": "str"}, out=out, size_limit=limit) as writer:
        for step in steps:
            if step is None:
                writer.write({"id": written, "text": str(written)})
                written += 1
            else:
                ids = np.arange(written, written + step)
                writer.write_batch({"id": ids, "text": [str(number) for number in ids]})
                written += step
    assert read_rows(out) == [{"id": number, "text": str(number)} for number in range(written)]


def test_columns_are_those_of_the_first_batch(tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path) as writer:
        writer.write_batch(
            {
                "float": np.zeros(2),
                "small": np.zeros(2, np.uint8),
                "tensor": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
                "text": ["a", None],
                "when": pa.array([1, 2], pa.timestamp("us", "UTC")),
                "nested": [{"a": [1]}, None],
            }
        )
        writer.write(
            {"float": 1.5, "small": 7, "tensor": np.ones((2, 3), np.float32), "text": "b", "when": None, "nested": None}
        )
    assert index_of(tmp_path)["groups"][0]["columns"] == {
        "float": "float64",
        "small": "uint8",
        "tensor": "ndarray:float32:2,3",
        "text": "str",
        "when": "timestamp[us, tz=UTC]",
        "nested": "struct<a: list<item: int64>>",
    }
    rows = list(StreamingDataset(local=tmp_path))
    assert [row["text"] for row in rows] == ["a", None, "b"]
    assert [row["tensor"].sum() for row in rows] == [sum(range(6)), sum(range(6, 12)), 6]
    assert rows[0]["nested"] == {"a": [1]}


def test_an_arrow_shard_explains_itself(tmp_path: Path) -> None:
    with MDSWriter(columns={"image": "jpeg", "label": "int", "when": pa.date32()}, out=tmp_path) as writer:
        writer.write({"image": None, "label": 1, "when": None})
    schema = read_shard(shards_of(tmp_path)[0]).schema
    assert schema.field("image").metadata == {b"mds.encoding": b"jpeg"}
    assert schema.field("label").metadata == {b"mds.encoding": b"int"}
    assert schema.field("when").type == pa.date32()


@pytest.mark.parametrize(
    ("batch", "error", "said"),
    [
        ({"id": [1, 2], "text": ["a"]}, EncodingError, r"different lengths: {'id': 2, 'text': 1}"),
        ({"id": [1]}, MissingColumnError, "column 'text' is missing; the batch has: id"),
        (pa.table({"id": [1]}), MissingColumnError, "column 'text' is missing; the batch has: id"),
        ({"id": [1, "2"], "text": ["a", "b"]}, EncodingError, r"column 'id' \(int\): row 1: expected an integer.*'2'"),
        ({"id": np.zeros(2), "text": ["a", "b"]}, EncodingError, r"column 'id' \(int\): expected .*float64"),
        (
            {"id": pa.array([0.5]), "text": ["a"]},
            EncodingError,
            r"column 'id' \(int\): expected a column of int64.*double",
        ),
        ({"id": [1], "text": "a"}, EncodingError, r"column 'text' \(str\): expected a column"),
    ],
)
def test_a_wrong_batch_adds_nothing_and_the_writer_goes_on(
    tmp_path: Path, batch: Any, error: type[Exception], said: str
) -> None:
    with MDSWriter(columns={"id": "int", "text": "str"}, out=tmp_path) as writer:
        writer.write({"id": 0, "text": "first"})
        with pytest.raises(error, match=said):
            writer.write_batch(batch)
        writer.write_batch({"id": [1], "text": ["last"]})
    assert read_rows(tmp_path) == [{"id": 0, "text": "first"}, {"id": 1, "text": "last"}]


def test_a_table_with_a_wrong_last_chunk_adds_nothing(tmp_path: Path) -> None:
    with MDSWriter(columns={"id": "int32"}, out=tmp_path) as writer:
        with pytest.raises(EncodingError, match="not in range"):
            writer.write_batch(pa.table({"id": pa.chunked_array([[1, 2], [2**40]])}))
        writer.write({"id": 3})
    assert read_rows(tmp_path) == [{"id": 3}]


def test_columns_of_an_empty_table_are_kept(tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path) as writer:
        writer.write_batch(pa.schema({"id": pa.int64()}).empty_table())
    assert index_of(tmp_path)["groups"][0]["columns"] == {"id": "int64"}


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.list_(pa.string_view())])
def test_shards_of_view_types_hold_no_more_than_their_rows(tmp_path: Path, kind: pa.DataType) -> None:
    text = [f"{number:0100d}" for number in range(5000)]
    values = [text.encode() for text in text] if kind == pa.binary_view() else text
    values = [[value] for value in values] if pa.types.is_list(kind) else values
    with MDSWriter(columns={"text": kind}, out=tmp_path, size_limit="100kb") as writer:
        writer.write_batch({"text": values})
    assert [row["text"] for row in read_rows(tmp_path)] == values
    assert sum(path.stat().st_size for path in shards_of(tmp_path)) < 2 * 5000 * 110
