"""A mixture's order: every stream goes through whole passes, whatever jobs, epochs, shares and resumes lie between."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arrowstream.errors import StateMismatchError
from arrowstream.plan.epoch_plan import WindowedPlan
from arrowstream.plan.mixed_plan import MixedPlan, mix_evenly
from arrowstream.plan.mosaic.weights import Weight
from arrowstream.plan.schedule import Schedule
from arrowstream.plan.state import Position, read_state, write_state
from arrowstream.plan.window import Shards, Window
from arrowstream.world import World

SHARDS = [[5, 4, 6, 1], [30], [0, 7, 7], [2]]
SIZES = [sum(shards) for shards in SHARDS]
FIRST_IDS = [0, 16, 46, 60]


def mix(
    weights: Sequence[Weight] | None = None,
    schedule: Any = None,
    shards: Sequence[Sequence[int]] = SHARDS,
    **given: Any,
) -> MixedPlan:
    defaults: dict[str, Any] = {"batch_size": 4, "shuffle": True, "seed": 7, "block_size": 16}
    return mix_evenly(
        [np.array(each, np.int64) for each in shards],
        [Weight()] * len(shards) if weights is None else weights,
        schedule=None if schedule is None else Schedule.parse(schedule, len(shards)),
        **{"epoch_size": None, "num_canonical_nodes": None, **defaults, **given},
    )


def steps(plan: MixedPlan, position: Position, nodes: int, ranks: int, workers: int, batch: int) -> list[list[int]]:
    """Give the samples of each step of a job, ranks and workers taken together as a training loop sees them."""
    plan = mix(schedule=plan.schedule.to_json(), epoch_size=plan.epoch_size, batch_size=batch)
    by_rank = []
    for rank in range(nodes * ranks):
        world = World(num_nodes=nodes, ranks_per_node=ranks, rank=rank)
        queues = []
        for worker in range(workers):
            chunks = plan.sample_ids(world.with_worker(worker, workers), position)
            ids = np.concatenate([np.empty(0, np.int64), *chunks]).tolist()
            queues.append([ids[first : first + batch] for first in range(0, len(ids), batch)])
        longest = max(map(len, queues))
        by_rank.append([queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)])
    assert len({len(batches) for batches in by_rank}) == 1
    return [[sample for batch in step for sample in batch] for step in zip(*by_rank, strict=True)]


def assert_passes_are_whole(ids: Sequence[int], plan: MixedPlan) -> None:
    """Check that what was read of each stream are passes, each complete before the next begins; the last may be cut."""
    by_stream = defaultdict(list)
    for sample in ids:
        by_stream[int(np.searchsorted(FIRST_IDS, sample, side="right")) - 1].append(sample)
    for stream, found in by_stream.items():
        every = range(FIRST_IDS[stream], FIRST_IDS[stream] + SIZES[stream])
        for start in range(0, len(found), SIZES[stream]):
            one = found[start : start + SIZES[stream]]
            assert len(set(one)) == len(one)
            assert set(one) <= set(every)
    assert set(by_stream) <= set(np.flatnonzero(np.array(plan.schedule.weights).sum(axis=0)).tolist())


JOBS = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(1, 5))
PROPORTIONS = st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any)
SCHEDULES = st.lists(st.tuples(st.integers(1, 150), PROPORTIONS), min_size=1, max_size=3).map(
    lambda parts: [
        (int(start), proportions)
        for start, (_, proportions) in zip(np.cumsum([0, *(length for length, _ in parts)]), parts, strict=False)
    ]
)


@given(
    schedule=SCHEDULES,
    epoch=st.integers(0, 3),
    epoch_size=st.integers(1, 80),
    first=JOBS,
    second=JOBS,
    stop=st.integers(0, 12),
)
def test_a_job_of_any_shape_goes_on_where_another_stopped(
    schedule: Any,
    epoch: int,
    epoch_size: int,
    first: tuple[int, int, int, int],
    second: tuple[int, int, int, int],
    stop: int,
) -> None:
    plan = mix(schedule=schedule, epoch_size=epoch_size)
    whole = plan.samples_at(np.arange(epoch_size), epoch).tolist()
    before = [sample for step in steps(plan, Position(epoch=epoch, sample=0), *first)[:stop] for sample in step]
    if len(before) >= epoch_size:
        before = before[:0]  # the epoch is over; begin it anew
    assert Counter(before) == Counter(whole[: len(before)])
    position = Position(epoch=epoch, sample=len(before))
    after = [sample for step in steps(plan, position, *second) for sample in step]
    nodes, ranks, _, _ = second
    repeated = Counter(before) + Counter(after)
    repeated.subtract(whole)
    assert min(repeated.values()) >= 0
    assert repeated.total() < nodes * ranks  # to make the ranks even
    assert set(+repeated) <= set(whole[: nodes * ranks])


@given(schedule=SCHEDULES, epoch_size=st.integers(1, 120), epochs=st.integers(1, 4))
def test_passes_go_on_across_epochs_and_changes_of_shares(schedule: Any, epoch_size: int, epochs: int) -> None:
    plan = mix(schedule=schedule, epoch_size=epoch_size)
    ids = [sample for epoch in range(epochs) for sample in plan.samples_at(np.arange(epoch_size), epoch).tolist()]
    assert_passes_are_whole(ids, plan)


SPLITS = [(1, 1, 12), (1, 2, 6), (2, 1, 6), (2, 2, 3), (3, 4, 1), (4, 3, 1), (1, 12, 1), (6, 1, 2)]


@given(schedule=SCHEDULES, split=st.sampled_from(SPLITS), workers=st.integers(1, 4), num_steps=st.integers(1, 12))
def test_equal_global_batches_hold_equal_samples(
    schedule: Any, split: tuple[int, int, int], workers: int, num_steps: int
) -> None:
    plan = mix(schedule=schedule, epoch_size=12 * num_steps)
    begin = Position(epoch=1, sample=0)
    nodes, ranks, batch = split
    found = steps(plan, begin, nodes, ranks, workers, batch)
    assert [sorted(step) for step in found] == [sorted(step) for step in steps(plan, begin, 1, 1, 1, 12)]


@pytest.mark.parametrize(("ranks", "proportions"), [(2, [1, 1]), (10, [7, 3]), (4, [1, 1, 1, 1]), (8, [3, 1])])
def test_every_rank_reads_every_stream_in_about_its_share(ranks: int, proportions: list[int]) -> None:
    plan = mix(schedule=[(0, proportions)], shards=[[1000]] * len(proportions), epoch_size=1000 * ranks)
    for rank in range(ranks):
        world = World(num_nodes=1, ranks_per_node=ranks, rank=rank)
        ids = np.concatenate(list(plan.sample_ids(world, Position(epoch=0, sample=0))))
        counts = np.bincount(ids // 1000, minlength=len(proportions))
        expected = 1000 * np.array(proportions) / sum(proportions)
        # A thousand independent draws are off by more than five standard deviations once in a million.
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


@given(
    weights=st.one_of(
        st.lists(st.builds(lambda share: Weight(proportion=share), st.floats(0.01, 10)), min_size=4, max_size=4),
        st.lists(st.builds(lambda samples: Weight(choose=samples), st.integers(0, 60)), min_size=4, max_size=4),
        st.lists(st.builds(lambda passes: Weight(repeat=passes), st.floats(0, 3)), min_size=4, max_size=4),
        st.just([Weight()] * 4),
    )
)
def test_every_epoch_has_what_the_weights_say(weights: list[Weight]) -> None:
    sizes = zip(weights, SIZES, strict=True)
    if not any(weight.choose or weight.proportion or int((weight.repeat or 0) * size) for weight, size in sizes):
        assume(any(weight == Weight() for weight in weights))  # else an epoch has no samples
    plan = mix(weights)
    given_counts = [
        weight.choose if weight.choose is not None else int(weight.repeat * size) if weight.repeat is not None else size
        for weight, size in zip(weights, SIZES, strict=True)
    ]
    for epoch in range(3):
        ids = plan.samples_at(np.arange(plan.epoch_size), epoch)
        counts = np.bincount(np.searchsorted(FIRST_IDS, ids, side="right") - 1, minlength=4)
        if weights[0].proportion is None:
            assert counts.tolist() == given_counts
        else:
            shares = np.array([weight.proportion for weight in weights])
            assert plan.epoch_size == sum(SIZES)
            assert (np.abs(counts - sum(SIZES) * shares / shares.sum()) < 1).all()


def test_without_weights_an_epoch_is_one_pass() -> None:
    plan = mix()
    for epoch in range(3):
        assert sorted(plan.samples_at(np.arange(plan.epoch_size), epoch).tolist()) == list(range(sum(SIZES)))


def test_without_a_shuffle_every_stream_comes_in_order() -> None:
    plan = mix(schedule=[(0, [1, 1, 0, 0]), (30, [1, 3, 0, 0])], epoch_size=100, shuffle=False)
    ids = plan.samples_at(np.arange(100), 0)
    for first, size in ((0, 16), (16, 30)):
        own = ids[(ids >= first) & (ids < first + size)]
        assert own.tolist() == [first + number % size for number in range(len(own))]


def test_each_pass_and_each_stream_has_an_order_of_its_own() -> None:
    plan = mix(shards=[[40], [40]], schedule=[(0, [1, 1])], epoch_size=160)
    ids = plan.samples_at(np.arange(160), 0)
    first, second = ids[ids < 40].tolist(), (ids[ids >= 40] - 40).tolist()
    orders = [first[:40], first[40:], second[:40], second[40:]]
    assert len(set(map(tuple, orders))) == 4


def test_the_end_of_a_long_run_is_known_as_its_begin_is() -> None:
    shards = [np.full(1000, 10**6), np.full(500, 10**6)]
    plan = mix(schedule=[(0, [0.3, 0.7])], shards=shards, epoch_size=10**9, block_size=1 << 12)
    ids = plan.samples_at(np.arange(10**9 - 1000, 10**9), 1000)
    assert abs(np.count_nonzero(ids < 10**9) - 300) <= 1
    assert len(set(ids.tolist())) == 1000


def state_of(plan: MixedPlan, epoch: int, sample: int) -> dict[str, Any]:
    state = write_state(Position(epoch=epoch, sample=sample), plan.settings(World()))
    found: dict[str, Any] = json.loads(json.dumps(state))
    return found


THIRDS = [2, 1, 1, 1]


def test_shares_may_change_after_the_position_of_a_state() -> None:
    state = state_of(mix(schedule=[(0, [1, 1, 1, 1]), (150, THIRDS), (250, [1, 0, 0, 0])], epoch_size=100), 2, 50)
    for accepted in (
        [(0, [0.5, 0.5, 0.5, 0.5]), (150, THIRDS)],
        [(0, [1, 1, 1, 1]), (150, THIRDS), (250, [9, 9, 1, 1])],
        [(0, [1, 1, 1, 1]), (150, THIRDS), (250, [1, 0, 0, 0]), (500, THIRDS)],
    ):
        plan = mix(schedule=accepted, epoch_size=100)
        position = read_state(state, plan.adopt(state).settings(World()), strict=True)
        assert position == Position(epoch=2, sample=50)


@pytest.mark.parametrize(
    "refused",
    [
        [(0, [1, 1, 1, 1])],
        [(0, [1, 1, 1, 1]), (151, THIRDS)],
        [(0, [1, 1, 1, 1]), (150, [3, 1, 1, 1])],
        [(0, [1, 1, 1, 1]), (150, THIRDS), (249, [9, 9, 1, 1])],
    ],
)
def test_shares_before_the_position_of_a_state_may_not(refused: Any) -> None:
    state = state_of(mix(schedule=[(0, [1, 1, 1, 1]), (150, THIRDS)], epoch_size=100), 2, 50)
    plan = mix(schedule=refused, epoch_size=100)
    with pytest.raises(StateMismatchError, match=r"mixing: \[\[0, \[1, 1, 1, 1\]\], \[150, \[2, 1, 1, 1\]\]\] in the"):
        read_state(state, plan.settings(World()), strict=True)


def test_the_state_of_one_worker_says_too_little_for_a_change_of_shares() -> None:
    plan = mix(schedule=[(0, [1, 1, 1, 1])], epoch_size=100)
    state = write_state(Position(epoch=0, sample=0, skipped=20), plan.settings(World()), (0, 2))
    changed = mix(schedule=[(0, [1, 1, 1, 1]), (10, THIRDS)], epoch_size=100)
    assert read_state(state, plan.settings(World()), strict=True, worker=(0, 2)).skipped == 20
    with pytest.raises(StateMismatchError, match="mixing: "):
        read_state(state, changed.settings(World()), strict=True, worker=(0, 2))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 8}, "shuffle_seed: 7 in the state, 8 here"),
        ({"shuffle": False}, "shuffle: True in the state, False here"),
        ({"epoch_size": 99}, "num_samples: 100 in the state, 99 here"),
        ({"shards": [[5, 5, 5], [30], [0, 7, 7], [3]]}, r"samples_per_stream: \[16, 30, 14, 2\] in the state"),
        ({"num_canonical_nodes": 2}, r"num_canonical_nodes: \[1, 1, 1, 1\] in the state, \[2, 2, 2, 2\] here"),
    ],
)
def test_another_order_is_refused_by_name(other: dict[str, Any], named: str) -> None:
    schedule = [(0, [1, 1, 1, 1])]
    state = state_of(mix(schedule=schedule, epoch_size=100), 0, 50)
    with pytest.raises(StateMismatchError, match=named):
        read_state(state, mix(schedule=schedule, **{"epoch_size": 100, **other}).settings(World()), strict=True)


def test_states_of_mixtures_and_of_the_order_without_shares_are_told_apart() -> None:
    sizes = np.concatenate([np.array(each, np.int64) for each in SHARDS])
    shards = Shards(num_samples=sizes, rows_per_batch=0 * sizes, num_bytes=100 * sizes)
    window = Window(unit="shard", block_size=16, canonical_nodes=1)
    plain = WindowedPlan(shards=shards, batch_size=4, shuffle=True, seed=7, window=window).settings(World())
    mixed = mix().settings(World())
    here, there = Position(epoch=0, sample=4), World()
    with pytest.raises(StateMismatchError, match="mixing: "):
        read_state(write_state(here, mixed), plain, strict=True)
    with pytest.raises(StateMismatchError, match="mixing: None in the state"):
        read_state(write_state(here, plain), mix().settings(there), strict=True)


def test_a_state_of_mosaicml_streaming_is_refused() -> None:
    with pytest.raises(StateMismatchError, match="leave out mixing="):
        mix().adopt({"epoch": 0, "sample_in_epoch": 8, "num_canonical_nodes": 1, "shuffle_seed": 9176})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"schedule": [(0, [1, 0]), (10, [1, 1])]}, "stream 1 has no samples, but a share from position 10 on"),
        ({"weights": [Weight(choose=0), Weight(choose=0)]}, "an epoch would have no samples"),
        ({"weights": [Weight(proportion=1), Weight(repeat=1)]}, "incompatible with"),
        ({"weights": [Weight(proportion=0), Weight(proportion=0)]}, "at least one above 0"),
        ({"weights": [Weight(choose=1), Weight(choose=1)]}, "of a stream without any"),
    ],
)
def test_shares_of_nothing_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mix(shards=[[5, 5], [0]], **arguments)


@given(schedule=SCHEDULES, epoch_size=st.integers(1, 120), epoch=st.integers(0, 3))
def test_a_sample_is_found_where_it_stands(schedule: Any, epoch_size: int, epoch: int) -> None:
    plan = mix(schedule=schedule, epoch_size=epoch_size)
    ids = plan.ids_at(World(), epoch, np.arange(epoch_size))
    for sample in range(sum(SIZES)):
        found = plan.positions_of(World(), epoch, np.array([sample]))
        assert sorted(found.tolist()) == np.flatnonzero(ids == sample).tolist()


@given(schedule=SCHEDULES, skips=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=3))
def test_what_is_left_out_is_not_read_and_the_rest_keeps_its_order(schedule: Any, skips: list[tuple[int, int]]) -> None:
    plan = mix(schedule=schedule, epoch_size=100)
    runs = tuple((0, 40 * number // 2 + start, 40 * number // 2 + start + 1) for number, (start, _) in enumerate(skips))
    runs = tuple({start: (epoch, start, stop) for epoch, start, stop in runs}.values())
    left_out = {start for _, start, _ in runs}
    whole = plan.ids_at(World(), 0, np.arange(100)).tolist()
    short = plan.skipping(runs)
    found = np.concatenate(list(short.sample_ids(World(), Position(epoch=0, sample=0)))).tolist()
    assert found == [sample for position, sample in enumerate(whole) if position not in left_out]


@pytest.mark.parametrize("tail", ["repeat", "drop", "pad"])
def test_a_mixture_has_the_tails_of_any_order(tail: Any) -> None:
    plan = mix(schedule=[(0, [1, 1, 1, 1])], epoch_size=102, tail=tail, batch_size=4)
    ranks = [World(ranks_per_node=5, rank=rank) for rank in range(5)]
    start = Position(epoch=0, sample=0)
    read = [np.concatenate(list(plan.sample_ids(rank, start))).tolist() for rank in ranks]
    assert {len(ids) for ids in read} == {{"repeat": 21, "drop": 20, "pad": 21}[tail]}
    padding = [plan.padding_at(rank, start) for rank in ranks]
    assert sum(number is not None for number in padding) == (3 if tail == "pad" else 0)
    if tail == "pad":
        kept = Counter(s for ids, left in zip(read, padding, strict=True) for n, s in enumerate(ids) if n != left)
        assert kept == Counter(plan.ids_at(World(), 0, np.arange(102)).tolist())


def test_replicas_of_a_mixture_read_the_same() -> None:
    plan = mix(schedule=[(0, [1, 2, 1, 0])], epoch_size=100, replication=2)
    read = [
        np.concatenate(list(plan.sample_ids(World(ranks_per_node=4, rank=rank), Position(epoch=0, sample=0)))).tolist()
        for rank in range(4)
    ]
    assert read[0] == read[1]
    assert read[2] == read[3]
    assert read[0] != read[2]


@given(schedule=SCHEDULES, epoch_size=st.integers(1, 120), epoch=st.integers(0, 3))
def test_shards_are_needed_where_their_samples_stand(schedule: Any, epoch_size: int, epoch: int) -> None:
    plan = mix(schedule=schedule, epoch_size=epoch_size)
    sizes = np.concatenate([np.array(each, np.int64) for each in SHARDS])
    shards = np.searchsorted(np.cumsum(sizes), plan.ids_at(World(), epoch, np.arange(epoch_size)), side="right")
    uses = plan.uses(World(), epoch)
    assert set(shards.tolist()) <= set(uses.parts.tolist())
    for position, shard in enumerate(shards.tolist()):
        assert any(
            first <= position <= last
            for used, first, last in zip(uses.parts, uses.first, uses.last, strict=True)
            if used == shard
        )
