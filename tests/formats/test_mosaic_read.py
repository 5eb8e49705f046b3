"""What mosaicml-streaming wrote is read: every encoding, compression and hash, value by value."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from arrowstream import Stream, StreamingDataset, scan
from arrowstream.errors import CorruptShardError, MissingShardError, UnsafeTypeError
from arrowstream.writer import MosaicWriter
from tests.formats.mosaic_golden import copy_golden, differences, own_temporary_folder
from tests.golden.mosaic import values

__all__ = ["own_temporary_folder"]

FEW = ("int", "str", "ndarray:float32:4")


@pytest.mark.parametrize("name", values.DATASETS)
def test_every_value_is_read_where_it_lies(name: str, tmp_path: Path) -> None:
    dataset = StreamingDataset(local=str(copy_golden(name, tmp_path)), allow_unsafe_types=True)
    assert differences(dataset, values.samples(values.encodings_of(name))) == []


@pytest.mark.parametrize("name", ["none", "zstd", "snappy"])
def test_every_value_is_streamed_from_a_remote(name: str, tmp_path: Path) -> None:
    remote, local = copy_golden(name, tmp_path), tmp_path / "local"
    dataset = StreamingDataset(remote=str(remote), local=str(local), allow_unsafe_types=True, batch_size=2)
    assert sorted(sample["int"] for sample in dataset) == sorted(sample["int"] for sample in values.samples())
    shutil.rmtree(remote)
    # The cache is a dataset of its own.
    assert differences(StreamingDataset(local=str(local), allow_unsafe_types=True), values.samples()) == []


@pytest.mark.parametrize(
    ("name", "hash_name"), [(name, chosen) for name, (_, hashes) in values.DATASETS.items() for chosen in hashes]
)
def test_hashes_of_every_kind_are_checked(name: str, hash_name: str, tmp_path: Path) -> None:
    copy = copy_golden(name, tmp_path)
    dataset = StreamingDataset(local=str(copy), validate_hash=hash_name, allow_unsafe_types=True)
    assert dataset[0]["int"] == 0
    index = json.loads((copy / "index.json").read_text())
    for file in ("raw_data", "zip_data"):
        if index["shards"][0][file]:
            index["shards"][0][file]["hashes"][hash_name] = "00"
    (copy / "index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptShardError, match=f"its {hash_name} is .*, the index says 00"):
        _ = StreamingDataset(local=str(copy), validate_hash=hash_name, allow_unsafe_types=True)[0]


def test_splits_are_read(tmp_path: Path) -> None:
    root = str(copy_golden("splits", tmp_path))
    assert differences(StreamingDataset(local=root, split="train"), values.samples(FEW)) == []
    assert differences(StreamingDataset(local=root, split="val"), values.samples(FEW, 4)) == []


def test_a_merged_index_is_read(tmp_path: Path) -> None:
    dataset = StreamingDataset(local=str(copy_golden("merged", tmp_path)))
    assert differences(dataset, values.samples(FEW) + values.samples(FEW, 3)) == []


def test_an_empty_shard_is_passed_over(tmp_path: Path) -> None:
    dataset = StreamingDataset(local=str(copy_golden("empty-shard", tmp_path)))
    assert dataset.samples_per_shard.tolist() == [0, 1, 1, 1, 1]
    assert differences(dataset, values.samples(("bytes",), 2)) == []
    assert scan(dataset, fetch=True).collect().height == 4


def test_a_cache_of_mosaicml_streaming_is_read_although_its_shards_are_not_compressed_any_more(tmp_path: Path) -> None:
    copy = copy_golden("cache", tmp_path)
    assert json.loads((copy / "index.json").read_text())["shards"][0]["compression"] == "zstd"
    assert [path.name for path in copy.glob("shard*")] == ["shard.00000.mds"]
    dataset = StreamingDataset(local=str(copy), validate_hash="xxh64")
    assert differences(dataset, values.samples(FEW)) == []
    next(copy.glob("shard*")).unlink()
    shutil.rmtree(next((tmp_path / "temporary").iterdir()))
    with pytest.raises(MissingShardError, match=r"shard\.00000\.mds\.zstd: does not exist"):
        _ = StreamingDataset(local=str(copy))[0]


def test_pickles_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    dataset = StreamingDataset(local=str(copy_golden("none", tmp_path)))
    with pytest.raises(UnsafeTypeError, match="column 'pkl'"):
        _ = dataset[0]


def test_shards_are_scanned(tmp_path: Path) -> None:
    frame = scan(str(copy_golden("zstd", tmp_path)), sample_id=True).select("sample_id", "int", "str", "pkl").collect()
    assert frame["int"].to_list() == [sample["int"] for sample in values.samples()]
    assert frame["pkl"].to_list() == [pickle.dumps(sample["pkl"], protocol=4) for sample in values.samples()]


def test_workers_of_a_loader_read_them(tmp_path: Path) -> None:
    dataset = StreamingDataset(
        streams=[Stream(local=str(copy_golden(name, tmp_path))) for name in ("merged", "cache")],
        batch_size=3,
        shuffle=True,
    )
    loader = DataLoader(dataset, batch_size=3, num_workers=2, collate_fn=list)
    found = sorted(sample["int"] for batch in loader for sample in batch)
    expected = [sample["int"] for first in (0, 3, 0) for sample in values.samples(("int",), first)]
    assert found == sorted(expected)


@pytest.mark.parametrize("compression", [None, "gz"])
def test_a_dataset_that_was_written_again_is_read_anew(compression: str | None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        with MosaicWriter(columns={"n": "int"}, out=out, compression=compression, exist_ok=True) as writer:
            writer.write({"n": number})
        # As mosaicml-streaming writes it: no hash tells one from the other.
        index = json.loads((out / "index.json").read_text())
        for file in filter(None, (index["shards"][0]["raw_data"], index["shards"][0]["zip_data"])):
            file["hashes"] = {}
        (out / "index.json").write_text(json.dumps(index))
        assert StreamingDataset(local=str(out))[0] == {"n": number}
        twin = next((tmp_path / "temporary").rglob("*.arrow"))
        before = twin.stat().st_mtime_ns
        assert StreamingDataset(local=str(out))[0] == {"n": number}
        assert twin.stat().st_mtime_ns == before
        os.utime(twin, ns=(before - 10**9, before - 10**9))  # clocks of files may tick slowly
