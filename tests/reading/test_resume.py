"""A run that goes on from a checkpoint sees the samples that an unbroken one would have seen, in the same order."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from arrowstream import StreamingDataset
from arrowstream.errors import StateMismatchError
from tests.reading.datasets import write_samples

NUM_SAMPLES = 100


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("resume"), NUM_SAMPLES)


def make(data: Path, **arguments: Any) -> StreamingDataset:
    return StreamingDataset(local=data, **{"shuffle": True, "batch_size": 8, "shuffle_block_size": 32, **arguments})


def ids(samples: Any) -> list[int]:
    return [sample["id"] for sample in samples]


def loaded_ids(loader: Any) -> list[int]:
    return [number for batch in loader for number in batch]


def collate(samples: list[dict[str, Any]]) -> list[int]:
    return ids(samples)


def unbroken(data: Path, **arguments: Any) -> list[list[int]]:
    dataset = make(data, **arguments)
    return [ids(dataset) for _ in range(3)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("overridden", [False, True])
def test_from_every_sample_of_an_epoch(data: Path, shuffle: bool, overridden: bool) -> None:
    class Same(StreamingDataset):
        def get_item(self, sample_id: int) -> Any:
            return super().get_item(sample_id)

    kind = Same if overridden else StreamingDataset
    arguments: dict[str, Any] = {"local": data, "shuffle": shuffle, "batch_size": 8}
    epochs = unbroken(data, shuffle=shuffle, shuffle_block_size=None)
    for stop in range(NUM_SAMPLES):
        dataset = kind(**arguments)
        list(dataset)
        iterator = iter(dataset)
        before = [next(iterator)["id"] for _ in range(stop)]
        state = json.loads(json.dumps(dataset.state_dict()))
        again = kind(**arguments)
        again.load_state_dict(state)
        # With nothing seen of the second epoch, the next is the second either way.
        assert before + ids(again) == epochs[1]
        assert ids(again) == epochs[2]


def test_a_state_at_the_end_of_an_epoch_begins_the_next(data: Path) -> None:
    dataset = make(data)
    list(dataset)
    for state in (dataset.state_dict(), dataset.state_dict(NUM_SAMPLES)):
        again = make(data)
        again.load_state_dict(state)
        assert ids(again) == unbroken(data)[1]


@pytest.mark.parametrize("workers", [(0, 2), (2, 0), (2, 1)])
@pytest.mark.parametrize("batch_sizes", [(8, 8), (8, 5)])
def test_with_other_workers_and_batches(data: Path, workers: tuple[int, int], batch_sizes: tuple[int, int]) -> None:
    first = make(data, batch_size=batch_sizes[0])
    loader = DataLoader(first, batch_size=batch_sizes[0], num_workers=workers[0], collate_fn=collate)
    delivered = iter(loader)
    before = [number for _ in range(4) for number in next(delivered)]
    state = first.state_dict(len(before), from_beginning=True)
    del delivered
    second = make(data, batch_size=batch_sizes[1])
    second.load_state_dict(state)
    loader = DataLoader(second, batch_size=batch_sizes[1], num_workers=workers[1], collate_fn=collate)
    epochs = unbroken(data)
    assert before + loaded_ids(loader) == epochs[0]
    assert loaded_ids(loader) == epochs[1]


def test_a_second_resume_counts_from_the_first(data: Path) -> None:
    dataset = make(data)
    dataset.load_state_dict(dataset.state_dict(24))
    iterator = iter(dataset)
    middle = [next(iterator)["id"] for _ in range(16)]
    again = make(data)
    again.load_state_dict(dataset.state_dict(16, from_beginning=False))
    epoch = unbroken(data)[0]
    assert middle == epoch[24:40]
    assert ids(again) == epoch[40:]


def test_a_dataset_that_was_iterated_goes_back(data: Path) -> None:
    dataset = make(data)
    epochs = [ids(dataset), ids(dataset)]
    dataset.load_state_dict({**dataset.state_dict(), "epoch": 0, "sample_in_epoch": 10})
    assert ids(dataset) == epochs[0][10:]
    assert ids(dataset) == epochs[1]


@pytest.mark.parametrize("ranks", [2, 4])
def test_with_another_number_of_ranks(data: Path, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(data)
    state = dataset.state_dict(32)
    rest: list[list[int]] = []
    for rank in range(ranks):
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
        monkeypatch.setenv("RANK", str(rank))
        again = make(data)
        again.load_state_dict(state)
        rest.append(ids(again))
    together = [number for step in zip(*rest, strict=True) for number in step]
    assert together == unbroken_alone(data, monkeypatch)[32:]


def unbroken_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return unbroken(data)[0]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"shuffle_seed": 1}, "shuffle_seed: 9176 in the state, 1 here"),
        ({"shuffle": False}, "shuffle: True in the state, False here"),
        ({"num_canonical_nodes": 2}, "num_canonical_nodes: 1 in the state, 2 here"),
        ({"shuffle_block_size": 64}, "shuffle_block_size: 32 in the state, 64 here"),
    ],
)
def test_another_order_is_refused_by_name(data: Path, other: dict[str, Any], named: str) -> None:
    state = make(data).state_dict(10)
    dataset = make(data, **other)
    with pytest.raises(StateMismatchError, match=named):
        dataset.load_state_dict(state)
    dataset.load_state_dict(state, strict=False)
    assert len(ids(dataset)) == NUM_SAMPLES - 10


def test_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    other = make(write_samples(tmp_path / "other", NUM_SAMPLES, salt="x"))
    with pytest.raises(StateMismatchError, match="data: "):
        other.load_state_dict(make(data).state_dict(10))


def test_a_state_has_the_keys_of_mosaicml_streaming(data: Path) -> None:
    keys = {"epoch", "sample_in_epoch", "num_canonical_nodes", "shuffle_seed", "initial_physical_nodes"}
    assert keys <= set(make(data).state_dict(10))


def test_after_workers_the_number_of_samples_has_to_be_given(data: Path) -> None:
    dataset = make(data)
    loader = DataLoader(dataset, batch_size=8, num_workers=1, collate_fn=collate)
    next(iter(loader))
    with pytest.raises(ValueError, match="pass num_samples="):
        dataset.state_dict()


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata's own
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 5, 12])
def test_the_stateful_loader_of_torchdata_goes_on_exactly(data: Path, workers: int, stop: int) -> None:
    def loader() -> StatefulDataLoader:
        torch.manual_seed(0)
        return StatefulDataLoader(make(data), batch_size=8, num_workers=workers, collate_fn=collate)

    whole = loader()
    epochs = [loaded_ids(whole), loaded_ids(whole)]
    first = loader()
    delivered = iter(first)
    before = [number for _ in range(stop) for number in next(delivered)]
    state = first.state_dict()
    del delivered
    second = loader()
    second.load_state_dict(state)
    assert before + loaded_ids(second) == epochs[0]
    assert loaded_ids(second) == epochs[1]
