"""The shares of a mixture: as a user gives them, and in whole numbers, so that a plan computes with them exactly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from numbers import Real
from typing import Any, Self

import numpy as np

#: Of weights that had to be rounded; a plan can divide by a sum of twice this exactly.
_ROUNDED_TOTAL = 1 << 49
_MOST_STREAMS = 4096
_LAST_START = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The shares of the streams from each position of a run on.

    Attributes:
        starts: Positions, rising, the first 0; they count the samples of all ranks and all epochs.
        weights: From each of them on, the streams' shares as whole numbers without a common divisor; their sum is at
            most 2^50.
    """

    starts: tuple[int, ...]
    weights: tuple[tuple[int, ...], ...]

    @classmethod
    def constant(cls, shares: Sequence[float]) -> Self:
        """Make the schedule of shares that never change.

        Raises:
            ValueError: They are no shares.
        """
        return cls(starts=(0,), weights=(_whole_numbers(shares, "the mixture"),))

    @classmethod
    def parse(cls, segments: Sequence[tuple[int, Sequence[float]]], num_streams: int) -> Self:
        """Read what a user gives as ``mixing_schedule``.

        Args:
            segments: Pairs of a position and the proportions that the streams have from there on.
            num_streams: How many proportions each has to have.

        Raises:
            ValueError: It is no such list, the positions do not begin at 0 and rise, or proportions are missing,
                negative, not finite, or all 0.
        """
        starts: list[int] = []
        weights = []
        for number, segment in enumerate(_pairs(segments)):
            start, proportions = segment
            where = f"mixing_schedule[{number}]"
            if not isinstance(start, (int, np.integer)) or isinstance(start, bool) or not 0 <= start < _LAST_START:
                raise ValueError(f"{where} begins at {start!r}; expected a number of samples")
            if not starts and start != 0:
                raise ValueError(f"{where} begins at {start}; the first has to begin at 0, with the run")
            if starts and start <= starts[-1]:
                raise ValueError(f"{where} begins at {start}, which is not after the one before it ({starts[-1]})")
            if isinstance(proportions, str) or not hasattr(proportions, "__len__") or len(proportions) != num_streams:
                raise ValueError(f"{where} has the proportions {proportions!r}; expected {num_streams}, one a stream")
            starts.append(int(start))
            weights.append(_whole_numbers(proportions, where))
        return cls(starts=tuple(starts), weights=tuple(weights))

    def to_json(self) -> list[list[Any]]:
        """Give pairs of a position and weights; ``parse`` reads them again."""
        return [[start, list(weights)] for start, weights in zip(self.starts, self.weights, strict=True)]


def _pairs(segments: Any) -> list[tuple[Any, Any]]:
    expected = "expected pairs of a position and the streams' proportions, as in [(0, [3, 1]), (100_000, [1, 1])]"
    try:
        pairs = [(start, proportions) for start, proportions in segments]
    except (TypeError, ValueError) as error:
        raise ValueError(f"mixing_schedule is {segments!r}; {expected}") from error
    if not pairs:
        raise ValueError(f"mixing_schedule is empty; {expected}")
    return pairs


def _whole_numbers(shares: Sequence[float], where: str) -> tuple[int, ...]:
    """Turn shares into whole numbers of the same proportions.

    Shares are taken as they are written: 0.1 is a tenth. Those whose whole numbers would be too large for a plan are
    rounded to multiples of 2^-49 of their sum, yet none above 0 to 0.
    """
    if len(shares) > _MOST_STREAMS:
        raise ValueError(f"{where} has {len(shares)} streams; at most {_MOST_STREAMS} can be mixed")
    for share in shares:
        if not isinstance(share, Real) or isinstance(share, bool) or not math.isfinite(share) or share < 0:
            raise ValueError(f"{where} has the proportions {list(shares)}; {share!r} is none, expected at least 0")
    exact = [Fraction(str(share)) for share in shares]
    if not any(exact):
        raise ValueError(f"{where} has the proportions {list(shares)}; expected at least one above 0")
    denominator = lcm(*(share.denominator for share in exact))
    numbers = [int(share * denominator) for share in exact]
    common = gcd(*numbers)
    numbers = [number // common for number in numbers]
    total = sum(numbers)
    return tuple(numbers) if total <= 2 * _ROUNDED_TOTAL else _rounded(numbers, total)


def _rounded(numbers: Sequence[int], total: int) -> tuple[int, ...]:
    quotients = [divmod(number * _ROUNDED_TOTAL, total) for number in numbers]
    rounded = [max(quotient, 1) if number else 0 for number, (quotient, _) in zip(numbers, quotients, strict=True)]
    by_remainder = sorted(range(len(numbers)), key=lambda stream: -quotients[stream][1])
    for stream in by_remainder[: max(_ROUNDED_TOTAL - sum(rounded), 0)]:
        rounded[stream] += 1
    common = gcd(*rounded)
    return tuple(number // common for number in rounded)
