"""A fingerprint of an order of samples, which two runs can compare.

It is the sum, modulo 2^64, of a hash of each (position, sample id). So it tells every change of place, and yet may be
made piece by piece, in any sequence and by any number of processes: pieces are added up.

The hash is the finalizer of SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014),
applied to the position and once more with the id; it guards against mistakes, not against malice.
"""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def order_fingerprint(positions: IntArray, ids: IntArray, known: int = 0) -> int:
    """Hash which samples stand at which positions.

    Args:
        positions: int64 of shape (n,).
        ids: The sample at each, int64 of shape (n,).
        known: The fingerprint of other positions, to go on from.

    Returns:
        In [0, 2^64).
    """
    hashes = _mixed(_mixed(positions.astype(np.uint64)) + ids.astype(np.uint64))
    return (known + int(hashes.sum(dtype=np.uint64))) % 2**64


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = values + _GOLDEN  # wraps, as all of this does
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
