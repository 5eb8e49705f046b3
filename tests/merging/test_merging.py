"""Datasets that many writers made become one."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from arrowstream import LocalDataset, MosaicWriter, StreamingDataset, merge_index, write_dataframe
from arrowstream.errors import ArrowStreamError, IndexFormatError, RemoteNotFoundError
from tests.reading.datasets import assert_holds, assert_is_sample, write_samples
from tests.servers import S3Server


def parts_below(root: Path, names: list[str], each: int = 30) -> None:
    for number, name in enumerate(names):
        write_samples(root / name, each, first=number * each)


def test_parts_are_found_below_a_directory(tmp_path: Path) -> None:
    parts_below(tmp_path, ["a", "b/c", "b/d"])
    index = merge_index(tmp_path)
    assert index.num_samples == 90
    assert_holds(StreamingDataset(local=tmp_path), 90)
    assert_holds(StreamingDataset(remote=tmp_path, local=tmp_path.parent / f"{tmp_path.name}-cache"), 90)


def test_merging_again_changes_nothing(tmp_path: Path) -> None:
    parts_below(tmp_path, ["a", "b"])
    merge_index(tmp_path)
    once = (tmp_path / "index.json").read_bytes()
    merge_index(tmp_path)
    assert (tmp_path / "index.json").read_bytes() == once


def test_a_tree_may_be_merged_branch_by_branch(tmp_path: Path) -> None:
    parts_below(tmp_path, ["x/1", "x/2", "y"])
    merge_index(tmp_path / "x")
    merge_index(tmp_path)
    assert_holds(StreamingDataset(local=tmp_path), 90)


def test_parts_are_taken_in_the_order_given(tmp_path: Path) -> None:
    parts_below(tmp_path, ["a", "b"])
    merge_index([tmp_path / "b" / "index.json", str(tmp_path / "a" / "index.json")], tmp_path)
    dataset = StreamingDataset(local=tmp_path)
    assert_is_sample(dataset[0], 30)
    assert_is_sample(dataset[30], 0)


def test_parts_may_have_other_columns_and_compressions(tmp_path: Path) -> None:
    write_samples(tmp_path / "a", 30, compression="zstd")
    write_samples(tmp_path / "b", 30, first=30, compression="gz")
    merge_index(tmp_path)
    assert_holds(StreamingDataset(remote=tmp_path, local=tmp_path.parent / f"{tmp_path.name}-cache"), 60)


def test_an_empty_part_adds_nothing(tmp_path: Path) -> None:
    write_samples(tmp_path / "a", 0)
    write_samples(tmp_path / "b", 10)
    merge_index(tmp_path)
    assert_holds(StreamingDataset(local=tmp_path), 10)


def test_metadata_that_all_agree_on_is_kept(tmp_path: Path) -> None:
    parts_below(tmp_path, ["a", "b"])
    for name in ("a", "b"):
        tree = json.loads((tmp_path / name / "index.json").read_bytes())
        tree["metadata"] = {"source": "weather", "part": name}
        (tmp_path / name / "index.json").write_text(json.dumps(tree))
    assert merge_index(tmp_path).metadata == {"source": "weather"}


def test_nothing_to_merge_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RemoteNotFoundError, match=r"no index.json lies below"):
        merge_index(tmp_path)


def test_a_part_elsewhere_is_refused(tmp_path: Path) -> None:
    parts_below(tmp_path, ["in/a", "out/b"])
    with pytest.raises(ValueError, match=r"out/b.*: lies outside of .*/in"):
        merge_index([tmp_path / "in/a/index.json", tmp_path / "out/b/index.json"], tmp_path / "in")


def test_a_part_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    parts_below(tmp_path, ["a", "b"])
    with pytest.raises(RemoteNotFoundError, match=r"c/index.json"):
        merge_index([tmp_path / "a/index.json", tmp_path / "c/index.json"], tmp_path)
    (tmp_path / "b" / "index.json").write_bytes(b"{")
    with pytest.raises(IndexFormatError, match=r"b/index.json"):
        merge_index(tmp_path)
    assert not (tmp_path / "index.json").exists()


def test_a_part_given_twice_is_refused(tmp_path: Path) -> None:
    parts_below(tmp_path, ["a"])
    with pytest.raises(ArrowStreamError, match=r"twice"):
        merge_index([tmp_path / "a/index.json"] * 2, tmp_path)


def test_parts_in_a_bucket_are_merged_there(tmp_path: Path, s3: S3Server) -> None:
    bucket = s3.new_prefix()
    for number in range(3):
        write_samples(f"{bucket}/data/{number}", 20, first=20 * number, storage_options=s3.options)  # type: ignore[arg-type]
    merge_index((tmp_path / "local", f"{bucket}/data"), storage_options=s3.options)
    assert (tmp_path / "local" / "index.json").exists()
    dataset = StreamingDataset(remote=f"{bucket}/data", local=tmp_path / "cache", storage_options=s3.options)
    assert_holds(dataset, 60)


def test_a_local_dataset_is_indexed_as_numpy_does(tmp_path: Path) -> None:
    write_samples(tmp_path / "train", 50)
    dataset = LocalDataset(tmp_path, split="train")
    assert len(dataset) == dataset.size == 50
    assert_is_sample(dataset[-1], 49)
    assert [sample["id"] for sample in dataset[10:13]] == [10, 11, 12]
    assert dataset.take([3, 4], ["id"])["id"].to_pylist() == [3, 4]
    with pytest.raises(IndexError):
        dataset[50]


def test_a_local_dataset_goes_through_a_shuffling_loader(tmp_path: Path) -> None:
    from torch.utils.data import DataLoader, Dataset

    write_dataframe(pa.table({"id": range(64)}), tmp_path)
    dataset = LocalDataset(tmp_path)
    assert isinstance(dataset, Dataset)
    loader = DataLoader(dataset, batch_size=8, shuffle=True, num_workers=2)
    assert sorted(int(i) for batch in loader for i in batch["id"]) == list(range(64))


def test_what_mosaic_can_read_it_can_read_afterwards(tmp_path: Path) -> None:
    for part in range(2):
        with MosaicWriter(out=tmp_path / str(part), columns={"id": "int"}) as writer:
            writer.write({"id": part})
    merge_index(tmp_path)
    tree = json.loads((tmp_path / "index.json").read_bytes())
    assert tree["version"] == 2
    assert [shard["raw_data"]["basename"] for shard in tree["shards"]] == ["0/shard.00000.mds", "1/shard.00000.mds"]
    assert [sample["id"] for sample in LocalDataset(tmp_path)[:]] == [0, 1]
    write_samples(tmp_path / "2", 1)
    merge_index(tmp_path)
    assert [sample["id"] for sample in LocalDataset(tmp_path)[:]] == [0, 1, 0]
