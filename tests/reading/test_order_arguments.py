"""What a dataset can be told of its order: its place, its tail, its units, and steps to leave out."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.errors import StateMismatchError
from arrowstream.padding import PADDING
from tests.reading.datasets import ids, write_samples

NUM_SAMPLES = 103


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("order"), NUM_SAMPLES)


def make(data: Path, **arguments: Any) -> StreamingDataset:
    return StreamingDataset(**{"local": data, "shuffle": True, "batch_size": 8, **arguments})


def collate(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return samples


def load(dataset: StreamingDataset, workers: int = 0, **arguments: Any) -> list[list[dict[str, Any]]]:
    assert dataset.batch_size is not None
    return list(
        DataLoader(dataset, batch_size=dataset.batch_size, num_workers=workers, collate_fn=collate, **arguments)
    )


def numbers(batches: list[list[dict[str, Any]]]) -> list[list[int]]:
    return [[sample["id"] for sample in batch] for batch in batches]


def of_ranks(data: Path, num_ranks: int, workers: int = 0, **arguments: Any) -> list[list[list[dict[str, Any]]]]:
    return [load(make(data, rank=rank, world_size=num_ranks, **arguments), workers) for rank in range(num_ranks)]


# Place ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_rank_that_is_given_reads_its_share(data: Path, workers: int) -> None:
    found = of_ranks(data, 4, workers, batch_size=2)
    assert {number for rank in found for batch in numbers(rank) for number in batch} == set(range(NUM_SAMPLES))
    view = make(data).plan(0)
    steps = [sorted(number for batch in step for number in batch) for step in zip(*map(numbers, found), strict=True)]
    assert steps[:-1] == [sorted(view.batch(step).tolist()) for step in range(view.num_steps - 1)]


def test_a_rank_that_is_given_comes_before_the_launcher(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    dataset = make(data, rank=2, world_size=4)
    again = pickle.loads(pickle.dumps(dataset))
    assert (len(dataset), len(again)) == (26, 26)
    assert ids(again) == ids(dataset)


@pytest.mark.parametrize("shuffle_algo", [None, "py1e"])
def test_replicas_read_the_same(data: Path, monkeypatch: pytest.MonkeyPatch, shuffle_algo: str | None) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    found = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        dataset = make(data, replication=2, shuffle_algo=shuffle_algo)
        assert len(dataset) == 52
        found.append(numbers(load(dataset, 1)))
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert {number for rank in found for batch in rank for number in batch} == set(range(NUM_SAMPLES))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"rank": 0}, "rank is 0 and world_size is None; give both or neither"),
        ({"world_size": 2}, "give both or neither"),
        ({"rank": 2, "world_size": 2}, "rank is 2 of 2"),
        ({"rank": -1, "world_size": 2}, "rank is -1 of 2"),
        ({"rank": 0, "world_size": 0}, "rank is 0 of 0"),
        ({"tail": "trim"}, "tail is 'trim', expected one of 'repeat', 'drop', 'pad'"),
        ({"shuffle_unit": "row"}, "shuffle_unit is 'row', expected one of 'shard', 'record_batch'"),
        ({"shuffle_budget": "2gb", "shuffle_block_size": 9}, "give one of the two"),
        ({"shuffle_budget": "2 bananas"}, "'2 bananas' is not a size"),
        ({"shuffle_seed": -1}, "shuffle_seed is -1; expected at least 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(data: Path, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make(data, **arguments)


@pytest.mark.parametrize("arguments", [{"tail": "drop"}, {"shuffle_unit": "shard"}, {"shuffle_budget": "1gb"}])
def test_the_orders_of_mosaicml_streaming_take_none_of_it(data: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}=.* is not for the orders of mosaicml-streaming"):
        len(make(data, shuffle_algo="py1e", **arguments))


def test_a_replication_that_does_not_divide_the_ranks_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="World size must be divisible by your replication factor: 3 ranks, 2 alike"):
        len(make(data, rank=0, world_size=3, replication=2))


# Tail ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_padding_is_marked_so_that_each_sample_counts_once(data: Path, workers: int) -> None:
    ranks = of_ranks(data, 4, workers, tail="pad", batch_size=5)
    assert {len(rank) for rank in ranks} == {6}
    samples = [sample for rank in ranks for batch in rank for sample in batch]
    assert len(samples) == 104
    assert sorted(sample["id"] for sample in samples if not sample[PADDING]) == list(range(NUM_SAMPLES))
    repeated = [rank[-1][-1] for rank in ranks if rank[-1][-1][PADDING]]
    assert len(repeated) == 1
    assert repeated[0]["id"] == make(data).plan(0).samples(0, 1)[0]


def test_padding_is_marked_after_a_resume_too(data: Path) -> None:
    state = make(data, tail="pad").state_dict(40)
    found = []
    for rank in range(4):
        dataset = make(data, tail="pad", rank=rank, world_size=4, batch_size=3)
        dataset.load_state_dict(state)
        found += [sample for batch in load(dataset, 2) for sample in batch]
    rest = make(data).plan(0).samples(40, NUM_SAMPLES)
    assert sorted(sample["id"] for sample in found if not sample[PADDING]) == sorted(rest.tolist())
    assert sum(sample[PADDING] for sample in found) == 1


def test_dropping_leaves_full_steps_alone(data: Path) -> None:
    ranks = of_ranks(data, 4, 2, tail="drop", batch_size=5)
    assert [[len(batch) for batch in rank] for rank in ranks] == [[5] * 5] * 4
    read = [number for rank in ranks for batch in numbers(rank) for number in batch]
    assert sorted(read) == sorted(make(data).plan(0).samples(0, 100).tolist())
    assert len(make(data, tail="drop", rank=1, world_size=4, batch_size=5)) == 25
    assert len(make(data, tail="drop", rank=1, world_size=4, batch_size=None)) == 25


def test_an_epoch_with_a_dropped_tail_ends_before_it(data: Path) -> None:
    dataset = make(data, tail="drop")
    first, second = load(dataset), load(dataset)
    assert len(first) == 12
    state = make(data, tail="drop").state_dict(96)
    assert (state["epoch"], state["sample_in_epoch"]) == (1, 0)
    by_hand = {**state, "epoch": 0, "sample_in_epoch": 96}
    for resumed in (state, by_hand):
        again = make(data, tail="drop")
        again.load_state_dict(resumed)
        assert numbers(load(again)) == numbers(second)


def test_dropping_everything_is_an_error(data: Path) -> None:
    dataset = make(data, tail="drop", rank=0, world_size=16)
    for ask in (lambda: len(dataset), lambda: next(iter(dataset)), lambda: dataset.plan(0).num_steps):
        with pytest.raises(
            ValueError, match="tail='drop' leaves nothing of an epoch: 103 samples do not fill a step of 16"
        ):
            ask()


def test_fewer_samples_than_ranks_are_repeated_and_marked(tmp_path: Path) -> None:
    few = write_samples(tmp_path / "few", 3)
    found = [sample for rank in of_ranks(few, 8, tail="pad") for batch in rank for sample in batch]
    assert len(found) == 8
    assert sorted(sample["id"] for sample in found if not sample[PADDING]) == [0, 1, 2]


@pytest.mark.parametrize("tail", ["repeat", "drop", "pad"])
def test_no_samples_are_an_empty_epoch(tmp_path: Path, tail: str) -> None:
    with MDSWriter(out=tmp_path / "none", columns={"id": "int"}):
        pass
    dataset = make(tmp_path / "none", tail=tail)
    assert len(dataset) == 0
    assert list(dataset) == []
    assert dataset.plan(0).num_steps == 0
    assert dataset.plan(0).samples(0, 0).tolist() == []


class Tuples(StreamingDataset):
    def __getitem__(self, key: Any) -> Any:
        return tuple(super().__getitem__(key).values())


def test_samples_that_cannot_be_marked_are_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"__getitem__ gave a tuple; give a dictionary"):
        next(iter(Tuples(local=data, tail="pad")))
    with MDSWriter(out=tmp_path, columns={PADDING: "int"}) as writer:
        writer.write({PADDING: 1})
    with pytest.raises(ValueError, match="which is a column of the data"):
        next(iter(StreamingDataset(local=tmp_path, tail="pad")))


# Units ---------------------------------------------------------------------------------------------------------------


def test_record_batches_may_be_what_is_shuffled(tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path, columns={"id": "int", "x": "bytes"}, size_limit=1 << 23) as writer:
        for number in range(400):
            writer.write({"id": number, "x": b"x" * 50_000})
    dataset = make(tmp_path, shuffle_budget="6mb")
    settings = dataset.plan(0).settings
    assert (settings["shuffle_unit"], settings["shuffle_block_size"]) == ("record_batch", pytest.approx(42, abs=15))
    assert sorted(ids(dataset)) == list(range(400))
    with pytest.raises(StateMismatchError, match="shuffle_unit: 'record_batch' in the state, 'shard' here"):
        make(tmp_path).load_state_dict(dataset.state_dict(8))


# Steps to leave out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle_algo", [None, "py1e"])
def test_steps_can_be_left_out(data: Path, workers: int, shuffle_algo: str | None) -> None:
    whole = make(data, shuffle_algo=shuffle_algo)
    epochs = [numbers(load(whole)) for _ in range(2)]
    dataset = make(data, shuffle_algo=shuffle_algo)
    dataset.skip_steps(3, 5)
    dataset.skip_steps(7, 8)  # as they are counted now: the tenth of the whole epoch
    assert numbers(load(dataset, workers)) == [*epochs[0][:3], *epochs[0][5:9], *epochs[0][10:]]
    assert numbers(load(dataset, workers)) == epochs[1]


def test_workers_that_persist_hear_of_it(data: Path) -> None:
    epochs = make(data)
    expected = [numbers(load(epochs)) for _ in range(2)]
    dataset = make(data)
    loader = DataLoader(dataset, batch_size=8, num_workers=2, collate_fn=collate, persistent_workers=True)
    assert numbers(list(loader)) == expected[0]
    dataset.skip_steps(0, 2)
    assert numbers(list(loader)) == expected[1][2:]


@pytest.mark.parametrize("stop", [0, 2, 3, 8, 11])
def test_a_state_says_what_is_left_out(data: Path, stop: int) -> None:
    dataset = make(data)
    dataset.skip_steps(2, 4)
    dataset.skip_steps(1, 3, epoch=1)
    state = json.loads(json.dumps(dataset.state_dict(stop * 8)))
    whole = [numbers(load(dataset)) for _ in range(2)]
    for workers in (0, 2):
        again = make(data)
        again.load_state_dict(state)
        if state["epoch"] == 0:
            assert numbers(load(again, workers)) == whole[0][stop:]
        assert numbers(load(again, workers)) == whole[1]
    copied = copy.deepcopy(dataset)
    copied.next_epoch = 1
    assert numbers(load(copied)) == whole[1]


def test_steps_are_left_out_of_what_goes_on_after_a_resume(data: Path) -> None:
    whole = numbers(load(make(data)))
    again = make(data)
    again.load_state_dict(make(data).state_dict(5 * 8))
    with pytest.raises(
        ValueError, match="step 4 of epoch 0 has been read; the dataset goes on with sample 40 of epoch 0"
    ):
        again.skip_steps(4, 7)
    again.skip_steps(5, 7)
    assert numbers(load(again)) == whole[7:]


def test_what_is_left_out_is_as_exact_for_another_job(data: Path) -> None:
    first = make(data)
    first.skip_steps(2, 4)
    rest = first.plan(0).samples(40, NUM_SAMPLES - 16).tolist()
    state = first.state_dict(40)
    found = []
    for rank in range(3):
        dataset = make(data, rank=rank, world_size=3, batch_size=5, tail="repeat")
        dataset.load_state_dict(state)
        found += [number for batch in numbers(load(dataset, 1)) for number in batch]
    # 47 are left for 3 ranks, so that the last of them repeats what the epoch began with.
    assert sorted(found) == sorted([*rest, *first.plan(0).samples(0, 1).tolist()])


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ({"start": 3, "stop": 3}, "no steps from 3 to 3 in an epoch of 13"),
        ({"start": 13, "stop": 14}, "no steps from 13 to 14"),
        ({"start": -1, "stop": 2}, "step -1 of epoch 1 has been read"),
        ({"start": 0, "stop": 2, "epoch": 0}, "step 0 of epoch 0 has been read"),
        ({"start": 0, "stop": 2, "epoch": -1}, "epoch is -1"),
    ],
)
def test_steps_that_are_not_there_cannot_be_left_out(data: Path, steps: dict[str, int], named: str) -> None:
    dataset = make(data)
    list(dataset)
    with pytest.raises(ValueError, match=named):
        dataset.skip_steps(**steps)


def test_an_order_of_mosaicml_streaming_leaves_out_whole_steps_alone(data: Path) -> None:
    dataset = make(data, shuffle_algo="py1e")
    dataset.skip_steps(3, 5)
    state = dataset.state_dict(8)
    other = make(data, shuffle_algo="py1e", batch_size=7)
    other.load_state_dict(state)
    with pytest.raises(ValueError, match="positions 24 to 40 of the epoch are to be skipped, but the steps of 7"):
        list(other)


def test_without_a_batch_size_there_are_no_steps(data: Path) -> None:
    dataset = make(data, batch_size=None)
    with pytest.raises(ValueError, match="Please pass `batch_size`"):
        dataset.skip_steps(0, 1)
    assert sorted(dataset.plan(0).samples(0, NUM_SAMPLES).tolist()) == list(range(NUM_SAMPLES))


def test_too_many_runs_to_leave_out_are_refused(tmp_path: Path) -> None:
    many = write_samples(tmp_path / "many", 300)
    dataset = make(many, batch_size=1)
    for number in range(128):
        dataset.skip_steps(number + 1, number + 2)
    with pytest.raises(ValueError, match="129 runs of positions are to be skipped; at most 128"):
        dataset.skip_steps(129, 130)
    assert len(dataset.plan(0).samples(0, 172)) == 172


# States --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": 2}, "version 2; this release reads version 1: it was written by a later one"),
        ({"sample_in_epoch": 104}, "at sample 104 of an epoch that has 103"),
        ({"sample_in_epoch": -1}, "no state of a dataset"),
        ({"epoch": -2}, "no state of a dataset: epoch is -2"),
        ({"epoch": True}, "no state of a dataset: epoch is True"),
        ({"epoch": None}, "no state of a dataset"),
        ({"skipped": [[0, 5, 5]]}, "no state of a dataset: skipped is"),
        ({"skipped": [[0, 5]]}, "no state of a dataset: skipped is"),
        ({"skipped": 7}, "no state of a dataset: skipped is 7"),
        ({"tail": "drop"}, "tail: 'drop' in the state, 'repeat' here"),
        ({"num_samples": 9}, "num_samples: 9 in the state, 103 here"),
    ],
)
def test_states_that_cannot_be_are_refused(data: Path, change: dict[str, Any], named: str) -> None:
    state = {**make(data).state_dict(8), **change}
    dataset = make(data)
    with pytest.raises(StateMismatchError, match=named):
        dataset.load_state_dict(state)
    assert dataset.next_epoch == 0
    assert len(list(dataset)) == NUM_SAMPLES


def test_a_state_from_before_there_were_tails_and_units_is_read(data: Path) -> None:
    state = {name: value for name, value in make(data).state_dict(8).items() if name not in ("tail", "shuffle_unit")}
    dataset = make(data)
    dataset.load_state_dict(state)
    assert ids(dataset) == make(data).plan(0).samples(8, NUM_SAMPLES).tolist()


def test_of_another_order_nothing_is_left_out(data: Path) -> None:
    first = make(data)
    first.skip_steps(2, 4)
    other = make(data, shuffle_seed=1)
    other.load_state_dict(first.state_dict(8), strict=False)
    assert np.array_equal(ids(other), make(data, shuffle_seed=1).plan(0).samples(8, NUM_SAMPLES))
