"""What the shuffle moves as a whole, and how many samples it mixes: chosen so that what is live fits a budget.

With C canonical nodes, units of u bytes and T samples that are mixed with each other, at any moment at most about
2·C·u + 2·T·(bytes of a sample) are between their first use and their last: the blocks of both passes, and the units
that lie across their ends. (The mean is lower: C·u + 1.5 to 2·T.) At most half of a budget goes to the ends, which may
take fewer canonical nodes; the rest is the window.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from arrowstream.plan.order import DEFAULT_BLOCK_SIZE, default_canonical_nodes, units_per_shard
from arrowstream.plan.parts import Parts
from arrowstream.units import format_bytes

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ShuffleUnit = Literal["shard", "record_batch"]
SHUFFLE_UNITS: tuple[ShuffleUnit, ...] = get_args(ShuffleUnit)

#: The largest window that a budget is turned into: the permutations of its blocks take 24 bytes a sample.
MOST_MIXED = 1 << 22
# With fewer live, a batch of some hundred samples has several of each: the shards are then not what to shuffle.
_FEWEST_LIVE_SHARDS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the shuffle was told, or was found to be best.

    Attributes:
        unit: What is moved as a whole.
        block_size: Samples of the whole job that are shuffled with each other.
        canonical_nodes: Distant places of the data that every batch draws from.
    """

    unit: ShuffleUnit
    block_size: int
    canonical_nodes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shards:
    """What a window depends on: each int64 of shape (shards,).

    Attributes:
        num_samples: Rows of each shard.
        rows_per_batch: Rows of every record batch of a shard but the last; 0 where unknown.
        num_bytes: Size of each shard in a cache.
        can_be_cut: Whether the record batches of a shard can be fetched one by one, bool; None: of all shards.
    """

    num_samples: IntArray
    rows_per_batch: IntArray
    num_bytes: IntArray
    can_be_cut: BoolArray | None = None

    def rows_per_unit(self, unit: ShuffleUnit) -> IntArray | None:
        """Give the rows of a unit in each shard, as :class:`arrowstream.plan.order.Order` takes them."""
        return self.rows_per_batch if unit == "record_batch" else None

    def parts(self, unit: ShuffleUnit) -> Parts:
        """Tell what is fetched at once; a shard of one record batch is, and so is one that cannot be cut."""
        if unit == "shard":
            return Parts.of(self.num_samples, np.zeros_like(self.num_samples))
        rows = np.where(self.rows_per_batch < self.num_samples, self.rows_per_batch, 0)
        return Parts.of(self.num_samples, rows if self.can_be_cut is None else np.where(self.can_be_cut, rows, 0))

    @property
    def bytes_per_sample(self) -> float:
        """The mean."""
        return float(self.num_bytes.sum()) / max(int(self.num_samples.sum()), 1)

    def unit_bytes(self, unit: ShuffleUnit) -> float:
        """Give the size of the unit that a sample lies in, on average over the samples."""
        total = max(int(self.num_samples.sum()), 1)
        rows = np.where(self.rows_per_batch > 0, self.rows_per_batch, self.num_samples).astype(np.float64)
        if unit == "shard":
            rows = self.num_samples.astype(np.float64)
        whole = self.num_samples // np.maximum(rows, 1)
        last = self.num_samples - whole * rows
        return float((whole * rows**2 + last**2).sum()) / total * self.bytes_per_sample


def choose_window(
    shards: Shards,
    *,
    unit: ShuffleUnit | None = None,
    block_size: int | None = None,
    budget: int | None = None,
    canonical_nodes: int | None = None,
) -> Window:
    """Fill in what was left open.

    Args:
        shards: The data.
        unit: None: shards, unless a budget holds fewer than 256 of them and the record batches are known.
        block_size: None: what the budget allows, else 2^18.
        budget: Bytes that may be live at once, in the whole job; None for no such bound.
        canonical_nodes: None: as the number of units suggests; with a budget, what it has room for.

    Raises:
        ValueError: The record batches are not known, or the budget is too small.
    """
    if unit == "record_batch" and not (shards.rows_per_batch > 0).any() and len(shards.num_samples):
        raise ValueError(
            "shuffle_unit is 'record_batch', but the index does not say how many rows the record batches of its shards "
            "have; use shuffle_unit='shard', or write the dataset anew"
        )
    if unit is None:
        few = budget is not None and budget < min(
            _FEWEST_LIVE_SHARDS * shards.unit_bytes("shard"), 2 * float(shards.num_bytes.sum())
        )
        unit = "record_batch" if few and _finer(shards) else "shard"
    if canonical_nodes is None:
        num_units = len(shards.num_samples)
        if unit == "record_batch":
            num_units = int(units_per_shard(shards.num_samples, shards.rows_per_batch).sum())
        default = default_canonical_nodes(num_units)
        room = budget / 4 / max(shards.unit_bytes(unit), 1.0) if budget is not None else default
        while default > 1 and default > room:
            default //= 2
    else:
        default = canonical_nodes
    if budget is not None:
        block_size = _mixed_within(shards, unit, budget, default)
    return Window(unit=unit, block_size=block_size or DEFAULT_BLOCK_SIZE, canonical_nodes=default)


def _finer(shards: Shards) -> bool:
    return shards.unit_bytes("record_batch") < shards.unit_bytes("shard")


def _mixed_within(shards: Shards, unit: ShuffleUnit, budget: int, canonical_nodes: int) -> int:
    ends = 2 * canonical_nodes * shards.unit_bytes(unit)
    if budget < 2 * ends:
        units = "shards" if unit == "shard" else "record batches"
        raise ValueError(
            f"shuffle_budget is {format_bytes(budget)}; with {units} of {format_bytes(shards.unit_bytes(unit))} and "
            f"{canonical_nodes} canonical nodes it has to be {format_bytes(2 * ends)} or more"
            + ("; shuffle_unit='record_batch' needs less" if unit == "shard" and _finer(shards) else "")
        )
    mixed = (budget - ends) / 2 / max(shards.bytes_per_sample, 1e-9)
    return min(max(int(mixed), 2 * canonical_nodes), MOST_MIXED)
