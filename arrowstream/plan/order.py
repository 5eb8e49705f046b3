"""The order of an epoch, computed position by position.

Position p belongs to canonical node p mod C. So the positions of any number of machines that divides C fall on whole
canonical nodes, and every batch draws from C distant places of the data. The shards, permuted once for all epochs, are
cut into C runs of equal length, one a canonical node: a machine reads the same shards in every epoch.

Within its run each epoch permutes the units anew (shards, or their record batches), and then shuffles the samples twice
in blocks, the second time offset by half a block, so that no border between blocks remains. Each block's permutation is
drawn from (seed, epoch, canonical node, pass, block) alone: any position is known from two blocks, the position of any
sample as well, and no epoch is ever laid out as a whole.

A block of B samples moves a sample by less than B, twice. So a unit is live, from its first sample to its last, for at
most 2 B positions of its run more than it would be unshuffled.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from arrowstream.plan.block_shuffle import BlockShuffle
from arrowstream.spans import Spans

IntArray = npt.NDArray[np.int64]

#: Samples of the whole job that are shuffled with each other; the canonical nodes share them out.
DEFAULT_BLOCK_SIZE = 1 << 18
MOST_CANONICAL_NODES = 64
_FEWEST_UNITS = 16  # of a canonical node
_RUNS, _UNITS, _FIRST_PASS, _SECOND_PASS = range(4)


def default_canonical_nodes(num_units: int) -> int:
    """Choose the number of canonical nodes: a power of two, so that many numbers of machines divide it.

    It depends on the data alone, never on the cluster. Each canonical node has at least 16 units, so that one machine
    that reads for all of them has a small part of the data live.
    """
    nodes = 1
    while nodes < MOST_CANONICAL_NODES and 2 * nodes * _FEWEST_UNITS <= num_units:
        nodes *= 2
    return nodes


def units_per_shard(samples_per_shard: IntArray, rows_per_unit: IntArray | None) -> IntArray:
    """Count the units of each shard.

    Args:
        samples_per_shard: int64 of shape (shards,).
        rows_per_unit: Samples of each unit of a shard but its last, int64 of shape (shards,); 0 for the whole shard.
            None: all shards are whole.

    Returns:
        int64 of shape (shards,); 0 for an empty shard.
    """
    if rows_per_unit is None:
        return (samples_per_shard > 0).astype(np.int64)
    rows = np.where(rows_per_unit > 0, rows_per_unit, np.maximum(samples_per_shard, 1))
    return -(-samples_per_shard // rows)


class Order:
    """A permutation of the samples that is never stored; its memory grows with the units.

    Args:
        samples_per_shard: int64 of shape (shards,).
        shuffle: False: the samples of each canonical node in their order.
        seed: Not negative.
        epoch: Not negative.
        block_size: Samples of the whole job that are shuffled with each other.
        canonical_nodes: None: as the data suggests when it is shuffled, else 1.
        rows_per_unit: What is moved as a whole before the samples are shuffled, as :func:`units_per_shard` takes it.
    """

    def __init__(
        self,
        samples_per_shard: IntArray,
        *,
        shuffle: bool,
        seed: int,
        epoch: int,
        block_size: int = DEFAULT_BLOCK_SIZE,
        canonical_nodes: int | None = None,
        rows_per_unit: IntArray | None = None,
    ) -> None:
        self.num_samples = int(samples_per_shard.sum())
        if canonical_nodes is None:
            num_units = int(units_per_shard(samples_per_shard, rows_per_unit).sum())
            canonical_nodes = default_canonical_nodes(num_units) if shuffle else 1
        self.canonical_nodes = canonical_nodes
        self._shuffle = shuffle
        self._key = (seed, epoch)
        nodes = np.arange(self.canonical_nodes, dtype=np.int64)
        # Canonical node c has the positions c, c + C, c + 2C, …
        self._run_lengths = (self.num_samples - nodes + self.canonical_nodes - 1) // self.canonical_nodes  # (C,)
        self._run_starts = np.cumsum(self._run_lengths) - self._run_lengths  # (C,)
        # A block of twice the longest run holds it in both passes, as any larger one does.
        longest = max(int(self._run_lengths[0]), 1)
        self._block_size = min(max(int(block_size) // self.canonical_nodes, 2), 2 * longest)
        # Kept by the order and not by the process: blocks may be large.
        self._passes: dict[bool, list[tuple[BlockShuffle, BlockShuffle]]] = {False: [], True: []}  # by direction
        if shuffle:
            self._lay_out(samples_per_shard, rows_per_unit)

    def _lay_out(self, samples_per_shard: IntArray, rows_per_unit: IntArray | None) -> None:
        """Place the units: a place is a number in [0, num_samples), run after run."""
        seed, epoch = self._key
        shards = np.random.default_rng((seed, _RUNS)).permutation(len(samples_per_shard))  # (shards,)
        first_ids = (np.cumsum(samples_per_shard) - samples_per_shard)[shards]
        lengths = samples_per_shard[shards]
        if rows_per_unit is not None:
            first_ids, lengths = cut_into_units(first_ids, lengths, rows_per_unit[shards])
        starts = np.cumsum(lengths) - lengths  # (units,)
        holding = lengths > 0  # empty shards have no place
        starts, first_ids = starts[holding], first_ids[holding]
        # A unit that lies across the border of two runs is cut: its second piece begins where the run does.
        borders = self._run_starts[self._run_lengths > 0]
        cut = borders[~np.isin(borders, starts, assume_unique=True)]
        behind = np.searchsorted(starts, cut)
        pieces = np.insert(starts, behind, cut)  # (pieces,), where each begins
        ids = np.insert(first_ids, behind, first_ids[behind - 1] + cut - starts[behind - 1])
        lengths = np.diff(pieces, append=self.num_samples)
        random = np.random.default_rng((seed, epoch, _UNITS))
        permuted = np.arange(len(pieces))
        for own in np.split(permuted, np.searchsorted(pieces, borders[1:])):
            random.shuffle(own)  # views: the pieces of each run change places among themselves
        lengths = lengths[permuted]
        self._piece_starts = np.cumsum(lengths) - lengths
        self._pieces = Spans(self._piece_starts, self.num_samples)
        self._shift = ids[permuted] - self._piece_starts  # what to add to a place to get its sample's id

    def samples_at(self, positions: IntArray) -> IntArray:
        """Tell which samples stand at these positions of the epoch.

        Args:
            positions: In [0, num_samples), int64 of shape (n,).

        Returns:
            Sample ids, int64 of shape (n,).
        """
        within = positions // self.canonical_nodes  # (n,)
        nodes = positions - within * self.canonical_nodes  # (n,); np.divmod takes twice as long
        if not self._shuffle:
            return np.asarray(self._run_starts[nodes] + within)
        # A sample moves through the first pass, then the second; from a position back to its sample it is the reverse.
        with self._both_passes(back=True) as (first, second):
            within = first.move(nodes, second.move(nodes, within))
        within += self._run_starts[nodes]  # now places
        within += self._shift[self._pieces.find(within)]
        return within

    def positions_of(self, ids: IntArray) -> IntArray:
        """Tell at which positions of the epoch these samples stand; the inverse of :meth:`samples_at`.

        Args:
            ids: In [0, num_samples), int64 of shape (n,).

        Returns:
            Positions, int64 of shape (n,).
        """
        places = self._places_of(ids) if self._shuffle else ids
        nodes = np.searchsorted(self._run_starts, places, side="right") - 1
        within = places - self._run_starts[nodes]
        if self._shuffle:
            with self._both_passes(back=False) as (first, second):
                within = second.move(nodes, first.move(nodes, within))
        return np.asarray(within * self.canonical_nodes + nodes)

    def stretches(self, samples_per_shard: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Tell where the samples of each shard, or of each piece of one, may stand.

        Args:
            samples_per_shard: What the order was made of.

        Returns:
            First sample id, canonical node, and the positions between which the samples stand, both inclusive; all
            int64 of shape (pieces,).
        """
        if self._shuffle:
            starts, shift = self._piece_starts, self._shift
        else:
            # In their order places are ids; a piece ends where its shard or its run does.
            borders = np.concatenate([np.cumsum(samples_per_shard) - samples_per_shard, self._run_starts])
            starts = np.unique(borders[borders < self.num_samples])
            shift = np.zeros_like(starts)
        stops = np.append(starts[1:], self.num_samples)
        nodes = np.searchsorted(self._run_starts, starts, side="right") - 1
        first, last = starts - self._run_starts[nodes], stops - 1 - self._run_starts[nodes]
        if self._shuffle:
            size, half = self._block_size, self._block_size // 2
            # Through the first pass to the ends of its blocks, through the second half a block beyond them.
            first = np.maximum(first // size * size - half, 0)
            last = np.minimum((last // size + 2) * size - half, self._run_lengths[nodes]) - 1
        return starts + shift, nodes, first * self.canonical_nodes + nodes, last * self.canonical_nodes + nodes

    @contextmanager
    def _both_passes(self, *, back: bool) -> Iterator[tuple[BlockShuffle, BlockShuffle]]:
        """Lend the passes to one thread; a second one at the same time, or a process forked meanwhile, gets its own."""
        spare = self._passes[back]
        try:
            passes = spare.pop()
        except IndexError:
            keys, size = [(*self._key, number) for number in (_FIRST_PASS, _SECOND_PASS)], self._block_size
            # A block of the second pass lies across two of the first.
            passes = (
                BlockShuffle(keys[0], self._run_lengths, size, offset=0, kept=2, back=back),
                BlockShuffle(keys[1], self._run_lengths, size, offset=size // 2, kept=1, back=back),
            )
        yield passes
        spare[:] = [passes]

    def _places_of(self, ids: IntArray) -> IntArray:
        first_ids = self._piece_starts + self._shift  # (pieces,)
        by_id = np.argsort(first_ids)
        pieces = by_id[np.searchsorted(first_ids, ids, side="right", sorter=by_id) - 1]
        return np.asarray(ids - self._shift[pieces])


def cut_into_units(first_ids: IntArray, lengths: IntArray, rows_per_unit: IntArray) -> tuple[IntArray, IntArray]:
    """Cut shards into units: first ids and lengths of the shards, (shards,), become those of the units, (units,)."""
    counts = units_per_shard(lengths, rows_per_unit)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)  # number in its shard
    offsets = within * np.repeat(rows_per_unit, counts)  # a whole shard has one unit, and that number is 0
    left = np.repeat(lengths, counts) - offsets
    rows = np.repeat(np.where(rows_per_unit > 0, rows_per_unit, lengths), counts)
    return np.repeat(first_ids, counts) + offsets, np.minimum(left, rows)
