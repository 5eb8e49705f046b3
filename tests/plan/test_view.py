"""An order can be asked: what stands where, what a step has, where a sample is, and whether two orders are one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream.plan.epoch_plan import EpochPlan, WindowedPlan
from arrowstream.plan.fingerprint import order_fingerprint
from arrowstream.plan.laid_out import LaidOutPlan
from arrowstream.plan.mosaic.plan import MosaicPlan
from arrowstream.plan.order import Order
from arrowstream.plan.state import Position
from arrowstream.plan.view import PlanView
from arrowstream.plan.window import Shards, Window
from arrowstream.world import World

SIZES = np.array([20, 30, 0, 50, 3])
NUM_SAMPLES = 103


def windowed(**arguments: object) -> WindowedPlan:
    shards = Shards(num_samples=SIZES, rows_per_batch=np.full(5, 7), num_bytes=SIZES * 10)
    window = Window(unit="record_batch", block_size=16, canonical_nodes=3)
    plan = WindowedPlan(shards=shards, batch_size=4, shuffle=True, seed=5, window=window)
    return replace(plan, **arguments)  # type: ignore[arg-type]


def laid_out(**arguments: object) -> LaidOutPlan:
    settings = {"samples_per_shard": [SIZES], "batch_size": 4, "shuffle": True, "num_canonical_nodes": 2} | arguments
    return LaidOutPlan(plan=MosaicPlan(**settings))  # type: ignore[arg-type]


def read_by_ranks(plan: EpochPlan, world: World, epoch: int) -> list[list[int]]:
    """Give the ids of each step, as the ranks of a job read them."""
    ranks = []
    for rank in range(world.num_ranks):
        ids = np.concatenate(list(plan.sample_ids(replace(world, rank=rank), Position(epoch=epoch, sample=0)))).tolist()
        ranks.append([ids[start : start + 4] for start in range(0, len(ids), 4)])
    return [[number for batch in step for number in batch] for step in zip(*ranks, strict=True)]


SHARD_SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=10)


@given(
    sizes=SHARD_SIZES,
    rows=st.integers(0, 20),
    shuffle=st.booleans(),
    block_size=st.integers(1, 200),
    nodes=st.integers(1, 9),
    epoch=st.integers(0, 2**40),
)
def test_positions_are_found_back(
    sizes: list[int], rows: int, shuffle: bool, block_size: int, nodes: int, epoch: int
) -> None:
    counts = np.array(sizes, np.int64)
    order = Order(
        counts,
        shuffle=shuffle,
        seed=1,
        epoch=epoch,
        block_size=block_size,
        canonical_nodes=nodes,
        rows_per_unit=np.full(len(sizes), rows),
    )
    positions = np.arange(order.num_samples)
    assert order.positions_of(order.samples_at(positions)).tolist() == positions.tolist()


def test_a_sample_among_ten_billion_is_found_at_once() -> None:
    order = Order(np.full(10**6, 10**4), shuffle=True, seed=1, epoch=0)
    positions = np.array([0, 5 * 10**9 + 1, 10**10 - 1])
    assert order.positions_of(order.samples_at(positions)).tolist() == positions.tolist()


@pytest.mark.parametrize("plan", [windowed(), laid_out()], ids=["own", "mosaic"])
@pytest.mark.parametrize(("nodes", "ranks"), [(1, 1), (2, 3), (1, 4)])
def test_a_batch_is_what_the_ranks_read_together(plan: EpochPlan, nodes: int, ranks: int) -> None:
    world = World(num_nodes=nodes, ranks_per_node=ranks)
    view = PlanView(plan, world, 2, 4)
    steps = read_by_ranks(plan, world, 2)
    assert view.num_steps == len(steps)
    assert view.samples_per_step == 4 * nodes * ranks
    for number, ids in enumerate(steps[:-1]):
        assert sorted(view.batch(number).tolist()) == sorted(ids)
    assert set(view.batch(len(steps) - 1).tolist()) <= set(steps[-1])
    whole = np.concatenate([view.batch(step) for step in range(view.num_steps)])
    assert whole.tolist() == view.samples(0, view.num_samples).tolist()


@pytest.mark.parametrize("plan", [windowed(), laid_out()], ids=["own", "mosaic"])
def test_what_each_machine_reads_is_known(plan: EpochPlan) -> None:
    world = World(num_nodes=2, ranks_per_node=2)
    view = PlanView(plan, world, 0, 4)
    steps = read_by_ranks(plan, world, 0)[1:5]
    by_node = view.steps_by_node(1, 5)
    assert by_node.shape == (2, 4 * 8)
    for node in range(2):
        for number, ids in enumerate(steps):  # rank by rank, as they are counted: two a machine
            assert sorted(by_node[node, number * 8 : (number + 1) * 8].tolist()) == sorted(ids[node * 8 : node * 8 + 8])


@pytest.mark.parametrize("plan", [windowed(), laid_out()], ids=["own", "mosaic"])
def test_every_sample_is_where_the_view_says(plan: EpochPlan) -> None:
    view = PlanView(plan, World(), 1, 4)
    order = view.samples(0, view.num_samples).tolist()
    for sample_id in range(NUM_SAMPLES):
        # mosaicml-streaming's partition repeats one, to fill its canonical nodes.
        assert view.where(sample_id).tolist() == [place for place, number in enumerate(order) if number == sample_id]


def test_a_sample_that_is_drawn_twice_stands_at_two_positions_and_one_that_is_not_at_none() -> None:
    view = PlanView(laid_out(epoch_size=150), World(), 0, 4)
    order = view.samples(0, view.num_samples)
    counts = [len(view.where(sample_id)) for sample_id in range(NUM_SAMPLES)]
    assert sum(counts) == len(order)
    assert set(counts) == {1, 2}
    skipping = PlanView(windowed().skipping(((0, 10, 20),)), World(), 0, 4)
    left_out = PlanView(windowed(), World(), 0, 4).samples(10, 20).tolist()
    assert [skipping.where(sample_id).tolist() for sample_id in left_out] == [[]] * 10
    assert skipping.where(int(skipping.samples(10, 11)[0])).tolist() == [10]


@settings(max_examples=40)
@given(step=st.integers(0, 25), known=st.integers(0, 25))
def test_a_fingerprint_goes_on_from_an_earlier_one(step: int, known: int) -> None:
    view = PlanView(windowed(), World(), 0, 4)
    if known > step:
        with pytest.raises(ValueError, match=f"step {known} is known"):
            view.fingerprint(step, (known, view.fingerprint(known)))
        return
    assert view.fingerprint(step, (known, view.fingerprint(known))) == view.fingerprint(step)


def test_jobs_of_other_shapes_have_the_same_fingerprint() -> None:
    shapes = [(World(), 24), (World(num_nodes=2, ranks_per_node=3), 4), (World(ranks_per_node=4), 6)]
    views = [PlanView(windowed(batch_size=batch), world, 0, batch) for world, batch in shapes]
    assert len({view.fingerprint(2) for view in views}) == 1


def test_every_change_of_the_order_changes_the_fingerprint() -> None:
    plans: list[EpochPlan] = [windowed(), windowed(seed=6), windowed().skipping(((0, 0, 4),)), laid_out()]
    prints = [PlanView(plan, World(), epoch, 4).fingerprint(20) for plan in plans for epoch in range(2)]
    # What is left out of epoch 0 leaves epoch 1 as it was.
    assert len(set(prints)) == len(prints) - 1
    assert prints[1] == prints[5]
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in prints)


@given(ids=st.lists(st.integers(0, 2**62), min_size=2, max_size=40, unique=True), data=st.data())
def test_ranks_may_add_up_what_they_read(ids: list[int], data: st.DataObject) -> None:
    positions, numbers = np.arange(len(ids)), np.array(ids)
    whole = order_fingerprint(positions, numbers)
    lanes = data.draw(st.integers(1, 5))
    parts = [order_fingerprint(positions[lane::lanes], numbers[lane::lanes]) for lane in range(lanes)]
    assert sum(parts) % 2**64 == whole
    one, other = data.draw(st.permutations(range(len(ids))))[:2]
    swapped = numbers.copy()
    swapped[[one, other]] = swapped[[other, one]]
    assert order_fingerprint(positions, swapped) != whole


def test_what_is_not_there_is_refused() -> None:
    view = PlanView(windowed(), World(), 0, 4)
    for step in (-1, 26):
        with pytest.raises(IndexError, match=f"step {step} of an epoch of 26 steps"):
            view.batch(step)
        with pytest.raises(IndexError, match=f"step {step}"):
            view.fingerprint(step)
    for start, stop in ((-1, 2), (100, 104), (3, 2)):
        with pytest.raises(IndexError, match=f"positions {start} to {stop} of an epoch of 103"):
            view.samples(start, stop)
    with pytest.raises(IndexError, match="full steps 20 to 26 of an epoch of 25"):
        view.steps_by_node(20, 26)
    with pytest.raises(ValueError, match="Please pass `batch_size`"):
        PlanView(windowed(), World(), 0, None).batch(0)
    with pytest.raises(ValueError, match="epoch is -1"):
        PlanView(windowed(), World(), -1, 4)
