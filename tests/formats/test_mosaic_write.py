"""What is written for mosaicml-streaming is what it writes itself, to the byte; or it is refused."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arrowstream import MosaicWriter, StreamingDataset
from arrowstream.errors import EncodingError
from arrowstream.index import parse_index
from tests.formats.mosaic_golden import GOLDEN, copy_golden, differences, own_temporary_folder
from tests.golden.mosaic import values

__all__ = ["own_temporary_folder"]

COLUMNS = {name: name for name in values.ENCODINGS}


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# The same bytes -------------------------------------------------------------------------------------------------------


def test_a_dataset_is_byte_for_byte_that_of_mosaicml_streaming(tmp_path: Path) -> None:
    """All encodings, three shards and the index. Values go from one to the other as they are stored."""
    theirs = StreamingDataset(local=str(copy_golden("none", tmp_path)), allow_unsafe_types=True)
    table = theirs.take(np.arange(values.NUM_SAMPLES))
    columns = {name: name for name in table.column_names}
    hashes = ["sha1", "xxh3_64"]
    with MosaicWriter(columns=columns, out=tmp_path / "ours", size_limit=values.SIZE_LIMIT, hashes=hashes) as writer:
        writer.write_batch(table)
    assert files_in(tmp_path / "ours") == files_in(GOLDEN / "none")


def test_samples_give_the_same_bytes_as_batches_and_as_mosaicml_streaming(tmp_path: Path) -> None:
    names = ("int", "str", "ndarray:float32:4")
    with MosaicWriter(columns={name: name for name in names}, out=tmp_path / "ours", hashes=["xxh3_64"]) as writer:
        for sample in values.samples(names):
            writer.write(sample)
    theirs = (GOLDEN / "splits" / "train" / "shard.00000.mds").read_bytes()
    # Theirs was written without hashes, and says so in front of its rows, which moves their offsets.
    ours = (tmp_path / "ours" / "shard.00000.mds").read_bytes()
    start, their_start = (int.from_bytes(data[4:8], "little") for data in (ours, theirs))
    assert ours[start:] == theirs[their_start:]
    assert ours[32:start].replace(b'["xxh3_64"]', b"[]") == theirs[32:their_start]


@pytest.mark.parametrize("name", [name for name in values.DATASETS if name != "none-no-hash"])
def test_an_index_of_mosaicml_streaming_is_written_as_it_was_read(name: str) -> None:
    text = (GOLDEN / name / "index.json").read_bytes()
    assert parse_index(text, "index.json").to_json(version=2) == text


def test_shards_of_other_formats_have_no_place_in_an_index_of_version_2() -> None:
    text = (GOLDEN / "text" / "csv.index.json").read_bytes()
    with pytest.raises(ValueError, match="holds shards of the format mosaic, not 'csv'"):
        parse_index(text, "index.json").to_json(version=2)


# The same values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [compression for compression, _ in values.DATASETS.values()])
def test_every_value_is_read_back(compression: str | None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with MosaicWriter(columns=COLUMNS, out=out, compression=compression, size_limit=values.SIZE_LIMIT) as writer:
        for sample in values.samples():
            writer.write(sample)
    index = json.loads((out / "index.json").read_text())
    assert index["version"] == 2
    assert len(index["shards"]) == 3
    dataset = StreamingDataset(local=str(out), allow_unsafe_types=True)
    assert differences(dataset, [dict(sorted(sample.items())) for sample in values.samples()]) == []


@pytest.mark.skipif(
    "MOSAIC_PYTHON" not in os.environ, reason="MOSAIC_PYTHON names no interpreter that has mosaicml-streaming"
)
def test_mosaicml_streaming_reads_every_value(tmp_path: Path) -> None:
    for name, (compression, hashes) in values.DATASETS.items():
        out = tmp_path / name
        with MosaicWriter(
            columns=COLUMNS, out=out, compression=compression, hashes=hashes, size_limit=values.SIZE_LIMIT
        ) as writer:
            for sample in values.samples():
                writer.write(sample)
    command = [os.environ["MOSAIC_PYTHON"], str(GOLDEN / "record.py"), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report["wrong"] == []
    assert report["values"] == len(values.DATASETS) * values.NUM_SAMPLES * len(COLUMNS)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SHAPES = hnp.array_shapes(max_dims=4, max_side=6) | st.sampled_from([(300,), (1, 70_000)])
ARRAYS = st.builds(
    lambda shape, first: np.arange(first, first + np.prod(shape)).astype(np.int16).reshape(shape),
    SHAPES,
    st.integers(0, 9),
)
SAMPLES = st.fixed_dictionaries(
    {"a": st.integers(-(2**63), 2**63 - 1), "s": TEXT, "b": st.binary(max_size=20), "n": ARRAYS, "m": ARRAYS}
    | {"d": st.decimals(allow_nan=False), "j": st.dictionaries(TEXT, st.integers(), max_size=2)}
)
MIXED = {"a": "int", "s": "str", "b": "bytes", "n": "ndarray:int16", "m": "ndarray", "d": "str_decimal", "j": "json"}


@settings(max_examples=30, deadline=None)
@given(samples=st.lists(SAMPLES, min_size=1, max_size=8), size_limit=st.none() | st.integers(1, 6000))
def test_any_samples_survive(
    samples: list[dict[str, Any]], size_limit: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("any")
    with MosaicWriter(columns=MIXED, out=out / "data", size_limit=size_limit) as writer:
        for sample in samples:
            writer.write(sample)
    if size_limit is not None:
        for shard in json.loads((out / "data" / "index.json").read_text())["shards"]:
            assert shard["raw_data"]["bytes"] <= size_limit or shard["samples"] == 1
    dataset = StreamingDataset(remote=str(out / "data"), local=str(out / "local"))
    wrong = [
        (i, name)
        for i, sample in enumerate(samples)
        for name in MIXED
        if not values.is_same(name, dataset[i][name], sample[name])
    ]
    assert wrong == []


def test_slices_of_a_table_are_written_as_what_they_show(tmp_path: Path) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(40, dtype=np.float32).reshape(20, 2))
    table = pa.table({"n": pa.array(range(20)), "s": [f"text {i}" for i in range(20)], "x": tensors})
    columns = {"n": "int", "s": "str", "x": "ndarray:float32:2"}
    with MosaicWriter(columns=columns, out=tmp_path / "out") as writer:
        writer.write_batch(table.slice(3, 5))
        writer.write_batch(table.slice(11, 2))
    dataset = StreamingDataset(remote=str(tmp_path / "out"), local=str(tmp_path / "local"))
    rows = [3, 4, 5, 6, 7, 11, 12]
    assert [dataset[i]["n"] for i in range(7)] == rows
    assert [dataset[i]["s"] for i in range(7)] == [f"text {row}" for row in rows]
    assert [dataset[i]["x"].tolist() for i in range(7)] == [[2 * row, 2 * row + 1] for row in rows]


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding",
    [
        *("bool", "ndarray:bool", "ndarray:bfloat16:2"),
        *(pa.timestamp("us"), pa.list_(pa.int32()), pa.decimal128(5, 2), pa.struct({"a": pa.int64()})),
    ],
    ids=str,
)
def test_columns_that_it_does_not_have_are_refused_at_once(encoding: Any, tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"column 'odd': mosaicml-streaming has no encoding .* it has: bytes, "):
        MosaicWriter(columns={"n": "int", "odd": encoding}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_values_are_refused_with_column_and_row(tmp_path: Path) -> None:
    with MosaicWriter(columns={"n": "int", "s": "str"}, out=tmp_path / "out") as writer:
        writer.write({"n": 0, "s": "a"})
        with pytest.raises(EncodingError, match=r"column 's' \(str\), row 1: expected a str, got NoneType None"):
            writer.write({"n": 1, "s": None})
        with pytest.raises(EncodingError, match=r"column 's' \(str\): row 2: is None, and 'mosaic' files"):
            writer.write_batch({"n": [1, 2, 3], "s": ["b", "c", None]})
        writer.write({"n": 1, "s": "b"})
    dataset = StreamingDataset(remote=str(tmp_path / "out"), local=str(tmp_path / "local"))
    assert [dataset[i] for i in range(2)] == [{"n": 0, "s": "a"}, {"n": 1, "s": "b"}]


@pytest.mark.parametrize("encoding", ["ndarray", "ndarray:float32"])
@pytest.mark.parametrize("array", [np.float32(1), np.empty((2, 0), np.float32)], ids=["scalar", "empty"])
def test_arrays_that_it_does_not_take_are_refused(encoding: str, array: Any, tmp_path: Path) -> None:
    writer = MosaicWriter(columns={"x": encoding}, out=tmp_path / "out")
    with pytest.raises(EncodingError, match="column 'x', row 2: is a scalar or an empty array"):
        writer.write_batch({"x": [np.ones(1, np.float32), np.ones(2, np.float32), np.asarray(array)]})


def test_dtypes_that_it_does_not_take_are_refused(tmp_path: Path) -> None:
    writer = MosaicWriter(columns={"x": "ndarray"}, out=tmp_path / "out")
    with pytest.raises(EncodingError, match="column 'x', row 1: is an array of another dtype than uint8, "):
        writer.write_batch({"x": [np.ones(1, np.float32), np.ones(2, np.complex64)]})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"compression": "lz4"}, "has only br, bz2, gz, snappy, zstd"), ({"size_limit": 1 << 32}, "is below 4 GiB")],
)
def test_settings_that_it_does_not_have_are_refused(arguments: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        MosaicWriter(columns={"n": "int"}, out=tmp_path / "out", **arguments)


def test_nothing_at_all_can_be_written(tmp_path: Path) -> None:
    MosaicWriter(columns={"n": "int"}, out=tmp_path / "out").finish()
    assert json.loads((tmp_path / "out" / "index.json").read_text()) == {"shards": [], "version": 2}
    assert StreamingDataset(local=str(tmp_path / "out")).num_samples == 0
