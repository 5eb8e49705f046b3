"""A shuffle in blocks, of which no more is known at a time than the blocks that are being read."""

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.plan.grouping import places_by_number

IntArray = npt.NDArray[np.int64]

_OWN_MAP_BYTES = 1 << 18
_PIECE = 1 << 14


class BlockShuffle:
    """Moves samples within the blocks of their runs, or back.

    Each block's permutation is drawn from its key alone when it is first met. What is kept of it is by how much each
    place moves, at a place of one table that its number decides: so a sample finds its own by arithmetic, without
    looking up which blocks there are, and a block makes room as soon as one is met that lies ``kept`` further on.

    Of whoever uses it one thread at a time may, as one block takes another's place.

    Args:
        key: What permutations are drawn from, together with the numbers of run and block: seed, epoch, and the number
            of this shuffle.
        run_lengths: int64 of shape (runs,).
        block_size: At least 1. The last block of a run may be shorter.
        offset: By how much the first block of each run is shorter.
        kept: Blocks of each run that are kept.
        back: Whether samples are taken back from where they stand after the shuffle to where they stood before.
    """

    def __init__(
        self, key: tuple[int, int, int], run_lengths: IntArray, block_size: int, *, offset: int, kept: int, back: bool
    ) -> None:
        self._key = key
        self._run_lengths = run_lengths
        self._block_size = block_size
        self._offset = offset
        self._kept = kept
        self._back = back
        self._width = kept * block_size
        # Two bytes do for a block of a canonical node among eight or more, at the default size.
        dtype = np.dtype(np.int16 if block_size <= 1 << 15 else np.int32 if block_size <= 1 << 31 else np.int64)
        # Not filled: the system gives memory to what is written, so short runs take little.
        self._moves: npt.NDArray[np.signedinteger] = _memory(len(run_lengths) * self._width, dtype)
        self._held = np.full((len(run_lengths), kept), -1, np.int64)  # which block has each place of the table

    def move(self, runs: IntArray, places: IntArray) -> IntArray:
        """Tell where samples of runs go, counted within their runs.

        Args:
            runs: int64 of shape (n,).
            places: Within the runs, int64 of shape (n,).

        Returns:
            int64 of shape (n,).
        """
        if not len(places):
            return places
        first, last = ((int(end) + self._offset) // self._block_size for end in (places.min(), places.max()))
        if last - first < self._kept:
            self._hold(runs, first, last)
            shifted = _modulo(places + self._offset, self._width)
            shifted += runs * self._width
            return np.asarray(places + self._moves[shifted])
        # More than there is room for at once: as many blocks at a time as there is, the first ones first.
        windows = (places + self._offset) // self._width - first // self._kept
        moved = np.empty_like(places)
        for members in places_by_number(windows, last // self._kept - first // self._kept + 1):
            moved[members] = self.move(runs[members], places[members])
        return moved

    def _hold(self, runs: IntArray, first: int, last: int) -> None:
        """See that the table has the blocks from the first to the last of these runs."""
        blocks = np.arange(first, last + 1)
        missing = self._held[:, blocks % self._kept] != blocks  # (runs, blocks)
        if missing.any():
            missing &= np.bincount(runs, minlength=len(missing)).astype(bool)[:, None]
            for run, number in np.argwhere(missing).tolist():
                self._draw(run, first + number)

    def _draw(self, run: int, block: int) -> None:
        begin = block * self._block_size - self._offset
        start, stop = max(begin, 0), min(begin + self._block_size, int(self._run_lengths[run]))
        held = run, block % self._kept
        self._held[held] = -1  # until all is written
        if start < stop:  # some runs end before a block that others still have
            seed, epoch, shuffle = self._key
            random = np.random.default_rng((seed, epoch, run, shuffle, block))
            first = run * self._width + (start + self._offset) % self._width
            self._write(random, self._moves[first : first + stop - start])
        self._held[held] = block

    def _write(self, random: np.random.Generator, moves: npt.NDArray[np.signedinteger]) -> None:
        """Draw a permutation, and write by how much it moves each place."""
        permutation = _memory(len(moves), np.dtype(np.int64))
        for piece, places in _pieces(len(moves)):
            permutation[piece] = places
        random.shuffle(permutation)  # as random.permutation() does, whose memory would be malloc's
        for piece, places in _pieces(len(moves)):
            drawn = permutation[piece]
            if self._back:
                moves[piece] = drawn - places
            else:
                moves[drawn] = places - drawn


def _memory(length: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Give an array that is not filled and, if it is large, goes back to the system with the last reference to it.

    malloc would keep as many bytes again for what comes next, and some more for what lies in between.
    """
    num_bytes = length * dtype.itemsize
    if num_bytes < _OWN_MAP_BYTES:
        return np.empty(length, dtype)
    return np.frombuffer(mmap.mmap(-1, num_bytes, access=mmap.ACCESS_COPY), dtype)


def _pieces(length: int) -> Iterator[tuple[slice, IntArray]]:
    """Cut an array into pieces that stay in the processor's cache; give each, and the numbers of its places."""
    for start in range(0, length, _PIECE):
        stop = min(start + _PIECE, length)
        yield slice(start, stop), np.arange(start, stop)


def _modulo(numbers: IntArray, divisor: int) -> IntArray:
    """Give remainders of numbers that are not negative; NumPy's own takes two to ten times as long."""
    if divisor & (divisor - 1) == 0:
        return numbers & (divisor - 1)
    return np.asarray(numbers - numbers // divisor * divisor)
