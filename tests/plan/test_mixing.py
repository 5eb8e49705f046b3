"""Which stream stands where: every prefix keeps the shares to within a sample, wherever one begins to look."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arrowstream.plan.mixing import EvenMixing, Mixing
from arrowstream.plan.schedule import Schedule

IntArray = npt.NDArray[np.int64]

SMALL = st.lists(st.integers(0, 9), min_size=1, max_size=20)
LARGE = st.lists(st.integers(0, 1 << 45), min_size=1, max_size=20)
# From 2^-30 to 1, evenly over the magnitudes: what a share of 1e-9 stands beside.
UNEVEN = st.lists(st.integers(0, 30).map(lambda power: 1 << power), min_size=1, max_size=20)
EQUAL = st.builds(lambda share, streams: [share] * streams, st.integers(1, 99), st.integers(1, 20))
HEAVY = st.builds(lambda heavy, light: [heavy, *light], st.integers(10**3, 10**9), SMALL)
WEIGHTS = st.one_of(SMALL, LARGE, UNEVEN, EQUAL, HEAVY).filter(any)


def assert_shares_are_kept(weights: list[int], start: int, stop: int) -> None:
    """Check all prefixes that end in a range against exact products: T is t·p rounded down or up, in Python's integers.

    Where t·p is whole, T is; so T never differs from it by as much as 1.
    """
    mixing = EvenMixing(np.array(weights, np.int64))
    streams, counts = mixing.locate(np.arange(start, stop))
    total = sum(weights)
    before = mixing.counts_before(start)
    assert before.sum() == start
    taken = np.cumsum(streams[:, None] == np.arange(len(weights)), axis=0)  # (positions, streams)
    assert (before + taken)[np.arange(stop - start), streams].tolist() == (counts + 1).tolist()
    for stream, weight in enumerate(weights):
        found = (before[stream] + taken[:, stream]).tolist()
        for prefix, count in zip(range(start + 1, stop + 1), found, strict=True):
            assert prefix * weight // total <= count <= -(-prefix * weight // total)


@settings(max_examples=200)
@given(weights=WEIGHTS, stop=st.integers(1, 300))
@example(weights=[999_999_999, 1], stop=300)
@example(weights=[10**9 - 19, *[1] * 19], stop=300)
def test_every_prefix_keeps_the_shares_to_within_a_sample(weights: list[int], stop: int) -> None:
    assert_shares_are_kept(weights, 0, stop)


@settings(max_examples=200)
@given(weights=WEIGHTS, place=st.floats(0, 1), cycle=st.integers(0, 3))
def test_so_does_every_prefix_that_ends_in_the_middle_of_a_run(weights: list[int], place: float, cycle: int) -> None:
    start = int((cycle + place) * sum(weights))
    assert_shares_are_kept(weights, start, start + 200)


@settings(max_examples=50)
@given(weights=st.lists(st.integers(0, 60), min_size=1, max_size=20).filter(any))
def test_so_does_every_prefix_of_a_whole_period(weights: list[int]) -> None:
    assert_shares_are_kept(weights, 0, sum(weights) + 20)


@pytest.mark.parametrize("num_streams", [65, 200, 1000])
def test_hundreds_of_streams_keep_their_shares(num_streams: int) -> None:
    weights = np.random.default_rng(num_streams).integers(0, 1 << 38, num_streams).tolist()
    assert_shares_are_kept(weights, 10**12, 10**12 + 300)


@pytest.mark.parametrize("weights", [[3, 2, 1], [7], [5, 5], [1, 0, 2**40 + 1]])
def test_shares_that_add_up_are_met_exactly(weights: list[int]) -> None:
    mixing = EvenMixing(np.array(weights, np.int64))
    for cycle in range(3):
        assert mixing.counts_before(cycle * sum(weights)).tolist() == [cycle * weight for weight in weights]


@given(weights=WEIGHTS, start=st.integers(0, 1 << 50), places=st.lists(st.integers(0, 5000), max_size=40))
def test_a_position_means_the_same_in_whatever_company_it_is_asked_for(
    weights: list[int], start: int, places: list[int]
) -> None:
    mixing = EvenMixing(np.array(weights, np.int64))
    positions = start + np.array(places, np.int64)
    streams, counts = mixing.locate(positions)
    for position, stream, count in zip(positions.tolist(), streams.tolist(), counts.tolist(), strict=True):
        alone = EvenMixing(np.array(weights, np.int64)).locate(np.array([position]))
        assert (stream, count) == (int(alone[0][0]), int(alone[1][0]))
        assert mixing.counts_before(position)[stream] == count


@given(weights=WEIGHTS, start=st.integers(0, 1 << 50))
def test_a_sample_of_a_stream_is_found_where_it_stands(weights: list[int], start: int) -> None:
    mixing = EvenMixing(np.array(weights, np.int64))
    positions = np.arange(start, start + 40)
    streams, counts = mixing.locate(positions)
    for stream in set(streams.tolist()):
        own = streams == stream
        assert mixing.positions_of(stream, counts[own]).tolist() == positions[own].tolist()


def earliest_deadline_first(weights: list[int], stop: int) -> list[list[int]]:
    """Count as the known method does, one by one: of the streams below their upper bound, the one due first.

    It is the quota method, which keeps to t·p rounded down or up for all shares.
    """
    total = sum(weights)
    counts = [0] * len(weights)
    states = []
    for prefix in range(1, stop + 1):
        may = [s for s, weight in enumerate(weights) if weight and counts[s] < -(-prefix * weight // total)]
        chosen = min(may, key=lambda s: -(-(counts[s] + 1) * total // weights[s]))
        counts[chosen] += 1
        states.append(list(counts))
    return states


@settings(max_examples=100)
@given(weights=SMALL.filter(any))
def test_it_is_never_a_sample_from_the_sequential_method(weights: list[int]) -> None:
    stop = min(sum(weights), 100)
    streams, _ = EvenMixing(np.array(weights, np.int64)).locate(np.arange(stop))
    found = np.cumsum(streams[:, None] == np.arange(len(weights)), axis=0)
    assert np.abs(found - np.array(earliest_deadline_first(weights, stop))).max() <= 1


@given(weights=WEIGHTS, place=st.integers(0, 20), start=st.integers(0, 1 << 40))
def test_a_stream_without_a_share_never_appears(weights: list[int], place: int, start: int) -> None:
    weights = [*weights[:place], 0, *weights[place:]]
    streams, _ = EvenMixing(np.array(weights, np.int64)).locate(np.arange(start, start + 500))
    assert all(weights[stream] for stream in set(streams.tolist()))


@given(streams=st.integers(1, 30), start=st.integers(0, 1 << 50))
def test_equal_shares_take_turns(streams: int, start: int) -> None:
    start -= start % streams
    found, _ = EvenMixing(np.full(streams, 5)).locate(np.arange(start, start + streams))
    assert sorted(found.tolist()) == list(range(streams))


def test_two_equal_shares_of_the_largest_sum_are_exact() -> None:
    half = 1 << 49
    assert_shares_are_kept([half, half], half - 50, half + 50)
    assert_shares_are_kept([half - 1, half + 1], half - 50, half + 50)


def test_no_positions_have_no_streams() -> None:
    for found in EvenMixing(np.array([1, 2])).locate(np.empty(0, np.int64)):
        assert found.tolist() == []


SCHEDULES = st.integers(1, 6).flatmap(
    lambda streams: st.lists(
        st.tuples(st.integers(1, 80), st.lists(st.integers(0, 9), min_size=streams, max_size=streams).filter(any)),
        min_size=1,
        max_size=5,
    )
)


@given(segments=SCHEDULES)
def test_when_shares_change_every_stream_goes_on_where_it_stood(segments: list[tuple[int, list[int]]]) -> None:
    lengths = [length for length, _ in segments]
    starts = np.cumsum([0, *lengths])
    num_streams = len(segments[0][1])
    schedule = Schedule.parse([(int(s), w) for s, (_, w) in zip(starts, segments, strict=False)], num_streams)
    mixing = Mixing(schedule)
    streams, counts = mixing.locate(np.arange(sum(lengths)))
    for stream in range(num_streams):
        own = counts[streams == stream]
        assert own.tolist() == list(range(len(own)))
        assert mixing.positions_of(stream, own).tolist() == np.flatnonzero(streams == stream).tolist()
        for position in (0, sum(lengths) // 2, sum(lengths)):
            assert mixing.counts_before(position)[stream] == np.count_nonzero(streams[:position] == stream)
    for (start, stop), (_, weights) in zip(pairwise(starts.tolist()), segments, strict=True):
        for length in range(1, stop - start + 1):
            for stream, weight in enumerate(weights):
                count = np.count_nonzero(streams[start : start + length] == stream)
                assert abs(count * sum(weights) - length * weight) < sum(weights)


def test_a_change_of_shares_is_known_from_afar() -> None:
    schedule = Schedule.parse([(0, [0.5, 0.5]), (10**12, [0.25, 0.75])], 2)
    streams, counts = Mixing(schedule).locate(np.arange(10**12, 10**12 + 4))
    assert sorted(zip(streams.tolist(), counts.tolist(), strict=True)) == [
        (0, 5 * 10**11),
        (1, 5 * 10**11),
        (1, 5 * 10**11 + 1),
        (1, 5 * 10**11 + 2),
    ]
