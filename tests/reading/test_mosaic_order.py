"""A dataset that is asked for an order of mosaicml-streaming follows it; the order itself is held to golden files."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from arrowstream import Stream, StreamingDataset
from arrowstream.errors import StateMismatchError
from arrowstream.plan.mosaic.plan import MosaicPlan
from arrowstream.plan.mosaic.weights import Weight
from arrowstream.world import World
from tests.reading.datasets import write_samples

ALGORITHMS = ["naive", "py1br", "py1e", "py1s", "py2s"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("mosaic-order"), 100)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("more"), 60, first=1000)


def collate(samples: list[dict[str, Any]]) -> list[int]:
    return [sample["id"] for sample in samples]


def loaded(dataset: StreamingDataset, workers: int) -> list[int]:
    assert dataset.batch_size is not None
    loader = DataLoader(dataset, batch_size=dataset.batch_size, num_workers=workers, collate_fn=collate)
    return [number for batch in loader for number in batch]


def plan_of(dataset: StreamingDataset, **settings: Any) -> MosaicPlan:
    sizes = [stream.index.samples_per_shard for stream in dataset.streams]
    return MosaicPlan(samples_per_shard=sizes, batch_size=8, shuffle=True, **settings)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_follows_the_algorithm(data: Path, algorithm: str, workers: int) -> None:
    dataset = StreamingDataset(local=data, shuffle=True, shuffle_algo=algorithm, batch_size=8, shuffle_seed=3)
    plan = plan_of(dataset, shuffle_algo=algorithm, seed=3)
    for epoch in range(2):
        found = loaded(dataset, workers)
        worlds = [World().with_worker(worker, max(workers, 1)) for worker in range(max(workers, 1))]
        queues = [plan.worker_samples(world, epoch).reshape(-1) for world in worlds]
        batches = [[queue[start : start + 8] for start in range(0, len(queue), 8)] for queue in queues]
        turns = [batch for turn in range(len(batches[0])) for queue in batches for batch in queue[turn : turn + 1]]
        assert found == np.concatenate(turns).tolist()


def test_a_state_of_mosaicml_streaming_goes_on_with_its_seed_and_canonical_nodes(data: Path) -> None:
    state = {
        "epoch": 1,
        "sample_in_epoch": 24,
        "num_canonical_nodes": 2,
        "shuffle_seed": 5,
        "initial_physical_nodes": 1,
    }
    dataset = StreamingDataset(local=data, shuffle=True, shuffle_algo="py1e", batch_size=8)
    dataset.load_state_dict(state)
    plan = plan_of(dataset, num_canonical_nodes=2, seed=5)
    again = pickle.loads(pickle.dumps(dataset))
    assert loaded(dataset, 0) == plan.worker_samples(World(), 1, 24).tolist()
    assert loaded(dataset, 0) == plan.worker_samples(World(), 2).tolist()
    assert loaded(again, 0) == plan.worker_samples(World(), 1, 24).tolist()


def test_without_its_algorithm_such_a_state_is_refused_and_says_why(data: Path) -> None:
    state = {"epoch": 0, "sample_in_epoch": 8, "num_canonical_nodes": 1, "shuffle_seed": 9176}
    dataset = StreamingDataset(local=data, shuffle=True, batch_size=8)
    with pytest.raises(StateMismatchError, match="shuffle_algo that wrote it"):
        dataset.load_state_dict(state)
    dataset.load_state_dict(state, strict=False)
    assert len(loaded(dataset, 0)) == 92


@pytest.mark.parametrize("stop", [0, 8, 40, 96])
def test_such_an_order_goes_on_in_the_middle(data: Path, stop: int) -> None:
    def make() -> StreamingDataset:
        return StreamingDataset(local=data, shuffle=True, shuffle_algo="py1e", batch_size=8)

    whole = make()
    epochs = [loaded(whole, 0), loaded(whole, 0)]
    again = make()
    again.load_state_dict(make().state_dict(stop))
    assert loaded(again, 2) == epochs[0][stop:]
    assert loaded(again, 2) == epochs[1]


def test_proportions_say_how_much_of_each_stream_an_epoch_has(data: Path, more: Path) -> None:
    streams = [Stream(local=data, proportion=3), Stream(local=more, proportion=1)]
    dataset = StreamingDataset(streams=streams, epoch_size=80, batch_size=8, shuffle=True)
    assert len(dataset) == 80
    for _ in range(2):
        found = loaded(dataset, 0)
        assert sum(number >= 1000 for number in found) == 20
        assert len(set(found)) == 80


def test_streams_are_repeated_and_chosen_from(data: Path, more: Path) -> None:
    streams = [Stream(local=data, repeat=0.5), Stream(local=more, choose=90)]
    found = loaded(StreamingDataset(streams=streams, batch_size=10, shuffle=True), 0)
    first = [number for number in found if number < 1000]
    assert len(first) == len(set(first)) == 50
    assert len(found) - len(first) == 90
    assert {number for number in found if number >= 1000} == set(range(1000, 1060))


def test_batches_may_be_of_one_stream(data: Path, more: Path) -> None:
    streams = [Stream(local=data), Stream(local=more)]
    dataset = StreamingDataset(streams=streams, batch_size=10, shuffle=True, batching_method="per_stream")
    loader = DataLoader(dataset, batch_size=10, collate_fn=collate)
    batches = [{number >= 1000 for number in batch} for batch in loader]
    assert len(batches) == 16
    assert all(len(batch) == 1 for batch in batches)


def test_such_an_order_needs_a_batch_size(data: Path) -> None:
    with pytest.raises(ValueError, match="Please pass `batch_size`"):
        next(iter(StreamingDataset(local=data, shuffle_algo="naive")))


def test_two_weights_for_a_stream_are_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="At most one of"):
        Stream(local=data, repeat=2, choose=3)


def test_weights_are_kept_as_the_plan_has_them(data: Path) -> None:
    assert Stream(local=data, proportion=0.25).weight == Weight(proportion=0.25)
