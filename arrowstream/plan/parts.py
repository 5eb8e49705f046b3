"""What is fetched at once: a shard as a whole, or one of its record batches."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from arrowstream.plan.order import units_per_shard

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The parts of all shards, numbered in the order of their samples. Every shard has one at least.

    Attributes:
        samples_per_shard: int64 of shape (shards,).
        rows_per_part: Rows of every part of a shard but its last, int64 of shape (shards,); 0: it has one part.
    """

    samples_per_shard: IntArray
    rows_per_part: IntArray

    @classmethod
    def of(cls, samples_per_shard: IntArray, rows_per_part: IntArray) -> Self:
        """Cut shards."""
        return cls(samples_per_shard=samples_per_shard, rows_per_part=rows_per_part)

    @cached_property
    def first_parts(self) -> IntArray:
        """Number of the first part of each shard, and of all parts at the end; int64 of shape (shards + 1,)."""
        counts = np.maximum(units_per_shard(self.samples_per_shard, self.rows_per_part), 1)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    @cached_property
    def shards(self) -> IntArray:
        """The shard of each part, int64 of shape (parts,)."""
        return np.repeat(np.arange(len(self.samples_per_shard)), np.diff(self.first_parts))

    @cached_property
    def num_samples(self) -> IntArray:
        """The samples of each part, int64 of shape (parts,)."""
        shards = self.shards
        rows, samples = self.rows_per_part[shards], self.samples_per_shard[shards]
        left = samples - (np.arange(len(shards)) - self.first_parts[shards]) * rows
        return np.where(rows > 0, np.minimum(rows, left), samples)

    @cached_property
    def is_cut(self) -> BoolArray:
        """Whether each shard has several parts, its record batches; bool of shape (shards,)."""
        return np.diff(self.first_parts) > 1

    def share(self, num_bytes: IntArray) -> IntArray:
        """Deal out the bytes of each shard, int64 of shape (shards,), among its parts; rounded up."""
        whole = np.maximum(self.samples_per_shard[self.shards], 1)
        return -(-num_bytes[self.shards] * np.maximum(self.num_samples, 1) // whole)
