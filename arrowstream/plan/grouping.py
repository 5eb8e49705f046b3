"""Which of many numbers are equal."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def places_by_number(numbers: IntArray, end: int) -> Iterator[IntArray]:
    """Tell where each number that occurs stands.

    Args:
        numbers: In [0, end), int64 of shape (n,).
        end: What they are below; the smaller, the sooner they are sorted.

    Yields:
        Places in [0, n), ascending, int64; of the smallest number first.
    """
    small = numbers.astype(np.min_scalar_type(max(end - 1, 0)))  # NumPy sorts one or two bytes in linear time
    by_number = np.argsort(small, kind="stable")
    for places in np.split(by_number, np.flatnonzero(np.diff(small[by_number])) + 1):
        if len(places):
            yield places
