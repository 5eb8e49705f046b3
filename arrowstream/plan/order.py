"""The order of an epoch, computed position by position.

Shards are permuted; then positions are shuffled twice in blocks, the second time offset by half a block, so that no
border between blocks remains. Each block's permutation is drawn from (seed, epoch, pass, block) alone: any position is
known from two blocks, and no epoch is ever laid out as a whole.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

#: Positions that are shuffled with each other; a block's permutation takes a few milliseconds and 2 MiB.
DEFAULT_BLOCK_SIZE = 1 << 18
_SHARDS, _FIRST_PASS, _SECOND_PASS = range(3)


class Order:
    """A permutation of the samples that is never stored.

    Args:
        samples_per_shard: int64 of shape (shards,).
        shuffle: False: the samples in their order.
        seed: Not negative.
        epoch: Not negative.
        block_size: Positions that are shuffled with each other.
    """

    def __init__(
        self,
        samples_per_shard: IntArray,
        *,
        shuffle: bool,
        seed: int,
        epoch: int,
        block_size: int = DEFAULT_BLOCK_SIZE,
    ) -> None:
        self.num_samples = int(samples_per_shard.sum())
        self._shuffle = shuffle
        self._key = (seed, epoch)
        self._block_size = max(int(block_size), 2)
        if shuffle:
            shards = np.random.default_rng((seed, epoch, _SHARDS)).permutation(len(samples_per_shard))  # (shards,)
            first_ids = np.cumsum(samples_per_shard) - samples_per_shard
            self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(samples_per_shard[shards])])
            self._shift = first_ids[shards] - self._starts[:-1]  # added to a place in the permuted shards: its id

    def samples_at(self, positions: IntArray) -> IntArray:
        """Tell which samples stand at these positions of the epoch.

        Args:
            positions: In [0, num_samples), int64 of shape (n,).

        Returns:
            Sample ids, int64 of shape (n,).
        """
        if not self._shuffle:
            return positions
        # A sample moves through the first pass, then the second; from a position back to its sample it is the reverse.
        places = self._permute(positions, _SECOND_PASS, self._block_size // 2)
        places = self._permute(places, _FIRST_PASS, 0)
        ids: IntArray = places + self._shift[np.searchsorted(self._starts, places, side="right") - 1]
        return ids

    def _permute(self, places: IntArray, which: int, offset: int) -> IntArray:
        blocks = (places + offset) // self._block_size
        permuted = np.empty_like(places)
        for block in np.unique(blocks):
            inside = blocks == block
            start = max(int(block) * self._block_size - offset, 0)
            stop = min((int(block) + 1) * self._block_size - offset, self.num_samples)
            permutation = _block_permutation((*self._key, which, int(block)), stop - start)
            permuted[inside] = start + permutation[places[inside] - start]
        return permuted


# A pass through an epoch needs three blocks at a time; a few more serve two datasets in turn.
@lru_cache(maxsize=12)
def _block_permutation(key: tuple[int, ...], length: int) -> npt.NDArray[np.int64]:
    permutation = np.random.default_rng(key).permutation(length)
    permutation.setflags(write=False)
    return permutation
