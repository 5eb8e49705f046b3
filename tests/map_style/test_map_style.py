"""The view by ids, and the sampler that gives the plan's order."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from arrowstream import StreamingDataset
from arrowstream.dataset import StreamingDataset as PlainDataset
from tests.reading.datasets import assert_is_sample, write_samples


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("data"))


def dataset(remote: Path, **arguments: Any) -> StreamingDataset:
    return StreamingDataset(local=remote, **{"shuffle": True, "batch_size": 8, "shuffle_block_size": 64, **arguments})


def ids_of(batches: Any) -> list[int]:
    return [number for batch in batches for number in batch["id"].tolist()]


def loader(samples: StreamingDataset, **arguments: Any) -> DataLoader[Any]:
    view = samples.map_style()
    return DataLoader(view, sampler=view.sampler(), batch_size=8, **arguments)


def test_a_view_reads_samples_by_their_ids(remote: Path) -> None:
    view = dataset(remote).map_style()
    assert isinstance(view, Dataset)
    assert isinstance(view.sampler(), Sampler)
    assert len(view) == 100
    assert_is_sample(view[3], 3)
    assert_is_sample(view[-1], 99)
    for number, sample in zip([70, 2, 99], view.__getitems__([70, 2, -1]), strict=True):
        assert_is_sample(sample, number)
    with pytest.raises(IndexError, match="out of bounds"):
        view.__getitems__([100])


def test_without_torch_a_view_is_the_same(remote: Path) -> None:
    samples = PlainDataset(local=remote, shuffle=True)
    view = samples.map_style("numpy", columns=["id"])
    order = list(view.sampler())
    assert view.__getitems__(order)["id"].tolist() == order == samples.plan(0).samples(0, 100).tolist()


@pytest.mark.parametrize("context", [None, "fork", "forkserver", "spawn"])
def test_a_loader_with_the_sampler_reads_what_an_iteration_does(remote: Path, context: str | None) -> None:
    num_workers = 2 if context == "fork" else 1  # the others import torch for seconds
    workers = {} if context is None else {"num_workers": num_workers, "multiprocessing_context": context}
    batches = loader(dataset(remote), **workers)
    iterated = dataset(remote)
    epochs = 1 if context in ("spawn", "forkserver") else 2
    for _ in range(epochs):
        assert ids_of(batches) == [sample["id"] for sample in iterated]


def test_batches_that_are_gathered_are_those_of_default_collate(remote: Path) -> None:
    samples = dataset(remote)
    view = samples.map_style("torch")
    gathered = DataLoader(view, sampler=view.sampler(), batch_size=8, collate_fn=view.collate)
    for found, expected in zip(gathered, loader(dataset(remote)), strict=True):
        assert found.keys() == expected.keys()
        assert torch.equal(found["id"], expected["id"])
        assert torch.equal(found["vector"], expected["vector"])
        assert found["text"] == expected["text"]


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_share_an_epoch_as_the_plan_says(remote: Path, num_ranks: int) -> None:
    for rank in range(num_ranks):
        samples = dataset(remote, rank=rank, world_size=num_ranks)
        sampler = samples.map_style().sampler()
        assert len(sampler) == len(samples)
        assert list(sampler) == [sample["id"] for sample in dataset(remote, rank=rank, world_size=num_ranks)]


def test_a_sampler_of_others_chooses_from_all_samples(remote: Path) -> None:
    view = dataset(remote).map_style()
    found = []
    for rank in range(2):
        sampler = DistributedSampler(view, num_replicas=2, rank=rank, shuffle=True, seed=3)
        found += ids_of(DataLoader(view, sampler=sampler, batch_size=8))
    assert sorted(found) == list(range(100))


def test_a_resume_goes_on_with_the_very_next_batch_at_every_step(remote: Path) -> None:
    whole = ids_of(loader(dataset(remote)))
    for steps in range(14):
        batches = loader(dataset(remote))
        begun = iter(batches)
        seen = ids_of(next(begun) for _ in range(min(steps, 13)))
        if steps == 13:
            assert next(begun, None) is None
        again = loader(dataset(remote))
        again.sampler.load_state_dict(batches.sampler.state_dict())
        again.sampler.set_epoch(0 if steps < 13 else 1)
        expected = whole[len(seen) :] if steps < 13 else dataset(remote).plan(1).samples(0, 100).tolist()
        assert ids_of(again) == expected


def test_states_of_sampler_and_iteration_are_one(remote: Path) -> None:
    whole = [sample["id"] for sample in dataset(remote)]
    samples = dataset(remote)
    iteration = iter(samples)
    for _ in range(16):
        next(iteration)
    resumed = loader(dataset(remote))
    resumed.sampler.load_state_dict(samples.state_dict())
    batches = iter(resumed)
    assert ids_of([next(batches)]) == whole[16:24]
    back = dataset(remote)
    back.load_state_dict(resumed.sampler.state_dict())
    assert [sample["id"] for sample in back] == whole[24:]


def test_state_counts_the_samples_of_all_ranks(remote: Path) -> None:
    batches = loader(dataset(remote, rank=1, world_size=2))
    next(iter(batches))
    assert batches.sampler.state_dict()["sample_in_epoch"] == 16


def test_workers_that_are_ahead_have_to_be_counted_by_the_loop(remote: Path) -> None:
    batches = loader(dataset(remote), num_workers=1)
    begun = iter(batches)
    seen = ids_of([next(begun)])
    with pytest.raises(ValueError, match="pass num_samples="):
        batches.sampler.state_dict()
    again = loader(dataset(remote))
    again.sampler.load_state_dict(batches.sampler.state_dict(num_samples=8))
    assert seen + ids_of(again) == [sample["id"] for sample in dataset(remote)]


def test_an_iterator_that_nobody_asked_is_no_epoch(remote: Path) -> None:
    batches = loader(dataset(remote))
    iter(batches.sampler)
    assert batches.sampler.state_dict()["epoch"] == 0
    assert batches.sampler.state_dict()["sample_in_epoch"] == 0
    assert ids_of(batches) == [sample["id"] for sample in dataset(remote)]


def test_set_epoch_chooses_the_epoch_and_keeps_a_resume(remote: Path) -> None:
    sampler = dataset(remote).map_style().sampler()
    plan = dataset(remote).plan
    for epoch in (2, 0, 1, 1):
        sampler.set_epoch(epoch)
        assert list(sampler) == plan(epoch).samples(0, 100).tolist()
    sampler.load_state_dict(dataset(remote).state_dict(num_samples=60))
    sampler.set_epoch(0)
    assert list(sampler) == plan(0).samples(60, 100).tolist()


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_torchdatas_loader_resumes_exactly(remote: Path, num_workers: int) -> None:
    def make() -> StatefulDataLoader[Any]:
        view = dataset(remote).map_style()
        return StatefulDataLoader(
            view, sampler=view.sampler(stateful_loader=True), batch_size=8, num_workers=num_workers
        )

    whole = ids_of(make())
    first = make()
    batches = iter(first)
    seen = ids_of(next(batches) for _ in range(5))
    again = make()
    again.load_state_dict(first.state_dict())
    assert seen + ids_of(again) == whole


def test_what_a_view_cannot_do_is_refused(remote: Path) -> None:
    with pytest.raises(ValueError, match="tail is 'pad'"):
        dataset(remote, tail="pad").map_style().sampler()
    with pytest.raises(ValueError, match="are for batches"):
        dataset(remote).map_style(columns=["id"])


def test_shards_are_fetched_for_a_batch(remote: Path, tmp_path: Path) -> None:
    for as_ in (None, "torch"):
        view = StreamingDataset(remote=remote, local=tmp_path / str(as_)).map_style(as_)
        batch = view.__getitems__([0, 99, 50])
        assert ([sample["id"] for sample in batch][1:] if as_ is None else batch["id"].tolist()[1:]) == [99, 50]
