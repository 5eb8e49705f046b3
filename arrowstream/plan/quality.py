"""How good an order is, and what it costs: arithmetic over the samples of some steps.

The measure of mixing is the *label distance*: the mean total-variation distance between the label histogram of a batch
and that of the data. On data that is sorted by class it moves fourfold where an entropy hardly moves.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from arrowstream.plan.order import cut_into_units
from arrowstream.plan.window import Shards, ShuffleUnit

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """The pieces in which data is fetched, in the order of their ids: each int64 of shape (units,).

    Attributes:
        first_ids: Id of the first sample of each.
        num_samples: Samples of each, at least 1.
        num_bytes: Size of each.
    """

    first_ids: IntArray
    num_samples: IntArray
    num_bytes: IntArray

    @classmethod
    def of(cls, shards: Shards, unit: ShuffleUnit) -> Self:
        """Cut the data into what the shuffle moves."""
        rows = shards.rows_per_unit(unit)
        return cls.cut(shards, np.zeros_like(shards.num_samples) if rows is None else rows)

    @classmethod
    def cut(cls, shards: Shards, rows: IntArray) -> Self:
        """Cut the data into pieces of so many rows; 0: a shard is one piece."""
        samples = shards.num_samples
        first_ids, num_samples = cut_into_units(np.cumsum(samples) - samples, samples, rows)
        shard = np.searchsorted(np.cumsum(samples), first_ids, side="right")
        num_bytes = -(-num_samples * shards.num_bytes[shard] // samples[shard])
        return cls(first_ids=first_ids, num_samples=num_samples, num_bytes=num_bytes)

    def of_samples(self, ids: IntArray) -> IntArray:
        """Tell in which unit each sample lies, int64 of the shape of ``ids``."""
        return np.asarray(np.searchsorted(self.first_ids, ids, side="right") - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Residency:
    """What one machine holds and fetches, step by step, if it keeps every unit from its first use to its last.

    Attributes:
        mean_bytes: Live bytes, the mean over the steps.
        max_bytes: Live bytes at most: with a cache of this size nothing is fetched twice in the epoch.
        fetches: Units that are fetched, in all steps together; int64 of shape (fetches,).
    """

    mean_bytes: float
    max_bytes: int
    fetches: IntArray


def label_distance(labels: IntArray, shares: npt.NDArray[np.float64]) -> float:
    """Give the mean total-variation distance between the histogram of a batch and that of the data.

    Args:
        labels: From 0, int64 of shape (batches, samples of a batch).
        shares: Of each label in the data, float64 of shape (labels,), in sum 1.

    Returns:
        Between 0, for batches that are as the data is, and 1.
    """
    batches, per_batch = labels.shape
    flat = labels + np.arange(batches)[:, None] * len(shares)
    counts = np.bincount(flat.reshape(-1), minlength=batches * len(shares)).reshape(batches, len(shares))
    return float(np.abs(counts / per_batch - shares).sum(axis=1).mean() / 2)


def distinct_per_batch(units: IntArray) -> float:
    """Give the mean number of units that a batch draws from; int64 of shape (batches, samples of a batch)."""
    ordered = np.sort(units, axis=1)
    return float((1 + np.count_nonzero(np.diff(ordered, axis=1), axis=1)).mean())


def residency(used: IntArray, units: Units, *, whole_epoch: bool) -> Residency:
    """Follow what a machine holds.

    Args:
        used: The units that it reads samples of, int64 of shape (steps, samples of a step).
        units: All of them.
        whole_epoch: Whether an epoch ends with these steps. If not, a unit of which samples are left stays live.
    """
    steps, per_step = used.shape
    found, first, places, counts = np.unique(
        used.reshape(-1), return_index=True, return_inverse=True, return_counts=True
    )
    step_of = np.arange(steps * per_step) // per_step
    last = np.zeros(len(found), np.int64)
    np.maximum.at(last, places.reshape(-1), step_of)
    if not whole_epoch:
        last[counts < units.num_samples[found]] = steps - 1
    change = np.zeros(steps + 1, np.int64)
    np.add.at(change, step_of[first], units.num_bytes[found])
    np.subtract.at(change, last + 1, units.num_bytes[found])
    live = np.cumsum(change)[:steps]
    return Residency(mean_bytes=float(live.mean()), max_bytes=int(live.max()), fetches=found)
