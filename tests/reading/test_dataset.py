"""A dataset in one process: what it holds, and one epoch after the other."""

import contextlib
import copy
import gc
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import IterableDataset, default_collate

from arrowstream import MDSWriter, Stream, StreamingDataset
from arrowstream import dataset as core
from tests.reading.datasets import (
    assert_holds,
    assert_is_sample,
    ids,
    noise,
    shard_files,
    write_large_rows,
    write_samples,
)
from tests.reading.subclasses import WithArguments, WithItem, WithTransform

NUM_SAMPLES = 100


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_samples(tmp_path_factory.mktemp("dataset") / "data", NUM_SAMPLES)
    assert len(shard_files(directory)) > 3
    return directory


# What it holds --------------------------------------------------------------------------------------------------------


def test_a_dataset_knows_its_samples_and_shards(data: Path) -> None:
    dataset = StreamingDataset(local=data)
    assert (len(dataset), dataset.size, dataset.num_samples) == (100, 100, 100)
    assert dataset.num_shards == len(shard_files(data)) == len(dataset.samples_per_shard)
    assert dataset.samples_per_shard.sum() == 100
    assert dataset.schema.names == ["id", "text", "vector"]
    assert_holds(dataset, 100)


def test_the_dataset_of_a_program_with_torch_is_one_of_torch(data: Path) -> None:
    dataset = StreamingDataset(local=data)
    assert isinstance(dataset, IterableDataset)
    assert isinstance(dataset, core.StreamingDataset)


def test_nothing_is_read_when_a_dataset_is_made(tmp_path: Path) -> None:
    dataset = StreamingDataset(remote=tmp_path / "nowhere", local=tmp_path / "cache")
    assert "index not read yet" in repr(dataset)
    assert not (tmp_path / "cache").exists()


def test_the_text_of_a_dataset_tells_its_place_its_settings_and_its_size(data: Path) -> None:
    dataset = StreamingDataset(local=data, batch_size=7, shuffle=True)
    assert dataset[0]["id"] == 0
    for part in (str(data), "batch_size=7", "shuffle=True", "100 samples", f"{len(shard_files(data))} shards"):
        assert part in repr(dataset)


def test_samples_are_the_callers_own(tmp_path: Path) -> None:
    dataset = StreamingDataset(local=write_large_rows(tmp_path / "data"))
    sample = dataset[5]
    assert sample["noise"].flags.owndata
    sample["noise"][:] = 0
    assert dataset[5]["noise"].tolist() == noise(5, 1 << 17).tolist()


def test_samples_collate_without_a_warning(data: Path) -> None:
    batch = default_collate([sample for sample, _ in zip(StreamingDataset(local=data), range(8), strict=False)])
    assert batch["id"].tolist() == list(range(8))
    assert batch["vector"].shape == (8, 4)
    assert default_collate([StreamingDataset(local=data)[3]])["vector"].tolist() == [[3, 4, 5, 6]]


def test_a_dataset_of_several_record_batches_a_shard_is_read_whole(tmp_path: Path) -> None:
    dataset = StreamingDataset(local=write_large_rows(tmp_path / "data"))
    for number in (0, 47, 8, 7, 23, 24):
        assert dataset[number]["id"] == number
        assert np.array_equal(dataset[number]["noise"], noise(number, 1 << 17))
    assert ids(dataset) == list(range(48))


def test_a_dataset_without_samples_has_none(tmp_path: Path) -> None:
    dataset = StreamingDataset(local=write_samples(tmp_path / "data", 0), shuffle=True)
    assert (len(dataset), dataset.size, dataset.num_shards, list(dataset), dataset[:]) == (0, 0, 0, [], [])
    with pytest.raises(IndexError):
        dataset[0]


def test_a_dataset_may_outgrow_the_shards_that_stay_open(tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path / "data", columns={"id": "int", "blob": "bytes"}, size_limit=1) as writer:
        for number in range(1100):
            writer.write({"id": number, "blob": b""})
    dataset = StreamingDataset(local=tmp_path / "data", shuffle=True)
    assert dataset.num_shards == 1100
    assert sorted(ids(dataset)) == list(range(1100))
    assert ids(dataset[::-1]) == list(range(1099, -1, -1))


# Several streams ------------------------------------------------------------------------------------------------------


def test_streams_stand_one_behind_the_other(data: Path, tmp_path: Path) -> None:
    second = write_samples(tmp_path / "root" / "train", 30, first=100)
    empty = write_samples(tmp_path / "empty", 0)
    streams = [
        Stream(local=empty),
        Stream(local=data),
        Stream(remote=second.parent, local=tmp_path / "cache", split="train"),
    ]
    dataset = StreamingDataset(streams=streams)
    assert_holds(dataset, 130)
    assert ids(dataset) == list(range(130))
    assert ids(dataset[95:105]) == list(range(95, 105))
    assert dataset.take([129, 0, 100]).column("id").to_pylist() == [129, 0, 100]
    assert len(shard_files(tmp_path / "cache" / "train")) == len(shard_files(second))


def test_a_dataset_has_streams_or_a_place_but_not_both(data: Path) -> None:
    with pytest.raises(ValueError, match="either `streams` or `remote`/`local`, but not both"):
        StreamingDataset(streams=[Stream(local=data)], local=data)
    with pytest.raises(ValueError, match="either `streams` or `remote`/`local`, but not both"):
        StreamingDataset()
    with pytest.raises(ValueError, match="a stream needs remote="):
        Stream()


@pytest.mark.parametrize(
    "setting",
    [{"batch_size": 0}, {"shuffle_block_size": 0}, {"predownload": 0}, {"shuffle_seed": -1}],
)
def test_a_setting_out_of_range_is_named(data: Path, setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))} is {next(iter(setting.values()))}; expected at least"):
        StreamingDataset(local=data, **setting)


@pytest.mark.parametrize("setting", [{"download_retry": 0}, {"download_timeout": 0}, {"download_timeout": -1.0}])
def test_a_streams_setting_out_of_range_is_named(data: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))} is {next(iter(setting.values()))}"):
        Stream(local=data, **setting)


# Epochs ---------------------------------------------------------------------------------------------------------------


def test_every_sample_comes_once_an_epoch(data: Path) -> None:
    dataset = StreamingDataset(local=data, shuffle=True, shuffle_block_size=16)
    epochs = [ids(dataset) for _ in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(100))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_what_an_iteration_gives_is_what_its_id_names(data: Path) -> None:
    for sample in StreamingDataset(local=data, shuffle=True):
        assert_is_sample(sample, sample["id"])


def test_without_shuffling_samples_come_in_their_order(data: Path) -> None:
    dataset = StreamingDataset(local=data)
    assert [ids(dataset) for _ in range(2)] == [list(range(100))] * 2


def test_the_order_depends_on_the_seed_and_the_epoch_alone(data: Path) -> None:
    first = StreamingDataset(local=data, shuffle=True, shuffle_seed=3)
    second = StreamingDataset(local=data, shuffle=True, shuffle_seed=3, batch_size=9, predownload=1)
    epochs = [ids(first) for _ in range(3)]
    assert [ids(second) for _ in range(3)] == epochs
    second.next_epoch = 1
    assert ids(second) == epochs[1]
    assert ids(StreamingDataset(local=data, shuffle=True, shuffle_seed=4)) not in epochs


def test_an_epoch_that_was_read_counts_one(data: Path) -> None:
    dataset = StreamingDataset(local=data, shuffle=True)
    for epoch in range(3):
        assert dataset.next_epoch == epoch
        assert len(ids(dataset)) == 100
    assert dataset.next_epoch == 3


def test_an_epoch_begins_with_its_first_sample(data: Path) -> None:
    dataset = StreamingDataset(local=data, shuffle=True)
    unread = [iter(dataset) for _ in range(3)]
    assert dataset.next_epoch == 0
    next(unread[0])
    assert dataset.next_epoch == 1


def test_an_epoch_that_is_broken_off_is_over(data: Path) -> None:
    dataset = StreamingDataset(local=data, shuffle=True)
    next(iter(dataset))
    again = StreamingDataset(local=data, shuffle=True)
    assert ids(dataset) != ids(again)
    assert dataset.next_epoch == 2


def test_iterations_may_go_side_by_side(data: Path) -> None:
    dataset = StreamingDataset(local=data, shuffle=True)
    pairs = list(zip(dataset, dataset, strict=True))
    epochs = [[pair[side]["id"] for pair in pairs] for side in (0, 1)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(100))] * 2
    assert epochs[0] != epochs[1]


# Subclasses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_overridden_index_is_honoured_in_iteration(data: Path, shuffle: bool) -> None:
    found = list(WithTransform(local=data, shuffle=shuffle))
    assert sorted(each["double"] for each in found) == list(range(0, 200, 2))


def test_an_overridden_sample_is_honoured_everywhere(data: Path) -> None:
    dataset = WithItem(local=data)
    expected = [{"id": number, "length": 56 + number % 50} for number in range(100)]
    assert list(dataset) == expected
    assert dataset[:] == expected
    assert dataset[np.int8(7)] == expected[7]


def test_a_subclass_with_a_constructor_pickles(data: Path) -> None:
    dataset = pickle.loads(pickle.dumps(WithArguments(offset=1000, local=data)))
    assert list(dataset) == list(range(1000, 1100))


# Ranks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_ranks", "ranks_per_node"), [(2, 2), (3, 1), (6, 3), (7, 7), (128, 8)])
def test_ranks_share_out_an_epoch(
    data: Path, monkeypatch: pytest.MonkeyPatch, num_ranks: int, ranks_per_node: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(num_ranks))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks_per_node))
    shares = []
    for rank in range(num_ranks):
        monkeypatch.setenv("RANK", str(rank))
        dataset = StreamingDataset(local=data, shuffle=True, batch_size=4)
        shares.append(ids(dataset))
        assert len(dataset) == len(shares[-1]) == -(-100 // num_ranks)
        assert dataset.size == 100
    read = [number for share in shares for number in share]
    assert set(read) == set(range(100))
    assert len(read) - 100 < num_ranks


def test_variables_that_do_not_go_together_are_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="RANK=2, WORLD_SIZE=2"):
        list(StreamingDataset(local=data))


# Copies ---------------------------------------------------------------------------------------------------------------


def test_a_dataset_pickles_to_a_few_kilobytes_whatever_it_has_read(tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path / "data", columns={"id": "int"}, size_limit=1) as writer:
        for number in range(300):
            writer.write({"id": number})
    dataset = StreamingDataset(remote=tmp_path / "data", local=tmp_path / "cache", shuffle=True)
    assert dataset.num_shards == 300
    assert sorted(ids(dataset)) == list(range(300))
    assert dataset.schema.names == ["id"]
    text = pickle.dumps(dataset)
    assert len(text) < 4096
    assert ids(pickle.loads(text)[...]) == list(range(300))


def test_a_copy_works_when_its_original_is_gone(data: Path, tmp_path: Path) -> None:
    dataset = StreamingDataset(remote=data, local=tmp_path / "cache")
    assert_holds(dataset, 100)
    text = pickle.dumps(dataset)
    del dataset
    gc.collect()
    assert_holds(pickle.loads(text), 100)


def open_files() -> int:
    """Count this process's descriptors, without the connections that other tests' clients keep for a while."""
    kinds = []
    for number in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            kinds.append(stat.S_ISSOCK(os.fstat(int(number)).st_mode))
    return kinds.count(False)


def test_copies_share_nothing_that_is_open(data: Path) -> None:
    gc.collect()
    before = open_files()
    dataset = StreamingDataset(local=data, shuffle=True)
    assert len(ids(dataset)) == 100
    copies = [pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)]
    for each in copies:
        assert each.next_epoch == 1
        assert len(ids(each)) == 100
    assert [dataset.next_epoch, *(each.next_epoch for each in copies)] == [1, 2, 2]
    # Shards are mapped; what is open is the epoch's count alone: a descriptor, and the map's duplicate of it.
    assert open_files() - before == 2 * 3
    del dataset, copies, each
    gc.collect()
    assert open_files() == before


def test_reading_needs_neither_torch_nor_polars(data: Path) -> None:
    program = (
        "import sys; from arrowstream.dataset import StreamingDataset as D; print(len(list(D(local=sys.argv[1]))));"
        "print(sorted({'torch', 'polars', 'fsspec'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(data)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("100\n[]\n", "")
