"""Mixtures in training: through loaders, over changes of shares, and from checkpoint to checkpoint."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from arrowstream import Stream, StreamingDataset
from arrowstream.errors import StateMismatchError
from tests.reading.datasets import write_samples

SIZES = {0: 60, 1: 25, 2: 7}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("mixing")
    return [write_samples(root / str(stream), size, first=1000 * stream) for stream, size in SIZES.items()]


def make(data: list[Path], **arguments: Any) -> StreamingDataset:
    streams = [Stream(local=place) for place in data]
    return StreamingDataset(
        streams=streams, **{"shuffle": True, "batch_size": 8, "shuffle_block_size": 64, **arguments}
    )


def collate(samples: list[dict[str, Any]]) -> list[int]:
    return [sample["id"] for sample in samples]


def batches(dataset: StreamingDataset, workers: int) -> list[list[int]]:
    assert dataset.batch_size is not None
    return list(DataLoader(dataset, batch_size=dataset.batch_size, num_workers=workers, collate_fn=collate))


def flat(parts: list[list[int]]) -> list[int]:
    return [number for part in parts for number in part]


def passes(ids: list[int], stream: int) -> list[list[int]]:
    """Cut what was read of a stream where each of its passes ends."""
    own = [number for number in ids if number // 1000 == stream]
    return [own[start : start + SIZES[stream]] for start in range(0, len(own), SIZES[stream])]


def assert_nothing_is_repeated_or_left_out(ids: list[int]) -> None:
    for stream, size in SIZES.items():
        every = set(range(1000 * stream, 1000 * stream + size))
        *whole, last = passes(ids, stream)
        assert all(set(each) == every for each in whole)
        assert len(set(last)) == len(last)
        assert set(last) <= every


@pytest.mark.parametrize("workers", [0, 2])
def test_every_prefix_has_the_shares(data: list[Path], workers: int) -> None:
    places = zip(data, [0.5, 0.3, 0.2], strict=True)
    streams = [Stream(local=place, proportion=share) for place, share in places]
    dataset = StreamingDataset(streams=streams, mixing="even", epoch_size=80, batch_size=8, shuffle=True)
    assert len(dataset) == 80
    ids = []
    for _ in range(3):
        ids += flat(batches(dataset, workers))
    assert len(ids) == 240
    for length in range(1, len(ids) + 1):
        counts = Counter(number // 1000 for number in ids[:length])
        for stream, share in enumerate([5, 3, 2]):
            assert abs(10 * counts[stream] - length * share) < 10
    assert_nothing_is_repeated_or_left_out(ids)


def test_without_weights_every_epoch_is_one_pass(data: list[Path]) -> None:
    dataset = make(data, mixing="even")
    first, second = flat(batches(dataset, 0)), flat(batches(dataset, 2))
    assert len(first) == len(set(first)) == sum(SIZES.values())
    assert set(first) == set(second)
    assert first != second


def test_shares_change_at_resumes_and_nothing_is_repeated_or_left_out(data: list[Path]) -> None:
    schedule: list[tuple[int, list[float]]] = [(0, [0.7, 0.2, 0.1])]
    changes = [(40, [1, 1, 1]), (136, [0, 1, 3])]
    jobs = [(8, 2), (4, 0), (8, 2)]  # batch size and workers of each part of the run
    ids: list[int] = []
    state: dict[str, Any] | None = None
    for (batch_size, workers), stop in zip(jobs, [40, 136, 200], strict=True):
        dataset = make(data, mixing_schedule=schedule, epoch_size=100, batch_size=batch_size)
        if state is not None:
            dataset.load_state_dict(state)
        while len(ids) < stop:
            seen = len(ids) % 100
            delivered = iter(DataLoader(dataset, batch_size=batch_size, num_workers=workers, collate_fn=collate))
            left = min(stop - len(ids), 100 - seen)
            found: list[int] = []
            while len(found) < left:
                found += next(delivered)
            assert len(found) == left  # a multiple of the batch, or the end of the epoch
            ids += found
            del delivered
        state = json.loads(json.dumps(dataset.state_dict(len(ids) % 100 or 100)))
        if changes:
            schedule.append(changes.pop(0))
    # One job that knew the whole schedule from the beginning reads the same.
    whole = make(data, mixing_schedule=schedule, epoch_size=100)
    assert ids == flat(batches(whole, 0)) + flat(batches(whole, 2))
    assert_nothing_is_repeated_or_left_out(ids)
    for (start, shares), stop in zip(schedule, [40, 136, 200], strict=True):
        for length in range(1, stop - start + 1):
            counts = Counter(number // 1000 for number in ids[start : start + length])
            for stream, share in enumerate(shares):
                assert abs(counts[stream] - length * share / sum(shares)) < 1


@pytest.mark.parametrize("stop", [0, 1, 30, 99])
def test_it_goes_on_from_every_sample(data: list[Path], stop: int) -> None:
    arguments: dict[str, Any] = {"mixing_schedule": [(0, [1, 2, 1]), (130, [4, 1, 1])], "epoch_size": 100}
    whole = make(data, **arguments)
    epochs = [flat(batches(whole, 0)) for _ in range(3)]
    dataset = make(data, **arguments)
    dataset.next_epoch = 1
    iterator = iter(dataset)
    before = [next(iterator)["id"] for _ in range(stop)]
    again = make(data, **arguments)
    again.load_state_dict(dataset.state_dict())
    again = pickle.loads(pickle.dumps(again))
    assert before + flat(batches(again, 2)) == epochs[1]
    assert flat(batches(again, 0)) == epochs[2]


def test_a_schedule_that_changes_what_was_read_is_refused(data: list[Path]) -> None:
    state = make(data, mixing_schedule=[(0, [1, 1, 1])]).state_dict(40)
    changed = make(data, mixing_schedule=[(0, [1, 1, 1]), (32, [1, 2, 1])])
    with pytest.raises(StateMismatchError, match=r"mixing: \[\[0, \[1, 1, 1\]\]\] in the state, .*\[32, \[1, 2, 1\]\]"):
        changed.load_state_dict(state)
    changed.load_state_dict(state, strict=False)
    assert len(flat(batches(changed, 0))) == sum(SIZES.values()) - 40


def test_weights_of_an_earlier_job_may_begin_a_schedule(data: list[Path]) -> None:
    streams = [Stream(local=place, proportion=share) for place, share in zip(data, [0.5, 0.3, 0.2], strict=True)]
    first = StreamingDataset(streams=streams, mixing="even", epoch_size=100, shuffle=True, shuffle_block_size=64)
    second = make(data, mixing_schedule=[(0, [0.5, 0.3, 0.2]), (40, [1, 1, 1])], epoch_size=100)
    second.load_state_dict(first.state_dict(40))
    before = [sample["id"] for sample in first][:40]
    assert_nothing_is_repeated_or_left_out(before + flat(batches(second, 0)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mixing": "random"}, "mixing is 'random', expected one of even, or None"),
        ({"mixing": "random", "mixing_schedule": [(0, [1, 1, 1])]}, "mixing is 'random'"),
        (
            {"mixing": "even", "shuffle_algo": "py1e"},
            "shuffle_algo is 'py1e', but mixing='even' has an order of its own",
        ),
        ({"mixing": "even", "batching_method": "per_stream"}, "batching_method is 'per_stream', but"),
        ({"mixing": "even", "shuffle_unit": "shard"}, "shuffle_unit is 'shard', but"),
        ({"mixing": "even", "sampling_method": "fixed"}, "sampling_method is 'fixed', but"),
        ({"mixing": "even", "sampling_granularity": 4}, "sampling_granularity is 4, but"),
        ({"mixing": "even", "partition_algo": "orig"}, "partition_algo is 'orig', but"),
        ({"mixing_schedule": [(0, [1, 1])]}, "expected 3, one a stream"),
        ({"mixing_schedule": [(10, [1, 1, 1])]}, "the first has to begin at 0"),
        ({"mixing_schedule": [(0, [1, 1, float("nan")])]}, "nan is none"),
        ({"mixing_schedule": [(0, [1, 1, 1])], "shuffle_algo": "naive"}, "shuffle_algo is 'naive', but"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make([tmp_path / str(stream) for stream in SIZES], **arguments)


@pytest.mark.parametrize("weight", [{"proportion": 1}, {"repeat": 1}, {"choose": 1}])
def test_shares_are_said_in_one_place(tmp_path: Path, weight: dict[str, int]) -> None:
    streams = [Stream(local=tmp_path), Stream(local=tmp_path, **weight)]
    with pytest.raises(ValueError, match="stream 1 has a proportion, repeat or choose as well"):
        StreamingDataset(streams=streams, mixing_schedule=[(0, [1, 1])])
