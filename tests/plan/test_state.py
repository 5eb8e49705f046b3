"""A checkpoint says where an epoch stands, and is held to what it says."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.errors import StateMismatchError
from arrowstream.plan.partition import worker_positions
from arrowstream.plan.state import Position, read_state, write_state
from arrowstream.world import World

PLAN = {"data": "0f", "num_samples": 100, "shuffle": True, "shuffle_seed": 7, "num_canonical_nodes": 4}
WORLDS = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5))


def steps(num_samples: int, start: int, nodes: int, ranks: int, workers: int, batch: int) -> list[list[int]]:
    """Give the positions of each step of a job, ranks and workers taken together as a training loop sees them."""
    by_rank = []
    for rank in range(nodes * ranks):
        world = World(num_nodes=nodes, ranks_per_node=ranks, rank=rank)
        queues = []
        for worker in range(workers):
            chunks = worker_positions(num_samples, world.with_worker(worker, workers), batch, 7, start=start)
            positions = np.concatenate([np.empty(0, np.int64), *chunks]).tolist()
            queues.append([positions[first : first + batch] for first in range(0, len(positions), batch)])
        longest = max(map(len, queues))
        by_rank.append([queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)])
    assert len({len(batches) for batches in by_rank}) == 1
    return [[position for batch in step for position in batch] for step in zip(*by_rank, strict=True)]


@given(num_samples=st.integers(1, 120), first=WORLDS, second=WORLDS, stop=st.integers(0, 20))
def test_a_job_of_any_shape_goes_on_where_another_stopped(
    num_samples: int, first: tuple[int, int, int, int], second: tuple[int, int, int, int], stop: int
) -> None:
    before = [position for step in steps(num_samples, 0, *first)[:stop] for position in step]
    if len(before) >= num_samples:
        return  # the epoch is over
    after = [position for step in steps(num_samples, len(before), *second) for position in step]
    assert sorted(before) == list(range(len(before)))
    rest = range(len(before), num_samples)
    seen = Counter(after)
    assert all(seen[position] >= 1 for position in rest)
    # Beyond the last position some are repeated, from the front of the epoch, so that all ranks take as many.
    repeated = sum(seen.values()) - len(rest)
    assert repeated == -len(rest) % (second[0] * second[1])
    assert all(position in rest or position < repeated for position in seen)


@given(epoch=st.integers(0, 2**40), sample=st.integers(0, 100))
def test_a_state_survives_json(epoch: int, sample: int) -> None:
    state = json.loads(json.dumps(write_state(Position(epoch=epoch, sample=sample), PLAN)))
    assert read_state(state, PLAN, strict=True) == Position(epoch=epoch, sample=sample)


@pytest.mark.parametrize("name", PLAN)
def test_every_difference_is_listed(name: str) -> None:
    other = {**PLAN, name: "other"}
    with pytest.raises(StateMismatchError, match=rf"{name}: {PLAN[name]!r} in the state, 'other' here.*strict=False"):
        read_state(write_state(Position(epoch=1, sample=2), PLAN), other, strict=True)


def test_a_difference_may_be_accepted() -> None:
    state = write_state(Position(epoch=1, sample=2), PLAN)
    assert read_state(state, {**PLAN, "shuffle_seed": 8}, strict=False) == Position(epoch=1, sample=2)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"epoch": 1},
        {"epoch": "1", "sample_in_epoch": 2},
        {"epoch": 1, "sample_in_epoch": -2},
        {"epoch": 1, "sample_in_epoch": 2, "version": 99},
    ],
)
def test_what_is_no_state_is_refused_even_when_differences_are_accepted(state: dict[str, Any]) -> None:
    with pytest.raises(StateMismatchError):
        read_state(state, PLAN, strict=False)


def test_a_state_of_mosaicml_streaming_has_a_position() -> None:
    state = {
        "epoch": -1,
        "sample_in_epoch": 0,
        "num_canonical_nodes": 2,
        "shuffle_seed": 7,
        "initial_physical_nodes": 1,
    }
    assert read_state(state, PLAN, strict=True) == Position(epoch=0, sample=0)


def test_the_state_of_a_worker_is_that_workers() -> None:
    state = write_state(Position(epoch=1, sample=2, skipped=3), PLAN, (0, 2))
    assert read_state(state, PLAN, strict=True, worker=(0, 2)) == Position(epoch=1, sample=2, skipped=3)
    for other in (None, (1, 2), (0, 3)):
        with pytest.raises(StateMismatchError, match="worker 0 of 2"):
            read_state(state, PLAN, strict=True, worker=other)
