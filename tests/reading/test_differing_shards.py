"""Shards of one dataset whose columns differ: what was appended or merged later."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import MDSWriter, StreamingDataset, merge_index
from arrowstream.errors import EncodingError


def write(root: Path, *parts: pa.Table) -> Path:
    for number, table in enumerate(parts):
        with MDSWriter(out=root / str(number), columns=table.schema) as writer:
            writer.write_batch(table)
    merge_index(root)
    return root


@pytest.mark.parametrize(
    ("one", "other", "common", "values"),
    [
        (pa.array([1], pa.int32()), pa.array([2**40], pa.int64()), pa.int64(), [1, 2**40]),
        (pa.array([1], pa.int8()), pa.array([0.5], pa.float32()), pa.float32(), [1.0, 0.5]),
        (pa.nulls(1), pa.array(["x"]), pa.string(), [None, "x"]),
        (
            pa.array([[1]], pa.list_(pa.int32())),
            pa.array([[2]], pa.list_(pa.int64())),
            pa.list_(pa.int64()),
            [[1], [2]],
        ),
        (pa.array([1], pa.timestamp("s")), pa.array([2], pa.timestamp("ms")), pa.timestamp("ms"), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_types_widen_to_one_that_holds_all_values(
    tmp_path: Path, one: pa.Array, other: pa.Array, common: pa.DataType, values: list[Any] | None
) -> None:
    for folder, parts in (("ab", (one, other)), ("ba", (other, one))):
        data = write(tmp_path / folder, *(pa.table({"x": part}) for part in parts))
        dataset = StreamingDataset(local=data)
        expected = [part.cast(common)[0].as_py() for part in parts]
        assert values is None or sorted(map(str, expected)) == sorted(map(str, values))
        table = dataset.take([1, 0])
        assert table.schema.field("x").type == common
        assert table.column("x").to_pylist() == expected[::-1]
        [batch] = dataset.batches(2, as_="arrow")
        assert batch.column("x").to_pylist() == expected


def test_types_that_nothing_bridges_are_named_with_their_shards(tmp_path: Path) -> None:
    data = write(tmp_path, pa.table({"x": [1], "y": [1]}), pa.table({"x": ["a"], "y": [2]}))
    dataset = StreamingDataset(local=data)
    said = r"column 'x' is int64 in 0/shard\.00000\.arrow and str in 1/shard\.00000\.arrow: no type holds both"
    with pytest.raises(EncodingError, match=said):
        dataset.take([0, 1])
    with pytest.raises(EncodingError, match=said):
        list(dataset.batches(2, as_="arrow"))
    with pytest.raises(EncodingError, match=r"column 'x' is int64 in the first shard and str in shard 1 \(1/shard"):
        list(dataset.batches(2, as_="numpy"))
    assert dataset.take([0, 1], ["y"]).column("y").to_pylist() == [1, 2]
    assert [sample["x"] for sample in dataset] == [1, "a"]


def test_an_encoding_that_a_type_does_not_tell_goes_with_itself_alone(tmp_path: Path) -> None:
    for number, spec in enumerate(("json", "str")):
        with MDSWriter(out=tmp_path / str(number), columns={"x": spec}) as writer:
            writer.write({"x": "a"})
    merge_index(tmp_path)
    with pytest.raises(EncodingError, match=r"is json in 0/.* and str in 1/.*: json goes with itself alone"):
        StreamingDataset(local=tmp_path).take([0, 1])


def test_a_value_that_the_wider_type_cannot_hold_is_named(tmp_path: Path) -> None:
    data = write(tmp_path, pa.table({"x": [2**53 + 1]}), pa.table({"x": [0.5]}))
    with pytest.raises(
        EncodingError, match=r"0/shard\.00000\.arrow: column 'x' is int64, and double with other shards"
    ):
        StreamingDataset(local=data).take([0, 1])


@pytest.mark.parametrize("first", ["with", "without"])
def test_a_column_that_some_shards_lack(tmp_path: Path, first: str) -> None:
    tables = [pa.table({"x": [1], "more": ["m"]}), pa.table({"x": [2]})]
    data = write(tmp_path, *(tables if first == "with" else tables[::-1]))
    dataset = StreamingDataset(local=data)
    assert sorted(len(sample) for sample in dataset) == [1, 2]  # each has the columns of its shard
    assert sorted(dataset.take([0, 1], ["x"]).column("x").to_pylist()) == [1, 2]
    if first == "with":
        for read in (lambda: dataset.take([0, 1]), lambda: list(dataset.batches(2, as_="arrow"))):
            with pytest.raises(
                EncodingError, match=r"1/shard.* has no column 'more', which 0/shard.*has; choose columns"
            ):
                read()
    else:
        assert dataset.take([0, 1]).column_names == dataset.schema.names == ["x"]


def test_one_schema_needs_no_cast(tmp_path: Path) -> None:
    data = write(tmp_path, *(pa.table({"x": np.arange(3) + 3 * part}) for part in range(3)))
    assert StreamingDataset(local=data).take([8, 0, 4]).column("x").to_pylist() == [8, 0, 4]
