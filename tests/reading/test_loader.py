"""Under torch's DataLoader, with workers or without, however they are started."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from arrowstream import Stream, StreamingDataset
from arrowstream.errors import CorruptShardError
from tests.reading.datasets import COLUMNS, deliver, ids, sample, shard_files, write_samples
from tests.reading.subclasses import WithArguments, WithEpoch, WithItem, WithTransform

NUM_SAMPLES = 100
#: How a loader prepares its batches: number of workers, how they are started, whether they live on.
LOADERS = [
    pytest.param(0, None, False, id="in-process"),
    pytest.param(2, "fork", False, id="fork"),
    pytest.param(2, "fork", True, id="fork-persistent"),
    pytest.param(2, "spawn", False, id="spawn"),
    pytest.param(2, "forkserver", False, id="forkserver"),
    pytest.param(2, "forkserver", True, id="forkserver-persistent"),
]
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    # torch counts the cores of the machine that the tests happen to run on.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_samples(tmp_path_factory.mktemp("loader") / "data", NUM_SAMPLES)
    assert len(shard_files(directory)) > 3
    return directory


def make_loader(dataset: Any, num_workers: int = 2, method: str | None = "fork", **arguments: Any) -> DataLoader:
    context = method if num_workers else None
    return DataLoader(
        dataset, batch_size=dataset.batch_size, num_workers=num_workers, multiprocessing_context=context, **arguments
    )


@pytest.mark.parametrize(("num_workers", "method", "persistent"), LOADERS)
def test_every_sample_comes_once_in_each_epoch(
    data: Path, tmp_path: Path, num_workers: int, method: str | None, persistent: bool
) -> None:
    dataset = StreamingDataset(remote=data, local=tmp_path / "cache", shuffle=True, batch_size=8)
    alone = StreamingDataset(local=data, shuffle=True, batch_size=8)
    loader = make_loader(dataset, num_workers, method, persistent_workers=persistent)
    assert len(loader) == 13
    for epoch in range(2):
        assert dataset.next_epoch == epoch
        found = ids(loader)
        assert sorted(found) == list(range(NUM_SAMPLES))
        # Batch by batch in the order of the one process: the workers agree on the epoch, and on who reads what.
        assert found == ids(alone)
    assert dataset.next_epoch == alone.next_epoch == 2


def test_batches_hold_what_was_written(data: Path) -> None:
    dataset = StreamingDataset(local=data, shuffle=True, batch_size=8)
    for batch in make_loader(dataset):
        assert batch.keys() == COLUMNS.keys()
        numbers = batch["id"].tolist()
        assert batch["text"] == [sample(number)["text"] for number in numbers]
        assert torch.equal(batch["vector"], batch["id"].float()[:, None] + torch.arange(4))


def test_without_shuffling_workers_keep_the_order(data: Path) -> None:
    dataset = StreamingDataset(local=data, batch_size=8)
    loader = make_loader(dataset, 3)
    assert [ids(loader) for _ in range(2)] == [list(range(NUM_SAMPLES))] * 2


@pytest.mark.parametrize("num_workers", [1, 5, 20])
def test_more_workers_than_there_is_work_for_do_no_harm(tmp_path: Path, num_workers: int) -> None:
    dataset = StreamingDataset(local=write_samples(tmp_path / "data", 10), batch_size=4)
    assert ids(make_loader(dataset, num_workers)) == list(range(10))


def test_a_dataset_that_was_used_already_can_be_loaded(data: Path, tmp_path: Path) -> None:
    dataset = StreamingDataset(remote=data, local=tmp_path / "cache", shuffle=True, batch_size=8)
    assert sorted(ids(dataset)) == list(range(NUM_SAMPLES))
    assert sorted(ids(make_loader(dataset))) == list(range(NUM_SAMPLES))
    assert sorted(ids(dataset)) == list(range(NUM_SAMPLES))
    assert dataset.next_epoch == 3


@pytest.mark.parametrize(("num_workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_all_workers_know_the_epoch_that_comes_next(data: Path, num_workers: int, persistent: bool) -> None:
    dataset = WithEpoch(local=data, shuffle=True, batch_size=8)
    dataset.next_epoch = 4
    loader = make_loader(dataset, num_workers, persistent_workers=persistent)
    for following in (5, 6):
        assert {number for batch in loader for number in batch["following"].tolist()} == {following}


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loader_that_is_seeded_anew_goes_on_to_the_next_epoch(data: Path, persistent: bool) -> None:
    dataset = StreamingDataset(local=data, shuffle=True, batch_size=8)
    alone = StreamingDataset(local=data, shuffle=True)
    for _ in range(2):
        loader = make_loader(dataset, persistent_workers=persistent, generator=torch.Generator().manual_seed(1))
        assert ids(loader) == ids(alone)
        assert ids(loader) == ids(alone)
    assert dataset.next_epoch == 4


def test_an_iterator_that_is_not_read_does_not_begin_an_epoch(data: Path) -> None:
    dataset = StreamingDataset(local=data, shuffle=True, batch_size=8)
    loader = make_loader(dataset, 0)
    unread = [iter(loader) for _ in range(2)]
    assert dataset.next_epoch == 0
    assert ids(loader) == ids(StreamingDataset(local=data, shuffle=True))
    assert len(unread) == 2


def test_a_loader_that_is_broken_off_begins_the_next_epoch_afterwards(data: Path) -> None:
    dataset = StreamingDataset(local=data, shuffle=True, batch_size=8)
    assert len(ids(itertools.islice(deliver(make_loader(dataset)), 2))) == 16
    found = ids(make_loader(dataset))
    assert sorted(found) == list(range(NUM_SAMPLES))
    alone = StreamingDataset(local=data, shuffle=True)
    alone.next_epoch = 1
    assert found == ids(alone)


def test_two_loaders_side_by_side_are_two_epochs(data: Path) -> None:
    dataset = StreamingDataset(local=data, shuffle=True, batch_size=8)
    pairs = list(zip(make_loader(dataset), make_loader(dataset), strict=True))
    found = [ids(batches) for batches in zip(*pairs, strict=True)]
    assert [sorted(epoch) for epoch in found] == [list(range(NUM_SAMPLES))] * 2
    assert found[0] != found[1]
    assert dataset.next_epoch == 2


def test_workers_without_a_batch_size_are_refused(data: Path) -> None:
    loader = DataLoader(StreamingDataset(local=data), batch_size=8, num_workers=2, multiprocessing_context="fork")
    with pytest.raises(ValueError, match="Please pass `batch_size`"):
        next(deliver(loader))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_one_process_needs_no_batch_size(data: Path, num_workers: int) -> None:
    loader = DataLoader(StreamingDataset(local=data), batch_size=8, num_workers=num_workers)
    assert ids(loader) == list(range(NUM_SAMPLES))


@pytest.mark.parametrize(("num_workers", "method"), [(0, None), (2, "fork")])
def test_subclasses_are_honoured(data: Path, num_workers: int, method: str | None) -> None:
    batches = list(make_loader(WithTransform(local=data, shuffle=True, batch_size=8), num_workers, method))
    assert all(torch.equal(batch["double"], 2 * batch["id"]) for batch in batches)
    assert sorted(ids(batches)) == list(range(NUM_SAMPLES))


def test_an_overridden_sample_is_honoured(data: Path) -> None:
    batches = list(make_loader(WithItem(local=data, batch_size=8)))
    assert all(torch.equal(batch["length"], 56 + batch["id"] % 50) for batch in batches)
    assert ids(batches) == list(range(NUM_SAMPLES))


def test_a_subclass_with_a_constructor_reaches_spawned_workers(data: Path) -> None:
    loader = make_loader(WithArguments(offset=1000, local=data, batch_size=8), 2, "spawn")
    assert torch.cat(list(loader)).tolist() == list(range(1000, 1100))


def test_several_streams_are_loaded_as_one(data: Path, tmp_path: Path) -> None:
    second = write_samples(tmp_path / "data", 30, first=100)
    streams = [Stream(remote=data, local=tmp_path / "cache"), Stream(local=second)]
    loader = make_loader(StreamingDataset(streams=streams, shuffle=True, batch_size=8))
    assert sorted(ids(loader)) == list(range(130))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ranks_share_out_an_epoch(data: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    ranks = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        loader = make_loader(StreamingDataset(local=data, shuffle=True, batch_size=3), num_workers)
        ranks.append([ids([batch]) for batch in loader])
        assert len(ranks[-1]) == len(loader) == 9
    steps = [sorted(number for batch in step for number in batch) for step in zip(*ranks, strict=True)]
    monkeypatch.undo()
    alone = DataLoader(StreamingDataset(local=data, shuffle=True, batch_size=12), batch_size=12)
    assert steps == [sorted(ids([batch])) for batch in alone]


@pytest.mark.parametrize(("num_workers", "method"), [(0, None), (2, "fork")])
def test_an_error_in_a_worker_ends_the_epoch_with_its_name(
    data: Path, tmp_path: Path, num_workers: int, method: str | None
) -> None:
    damaged = write_samples(tmp_path / "data", NUM_SAMPLES)
    last = shard_files(damaged)[-1]
    last.write_bytes(last.read_bytes()[:-9])
    delivered = []
    with pytest.raises(CorruptShardError, match=f"{last.name}: .* bytes that are no whole Arrow IPC file"):
        delivered.extend(deliver(make_loader(StreamingDataset(local=damaged, batch_size=8), num_workers, method)))
    assert len(ids(delivered)) < NUM_SAMPLES
