"""An epoch may be left anywhere by any job and gone on with by any other: nothing is lost, nothing comes twice."""

import json
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from arrowstream.plan.epoch_plan import WindowedPlan
from arrowstream.plan.partition import TAILS
from arrowstream.plan.skips import Skip, Skips
from arrowstream.plan.state import Position, read_state, write_state
from arrowstream.plan.window import SHUFFLE_UNITS, Shards, Window
from arrowstream.world import World


@dataclass(frozen=True)
class Job:
    nodes: int
    ranks_per_node: int
    workers: int
    batch_size: int

    @property
    def step(self) -> int:
        return self.nodes * self.ranks_per_node * self.batch_size


JOBS = st.builds(
    Job,
    nodes=st.integers(1, 3),
    ranks_per_node=st.integers(1, 3),
    workers=st.integers(1, 3),
    batch_size=st.integers(1, 5),
)


@st.composite
def plans(draw: st.DrawFn) -> WindowedPlan:
    """Make plans of every tail, of shards and of record batches, with and without skipped positions."""
    sizes = np.array(draw(st.lists(st.integers(0, 30), min_size=1, max_size=6)), np.int64)
    rows = np.array(draw(st.lists(st.integers(0, 7), min_size=len(sizes), max_size=len(sizes))), np.int64)
    plan = WindowedPlan(
        shards=Shards(num_samples=sizes, rows_per_batch=rows, num_bytes=sizes * 10),
        batch_size=1,
        shuffle=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32)),
        window=Window(
            unit=draw(st.sampled_from(SHUFFLE_UNITS)),
            block_size=draw(st.integers(1, 60)),
            canonical_nodes=draw(st.integers(1, 5)),
        ),
        tail=draw(st.sampled_from(TAILS)),
    )
    if plan.epoch_size > 4 and draw(st.booleans()):
        cut = sorted(draw(st.tuples(*[st.integers(0, plan.epoch_size)] * 2)))
        if cut[0] < cut[1]:
            plan = plan.skipping(((1, cut[0], cut[1]),))
    return plan


def train(plan: WindowedPlan, job: Job, position: Position) -> tuple[list[list[int]], list[list[int]]]:
    """Give the ids of each step of a job, as its training loop sees them, and those of them that are marked as padding.

    Each rank takes one batch of each of its workers in turn, as a loader does.
    """
    plan = replace(plan, batch_size=job.batch_size)
    by_rank = []
    for rank in range(job.nodes * job.ranks_per_node):
        world = World(num_nodes=job.nodes, ranks_per_node=job.ranks_per_node, rank=rank)
        queues = []
        for worker in range(job.workers):
            own = world.with_worker(worker, job.workers)
            ids = np.concatenate([np.empty(0, np.int64), *plan.sample_ids(own, position)]).tolist()
            padding = plan.padding_at(own, position)
            marked = [(number, place == padding) for place, number in enumerate(ids)]
            assert padding is None or padding < len(ids)
            queues.append([marked[start : start + job.batch_size] for start in range(0, len(marked), job.batch_size)])
        turns = range(max(map(len, queues)))
        batches = [queue[turn] for turn in turns for queue in queues if turn < len(queue)]
        assert sum(map(len, batches)) == plan.rank_samples(world, position)
        by_rank.append(batches)
    steps = [[sample for batch in step for sample in batch] for step in zip(*by_rank, strict=True)]
    return [[number for number, _ in step] for step in steps], [
        [number for number, pad in step if pad] for step in steps
    ]


def fits(plan: WindowedPlan, job: Job, left: int) -> bool:
    return plan.tail != "drop" or left >= job.step


def assert_steps_follow(order: list[int], job: Job, steps: list[list[int]]) -> None:
    """Hold all steps but the last, which may be short or repeat some, to the order."""
    for number, ids in enumerate(steps[:-1]):
        assert Counter(ids) == Counter(order[number * job.step : (number + 1) * job.step])


@settings(max_examples=1400, deadline=None)
@given(plan=plans(), first=JOBS, second=JOBS, data=st.data())
def test_nothing_is_lost_and_nothing_comes_twice(
    plan: WindowedPlan, first: Job, second: Job, data: st.DataObject
) -> None:
    epoch = 1
    order = plan.ids_at(World(), epoch, np.arange(plan.num_positions(World(), epoch), dtype=np.int64)).tolist()
    assert len(set(order)) == len(order)
    if not order or not fits(plan, first, len(order)) or not fits(plan, second, len(order)):
        event("too few samples")
        return
    whole, _ = train(plan, first, Position(epoch=epoch, sample=0))
    assert_steps_follow(order, first, whole)
    # A job of the first kind stops after any of its steps but the last, with which the epoch is over.
    stop = data.draw(st.integers(0, len(whole) - 1), label="steps before the checkpoint")
    before = [number for ids in whole[:stop] for number in ids]
    state = json.loads(json.dumps(write_state(Position(epoch=epoch, sample=len(before)), plan.settings(World()))))
    position = read_state(state, plan.settings(World()), strict=True)
    assert Counter(before) == Counter(order[: position.sample])
    steps, padding = train(plan, second, position)
    rest = order[position.sample :]
    assert_steps_follow(rest, second, steps)
    after = Counter(number for ids in steps for number in ids)
    marked = Counter(number for ids in padding for number in ids)
    event(f"resumed with {plan.tail}")
    if plan.tail == "drop":
        assert after == Counter(rest[: len(rest) // second.step * second.step])
        return
    # The ranks even out with samples from the front of the epoch, less than one for each.
    ranks = second.nodes * second.ranks_per_node
    repeated = Counter((order * ranks)[: -len(rest) % ranks])
    assert after == Counter(rest) + repeated
    assert marked == (repeated if plan.tail == "pad" else Counter())


SKIPS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=5)


@given(num_samples=st.integers(1, 60), skips=SKIPS)
def test_what_is_skipped_closes_up(num_samples: int, skips: list[tuple[int, int]]) -> None:
    left = list(range(num_samples))
    found = Skips()
    for start, length in skips:
        stop = min(start + length, len(left))
        if start >= stop:
            continue
        found = found.adding(start, stop)
        del left[start:stop]
    assert num_samples - found.num_samples == len(left)
    assert found.full(np.arange(len(left))).tolist() == left
    assert found.short(np.arange(num_samples)).tolist() == list(range(len(left)))
    borders = [border for run in found.runs for border in run]
    assert borders == sorted(set(borders))


def test_epochs_skip_each_their_own() -> None:
    skipped: tuple[Skip, ...] = ((2, 5, 7), (0, 1, 2), (2, 0, 3))
    assert Skips.of_epoch(skipped, 2).runs == ((0, 3), (5, 7))
    assert Skips.of_epoch(skipped, 1).runs == ()
