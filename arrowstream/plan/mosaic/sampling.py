"""Which samples of a stream an epoch has, as mosaicml-streaming draws them.

An epoch takes ``choose`` samples of a stream: every shard as often as it fits as a whole, and a part of some shards for
the rest. What is taken of a shard at once is a *shuffle unit*.
"""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def get_sampling(
    samples_per_shard: IntArray, choose: int, granularity: int, *, seed: int, epoch: int, use_epoch: bool
) -> IntArray:
    """Tell how many samples are taken of each shard.

    Args:
        samples_per_shard: int64 of shape (shards,).
        choose: Samples to take of all shards together; more than there are means repeats.
        granularity: Samples that are taken of one shard at a time.
        seed: Not negative.
        epoch: Counted from 0.
        use_epoch: Whether epochs draw differently.

    Returns:
        Samples to take of each shard, int64 of shape (shards,); their sum is ``choose``.

    Raises:
        ValueError: ``choose`` is negative, or ``granularity`` is not positive.
    """
    if choose < 0:
        raise ValueError(f"`choose` must be a non-negative integer, but got: {choose}.")
    if granularity <= 0:
        raise ValueError(f"`granularity` must be a positive integer, but got: {granularity}.")
    num_samples = int(samples_per_shard.sum())
    if not num_samples:
        return np.zeros_like(samples_per_shard)
    repeats, rest = divmod(choose, num_samples)
    taken = samples_per_shard * repeats
    if not rest:
        return taken
    picks_per_shard = -(-samples_per_shard // granularity)
    shards = np.repeat(np.arange(len(samples_per_shard)), picks_per_shard)  # (picks,)
    sizes = np.full(len(shards), granularity, np.int64)
    # A shard without samples has no last pick, and resets that of the shard before it; so it does in mosaic.
    sizes[np.cumsum(picks_per_shard) - 1] = granularity - (picks_per_shard * granularity - samples_per_shard)
    picks = np.random.default_rng(seed + epoch * use_epoch).permutation(len(shards))
    shards, sizes = shards[picks], sizes[picks]
    before = np.cumsum(sizes) - sizes
    np.add.at(taken, shards, np.clip(rest - before, 0, sizes))
    return taken


def shuffle_units(samples_per_shard: IntArray, taken_per_shard: IntArray) -> list[int]:
    """Give the sizes of the shuffle units, shard by shard: each whole copy of a shard, then the part of it, if any."""
    units: list[int] = []
    for size, taken in zip(samples_per_shard.tolist(), taken_per_shard.tolist(), strict=True):
        repeats, rest = divmod(taken, size) if size else (0, 0)
        units += [size] * repeats + [rest] * (rest > 0)
    return units


def draw(
    samples_per_shard: IntArray, taken_per_shard: IntArray, first_sample_id: int, generator: np.random.Generator
) -> IntArray:
    """Draw the samples of one stream.

    Args:
        samples_per_shard: int64 of shape (shards,).
        taken_per_shard: Samples to take of each shard, int64 of shape (shards,).
        first_sample_id: Of the stream.
        generator: Drawn from once for each shard that is not taken as a whole.

    Returns:
        Sample ids, unit by unit as :func:`shuffle_units` gives them, int64 of shape (samples,).
    """
    ids = np.empty(int(taken_per_shard.sum()), np.int64)
    place, start = 0, first_sample_id
    for size, taken in zip(samples_per_shard.tolist(), taken_per_shard.tolist(), strict=True):
        repeats, rest = divmod(taken, size) if size else (0, 0)
        ids[place : place + repeats * size].reshape(repeats, size)[:] = np.arange(start, start + size)
        if rest:
            chosen = generator.choice(size, rest, replace=False)
            ids[place + repeats * size : place + taken] = start + np.sort(chosen)
        place += taken
        start += size
    return ids
