"""Shares as users give them: taken as they are written, refused where they are none."""

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.plan.schedule import Schedule


def weights(*shares: Any) -> tuple[int, ...]:
    return Schedule.parse([(0, shares)], len(shares)).weights[0]


def test_shares_are_taken_as_they_are_written() -> None:
    assert weights(0.7, 0.2, 0.1) == (7, 2, 1)
    assert weights(np.float32(0.7), np.float64(0.2), 0.1) == (7, 2, 1)
    assert weights(300, 100) == (3, 1)
    assert weights(np.int64(6), 4.0, Fraction(1, 3)) == (18, 12, 1)
    assert weights(1e-9, 1 - 1e-9) == (1, 999_999_999)
    assert weights(1 / 3, 1 / 3, 1 / 3, 0) == (1, 1, 1, 0)


@given(shares=st.lists(st.floats(0, 1e300), min_size=1, max_size=20).filter(any))
def test_shares_that_need_large_numbers_are_rounded_but_never_to_nothing(shares: list[float]) -> None:
    found = weights(*shares)
    assert sum(found) <= 1 << 50
    total = sum(map(Fraction, shares))
    for share, weight in zip(shares, found, strict=True):
        assert (weight > 0) == (share > 0)
        assert abs(Fraction(weight, sum(found)) - Fraction(share) / total) < Fraction(len(shares), 1 << 48)


def test_a_schedule_is_read_again_from_json() -> None:
    schedule = Schedule.parse([(0, [0.5, 0.25]), (10, (1, 0)), (np.int64(20), np.array([1, 2]))], 2)
    assert schedule.to_json() == [[0, [2, 1]], [10, [1, 0]], [20, [1, 2]]]
    assert Schedule.parse(json.loads(json.dumps(schedule.to_json())), 2) == schedule


@pytest.mark.parametrize(
    ("segments", "says"),
    [
        ([], "is empty"),
        (None, "expected pairs"),
        ([0, [1, 1]], "expected pairs"),
        ({0: [1, 1]}, "expected pairs"),
        ([(5, [1, 1])], r"mixing_schedule\[0\] begins at 5; the first has to begin at 0"),
        ([(0, [1, 1]), (0, [1, 2])], r"mixing_schedule\[1\] begins at 0, which is not after the one before it \(0\)"),
        ([(0, [1, 1]), (9, [1, 1]), (8, [1, 2])], r"mixing_schedule\[2\] begins at 8"),
        ([(0, [1, 1]), (2.5, [1, 2])], "begins at 2.5; expected a number of samples"),
        ([(-1, [1, 1])], "begins at -1; expected a number of samples"),
        ([(True, [1, 1])], "begins at True"),
        ([(0, [1, 1, 1])], r"has the proportions \[1, 1, 1\]; expected 2, one a stream"),
        ([(0, 1.0)], "expected 2, one a stream"),
        ([(0, "11")], "expected 2, one a stream"),
        ([(0, [1, -1])], "-1 is none, expected at least 0"),
        ([(0, [1, float("nan")])], "nan is none"),
        ([(0, [1, float("inf")])], "inf is none"),
        ([(0, ["1", "1"])], "'1' is none"),
        ([(0, [True, 1])], "True is none"),
        ([(0, [0, 0.0])], "expected at least one above 0"),
    ],
)
def test_what_is_no_schedule_is_refused(segments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Schedule.parse(segments, 2)


def test_more_streams_than_can_be_mixed_are_refused() -> None:
    with pytest.raises(ValueError, match="has 4097 streams; at most 4096"):
        Schedule.constant([1] * 4097)
