"""Without a remote, files are read where they are: never copied, never touched."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import StreamingDataset
from arrowstream.decode import Decoder
from arrowstream.shard import BatchMemory, OpenShard
from tests.reading.datasets import assert_holds, ids, noise, read_index, states, write_large_rows, write_samples

ROW_BYTES = 1 << 17
BATCH_BYTES = 1 << 20


@pytest.mark.parametrize("compression", [None, "zstd:3", "lz4"])
@pytest.mark.parametrize("way", ["local", "remote", "file", "both"])
def test_nothing_in_the_directory_changes(tmp_path: Path, compression: str | None, way: str) -> None:
    data = write_samples(tmp_path / "data", compression=compression)
    before = states(data)
    places = {
        "local": {"local": data},
        "remote": {"remote": data},
        "file": {"remote": f"file://{data}"},
        "both": {"remote": data, "local": tmp_path / "data" / ".." / "data"},
    }
    dataset = StreamingDataset(**places[way], shuffle=True)
    assert sorted(ids(dataset)) == list(range(100))
    assert_holds(dataset, 100)
    assert states(data) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_split_is_read_in_place(tmp_path: Path) -> None:
    write_samples(tmp_path / "train")
    assert_holds(StreamingDataset(local=tmp_path, split="train"), 100)


def test_compressed_files_are_read_in_place_as_they_were_written(tmp_path: Path) -> None:
    dataset = StreamingDataset(local=write_large_rows(tmp_path / "data", compression="zstd"))
    for number in range(47, -1, -1):
        assert np.array_equal(dataset[number]["noise"], noise(number, ROW_BYTES))


def test_unpacked_record_batches_stay_within_their_memory(tmp_path: Path) -> None:
    data = write_large_rows(tmp_path / "data", 96, compression="zstd")
    path = data / "shard.00000.arrow"

    def bind(schema: pa.Schema) -> object:
        return Decoder(schema, allow_unsafe_types=False, source=str(path)).bind

    before = pa.total_allocated_bytes()
    memory = BatchMemory(3 * BATCH_BYTES)
    shard = OpenShard(path, read_index(data).shard(0), bind, trusted=False, memory=memory)
    for turn in (range(96), range(95, -1, -1)):
        for number in turn:
            batch, row = divmod(number, shard.rows_per_batch)
            read = shard.reads[batch] or shard.open_batch(batch)
            assert np.array_equal(read(row)["noise"], noise(number, ROW_BYTES))
            # What may be held, and the record batch that is being unpacked.
            assert pa.total_allocated_bytes() - before <= 4.5 * BATCH_BYTES
    assert pa.total_allocated_bytes() - before >= BATCH_BYTES  # it does hold some


def test_mapped_record_batches_take_no_memory(tmp_path: Path) -> None:
    dataset = StreamingDataset(local=write_large_rows(tmp_path / "data"))
    before = pa.total_allocated_bytes()
    assert ids(dataset) == list(range(48))
    assert pa.total_allocated_bytes() == before


@pytest.mark.parametrize("compression", ["gz", "bz2", "br:1", "snappy"])
def test_files_that_are_wrapped_as_a_whole_are_read_beside_the_directory(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_samples(tmp_path / "data", compression=compression)
    before = sorted(data.rglob("*"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert_holds(StreamingDataset(local=data), 100)
    assert sorted(data.rglob("*")) == before
    assert_holds(StreamingDataset(remote=data, local=tmp_path / "cache"), 100)


def test_a_directory_may_move_between_two_runs(tmp_path: Path) -> None:
    shutil.move(write_samples(tmp_path / "before"), tmp_path / "after")
    assert_holds(StreamingDataset(local=tmp_path / "after"), 100)


def test_a_directory_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    data = write_samples(tmp_path / "data")
    for path in data.iterdir():
        path.chmod(0o444)
    data.chmod(0o555)
    try:
        assert_holds(StreamingDataset(local=data), 100)
    finally:
        data.chmod(0o755)
