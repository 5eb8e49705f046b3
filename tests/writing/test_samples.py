"""Writing sample by sample: nulls, wrong values, reused buffers, and what a writer does after an error."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.columns import ENCODING_NAMES
from arrowstream.errors import EncodingError, MissingColumnError, RemoteNotFoundError
from tests.writing.directories import index_of, listing, read_rows, read_shard, run_until_killed, shards_of


def test_rows_come_back_in_the_order_of_writing(tmp_path: Path) -> None:
    with MDSWriter(columns={"id": "int", "text": "str"}, out=tmp_path, size_limit="8kb") as writer:
        for number in range(2000):
            writer.write({"id": number, "text": "t" * (number % 50)})
    assert read_rows(tmp_path) == [{"id": number, "text": "t" * (number % 50)} for number in range(2000)]
    assert len(shards_of(tmp_path)) > 5


def test_a_missing_column_is_a_key_error_that_says_where(tmp_path: Path) -> None:
    with MDSWriter(columns={"id": "int", "text": "str"}, out=tmp_path) as writer:
        writer.write({"id": 1, "text": "a"})
        with pytest.raises(
            MissingColumnError, match="column 'text', row 1: is missing; the sample has: id, txt"
        ) as caught:
            writer.write({"id": 2, "txt": "b"})
        assert isinstance(caught.value, KeyError)
        writer.write({"id": 3, "text": "c"})
    assert read_rows(tmp_path) == [{"id": 1, "text": "a"}, {"id": 3, "text": "c"}]


def test_other_keys_are_ignored(tmp_path: Path) -> None:
    with MDSWriter(columns={"id": "int"}, out=tmp_path) as writer:
        writer.write({"more": object(), "id": 1})
    assert read_rows(tmp_path) == [{"id": 1}]


@pytest.mark.parametrize("encoding", [*ENCODING_NAMES, "ndarray:float32", "ndarray:bool:2,3", "ndarray:bfloat16:4"])
def test_none_is_an_arrow_null_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    with MDSWriter(columns={"value": encoding, "id": "int"}, out=tmp_path) as writer:
        for number in range(20):
            writer.write({"value": None, "id": number})
    column = read_shard(shards_of(tmp_path)[0]).column("value")
    assert (column.null_count, len(column)) == (20, 20)
    dataset = StreamingDataset(local=tmp_path, allow_unsafe_types=True)
    assert list(dataset) == [{"value": None, "id": number} for number in range(20)]


WRONG: list[tuple[Any, Any, Any, str, str]] = [
    # encoding, a right value, a wrong one, what is expected, what was got
    ("int", 5, "5", "an integer from", "str '5'"),
    ("int", 5, 5.0, "an integer from", "float 5.0"),
    ("int", 5, True, "an integer from", "bool True"),
    ("uint8", 5, 256, "an integer from 0 to 255", "int 256"),
    ("int16", -5, -32769, "an integer from -32768 to 32767", "int -32769"),
    ("float32", 0.5, "0.5", "a number within the range of float32", "str '0.5'"),
    ("float16", 0.5, 1e6, "a number within the range of float16", "float 1000000.0"),
    ("bool", True, 1, "a bool", "int 1"),
    ("str", "text", b"text", "a str", "bytes of 4 bytes"),
    ("bytes", b"text", "text", "bytes", "str 'text'"),
    (
        "ndarray:float32:2",
        np.zeros(2, np.float32),
        np.zeros(3, np.float32),
        r"of shape \(2,\)",
        r"float32 and shape \(3,\)",
    ),
    ("ndarray:float32:2", np.zeros(2, np.float32), np.zeros(2), "dtype float32", "dtype float64"),
    ("ndarray:int8", np.zeros(2, np.int8), [1, 2], "an array", "list"),
    ("json", {"a": 1}, {1, 2}, "JSON", "set"),
    (pa.date32(), None, "no date", "a value of date32", "str 'no date'"),
    (pa.list_(pa.int8()), [1, 2], [1, 300], "list<item: int8>", r"list \[1, 300\]"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case[0]}")
def test_a_wrong_value_is_named_and_the_writer_goes_on(tmp_path: Path, case: tuple[Any, Any, Any, str, str]) -> None:
    encoding, right, wrong, expected, got = case
    with MDSWriter(columns={"id": "int", "value": encoding, "more": "str"}, out=tmp_path) as writer:
        for number in range(20):
            writer.write({"id": number, "value": right, "more": "m"})
            if number in (0, 13):
                place = rf"column 'value' \(.*\), row {number + 1}: "
                with pytest.raises(EncodingError, match=rf"{place}.*expected.*{expected}.*got.*{got}"):
                    writer.write({"id": -1, "value": wrong, "more": "m"})
    assert [row["id"] for row in read_rows(tmp_path)] == list(range(20))
    assert {row["more"] for row in read_rows(tmp_path)} == {"m"}


def test_the_row_in_an_error_counts_all_that_was_written(tmp_path: Path) -> None:
    with MDSWriter(columns={"id": "int"}, out=tmp_path) as writer:
        writer.write_batch({"id": np.arange(1000)})
        for number in range(500):
            writer.write({"id": number})
        with pytest.raises(EncodingError, match=r"column 'id' \(int\), row 1500: "):
            writer.write({"id": "x"})


def test_what_the_caller_reuses_was_copied(tmp_path: Path) -> None:
    columns = {
        "array": "ndarray:int64:3",
        "any": "ndarray",
        "shaped": "ndarray:int64",
        "bytes": "bytes",
        "json": "json",
    }
    array, content, tree = np.zeros(3, np.int64), bytearray(3), {"a": [0]}
    columns |= {"list": pa.list_(pa.int64())}
    sample = {"array": array, "any": array, "shaped": array, "bytes": content, "json": tree, "list": tree["a"]}
    with MDSWriter(columns=columns, out=tmp_path) as writer:
        for number in range(50):
            array[:], content[:], tree["a"][0] = number, bytes([number] * 3), number
            writer.write(sample)
        array[:], content[:], tree["a"][0] = -1, b"!!!", -1
    for number, read in enumerate(StreamingDataset(local=tmp_path)):
        assert [read[name].tolist() for name in ("array", "any", "shaped")] == [[number] * 3] * 3
        assert (read["bytes"], read["json"], read["list"]) == (bytes([number] * 3), {"a": [number]}, [number])


def test_numpy_columns_that_the_caller_reuses_were_copied(tmp_path: Path) -> None:
    numbers, tensors, flags = np.zeros(10), np.zeros((10, 2), np.float32), np.zeros(10, bool)
    with MDSWriter(columns={"n": "float64", "t": "ndarray:float32:2", "f": "bool"}, out=tmp_path) as writer:
        for value in range(5):
            numbers[:], tensors[:], flags[:] = value, value, value % 2
            writer.write_batch({"n": numbers, "t": tensors, "f": flags})
        numbers[:], tensors[:] = -1, -1
    rows = list(StreamingDataset(local=tmp_path))
    assert [row["n"] for row in rows] == [value for value in range(5) for _ in range(10)]
    assert [row["t"].tolist() for row in rows] == [[value] * 2 for value in range(5) for _ in range(10)]
    assert [row["f"] for row in rows] == [value % 2 == 1 for value in range(5) for _ in range(10)]


@pytest.mark.parametrize("by_batch", [True, False])
def test_a_finished_writer_takes_nothing(tmp_path: Path, by_batch: bool) -> None:
    writer = MDSWriter(columns={"id": "int"}, out=tmp_path)
    writer.write({"id": 1})
    writer.finish()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="the writer is finished"):
        writer.write_batch({"id": [2]}) if by_batch else writer.write({"id": 2})
    with pytest.raises(ValueError, match="the writer is finished"):
        writer.finish()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_finishing_in_a_with_block_is_finishing_once(tmp_path: Path) -> None:
    with MDSWriter(columns={"id": "int"}, out=tmp_path) as writer:
        writer.write({"id": 1})
        index = writer.finish()
    assert index.num_samples == 1
    assert read_rows(tmp_path) == [{"id": 1}]


def test_samples_need_columns(tmp_path: Path) -> None:
    writer = MDSWriter(out=tmp_path)
    with pytest.raises(ValueError, match=r"write.sample. needs columns="):
        writer.write({"id": 1})


def test_a_sample_larger_than_the_limit_has_a_shard_of_its_own(tmp_path: Path) -> None:
    sizes = [10, 50_000, 10, 10, 90_000]
    with MDSWriter(columns={"data": "bytes"}, out=tmp_path, size_limit=20_000) as writer:
        for size in sizes:
            writer.write({"data": bytes(size)})
    assert [len(row["data"]) for row in read_rows(tmp_path)] == sizes
    assert index_of(tmp_path)["groups"][0]["shards"]["samples"] == [1, 1, 2, 1]


def test_an_empty_dataset_is_a_dataset(tmp_path: Path) -> None:
    with MDSWriter(columns={"id": "int"}, out=tmp_path):
        pass
    assert listing(tmp_path) == ["index.json"]
    assert index_of(tmp_path)["groups"][0]["columns"] == {"id": "int"}
    dataset = StreamingDataset(local=tmp_path)
    assert (len(dataset), list(dataset), dataset[:]) == (0, [], [])


class Interruption(BaseException):
    pass


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, Interruption])
def test_an_exception_in_the_block_leaves_no_index(tmp_path: Path, kind: type[BaseException]) -> None:
    with (  # noqa: PT012
        pytest.raises(kind),
        MDSWriter(columns={"id": "int"}, out=tmp_path, size_limit="16kb") as writer,
    ):
        writer.write_batch({"id": np.arange(10_000)})
        raise kind
    assert not (tmp_path / "index.json").exists()
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(RemoteNotFoundError, match="its writer did not finish"):
        len(StreamingDataset(local=tmp_path))


KILLED = """
import os, signal, sys
from arrowstream import MDSWriter
writer = MDSWriter(columns={"data": "bytes"}, out=sys.argv[1], size_limit="64kb", compression=sys.argv[2] or None)
number = 0
while not os.path.exists(os.path.join(sys.argv[1], sys.argv[3])):
    writer.write({"data": os.urandom(10_000)})
    number += 1
    assert number < 100_000
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("compression", "suffix"), [("", ""), ("zstd:19", ""), ("gz", ".gz")])
def test_a_killed_writer_leaves_nothing_that_looks_like_a_dataset(
    tmp_path: Path, compression: str, suffix: str
) -> None:
    out = tmp_path / "x"
    run_until_killed(KILLED, out, compression, f"shard.00003.arrow{suffix}")
    assert (out / f"shard.00003.arrow{suffix}").exists()
    with pytest.raises(RemoteNotFoundError, match="its writer did not finish"):
        len(StreamingDataset(local=out))
    with pytest.raises(FileExistsError):
        MDSWriter(columns={"data": "bytes"}, out=out)
    with MDSWriter(columns={"data": "bytes"}, out=out, exist_ok=True) as writer:
        writer.write({"data": b"new"})
    assert listing(out) == ["index.json", "shard.00000.arrow"]
    assert read_rows(out) == [{"data": b"new"}]
