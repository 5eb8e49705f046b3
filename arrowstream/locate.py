"""From what stands between the brackets to sample ids, and from sample ids to shards and rows."""

from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.spans import Spans

IntArray = npt.NDArray[np.int64]


class Locator:
    """Knows in which shard, and at which row of it, every sample lies. Memory grows with shards alone."""

    def __init__(self, samples_per_shard: IntArray) -> None:
        self.starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(samples_per_shard, dtype=np.int64)])
        self.num_samples = int(self.starts[-1])
        self._shards = Spans(self.starts[:-1], self.num_samples)

    def locate(self, ids: IntArray) -> tuple[IntArray, IntArray]:
        """Find the shard and the row of each sample.

        Args:
            ids: Global sample ids, int64 of shape (n,).

        Returns:
            Shard numbers and rows within those shards, both int64 of shape (n,).

        Raises:
            IndexError: An id is negative or not below the number of samples.
        """
        if len(ids) and (ids.min() < 0 or ids.max() >= self.num_samples):
            wrong = ids[(ids < 0) | (ids >= self.num_samples)][0]
            raise IndexError(f"sample {wrong} is out of bounds for a dataset of {self.num_samples} samples")
        shards = self._shards.find(ids)
        return shards, ids - self.starts[shards]


def resolve_ids(key: Any, size: int) -> IntArray:
    """Give the sample ids that NumPy would choose with ``numpy.arange(size)[key]``, without making that array.

    Args:
        key: An integer, a slice, ``...``, a list or array of integers of any shape, a boolean mask, or a tuple of one.
        size: Number of samples.

    Returns:
        Ids in [0, size), int64 of the shape that NumPy would give: () for an integer.

    Raises:
        IndexError: As NumPy raises it: out of bounds, a mask of another length, no index at all.
    """
    if isinstance(key, slice):
        return np.arange(*key.indices(size), dtype=np.int64)
    if isinstance(key, (int, np.integer, list, np.ndarray)) and not isinstance(key, bool):
        chosen = np.asarray(key) if not (isinstance(key, list) and not key) else np.empty(0, np.int64)
        if chosen.dtype.kind in "iu":
            return _wrap(chosen, size)
        if chosen.dtype == bool and chosen.shape == (size,):
            return np.flatnonzero(chosen).astype(np.int64, copy=False)
    # Everything rare (..., None, tuples, True) and everything wrong: NumPy itself says what it means.
    return np.asarray(np.arange(size, dtype=np.int64)[key])


def _wrap(ids: npt.NDArray[Any], size: int) -> IntArray:
    outside = (ids >= size) | (ids < -size)
    if outside.any():
        raise IndexError(f"index {ids[outside].flat[0]} is out of bounds for axis 0 with size {size}")
    wrapped = ids.astype(np.int64)
    return np.where(wrapped < 0, wrapped + size, wrapped)
