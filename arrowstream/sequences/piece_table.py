"""What is known of the pieces of sequences, looked up for whole batches.

The tables of all shards, wherever they lie in memory, are seen as one array of numbers from the lowest address to the
highest, so that a batch of sequences of many shards takes two steps of NumPy. Of 256 sequences whose tables are not in
the processor's cache: 32 µs; copied as parts of any length (:mod:`arrowstream.sequences.extents`) 80, because the
processor does not run ahead to the next sequence while it waits for the memory of one.
"""

from itertools import pairwise

import numpy as np
import pyarrow as pa

from arrowstream.sequences.extents import address_of
from arrowstream.sequences.packing import IntArray

_NUMBER = 8  # bytes
_LINE = 2 * _NUMBER


class PieceTable:
    """Two numbers for each piece of the sequences of the shards that were placed.

    Args:
        num_shards: Of the dataset.
    """

    def __init__(self, num_shards: int) -> None:
        self._kept: dict[int, tuple[IntArray, IntArray]] = {}
        self._sequences: IntArray = np.zeros(num_shards, np.int64)  # where the table of each shard begins, in numbers
        self._first = 0  # in bytes, like the end: a multiple of those of a line
        self._end = 0
        self._numbers: IntArray = np.empty(0, np.int64)  # from first to end
        self._counted: IntArray = np.empty(0, np.int64)  # 0, 1, 2, ...

    def place(self, shard: int, firsts: IntArray, pieces: IntArray) -> None:
        """Take note of the sequences of a shard.

        Args:
            shard: Its number.
            firsts: Number of the first piece of each sequence, and of all pieces: int64 of shape (sequences + 1,).
            pieces: The two numbers of each piece, int64 of shape (pieces, 2).
        """
        lines = _aligned(pieces)
        sequences = firsts + address_of(lines) // _LINE
        self._kept[shard] = lines, sequences
        self._sequences[shard] = address_of(sequences) // _NUMBER
        for table in (lines, sequences):
            first = address_of(table)
            self._first = min(self._first or first, first) // _LINE * _LINE
            self._end = max(self._end, -(-(first + table.nbytes) // _LINE) * _LINE)
        self._numbers = np.frombuffer(pa.foreign_buffer(self._first, self._end - self._first), np.int64)

    def release(self, shard: int) -> None:
        """Forget a shard."""
        self._kept.pop(shard, None)

    def find(self, shards: IntArray, rows: IntArray, batch_size: int) -> list[IntArray]:
        """Look up sequences.

        Args:
            shards: That were placed, int64 of shape (n,).
            rows: Numbers of sequences in those shards; **not checked**, int64 of shape (n,).
            batch_size: Sequences of each batch but the last.

        Returns:
            For each batch, at least one, the numbers of its pieces, one sequence behind the other, int64 of shape
            (pieces, 2).
        """
        sequences = self._sequences[shards]
        sequences += rows
        sequences -= self._first // _NUMBER
        lines = self._numbers.take(sequences)  # (n,): the first one of each
        sequences += 1
        counts = self._numbers.take(sequences)
        counts -= lines
        starts = counts.cumsum()
        num_pieces = int(starts[-1]) if len(starts) else 0
        starts -= counts  # of each sequence, in pieces that are found
        lines -= starts
        lines -= self._first // _LINE
        lines = lines.repeat(counts)  # (pieces,)
        if len(self._counted) < num_pieces:
            self._counted = np.arange(2 * num_pieces)
        lines += self._counted[:num_pieces]
        found = self._numbers.reshape(-1, 2).take(lines, axis=0)
        borders = [0, *starts[batch_size::batch_size].tolist(), num_pieces]
        return [found[start:stop] for start, stop in pairwise(borders)]


def _aligned(pieces: IntArray) -> IntArray:
    """Copy lines to an address that is a multiple of their bytes."""
    room = np.empty(pieces.size + 1, np.int64)
    skipped = address_of(room) % _LINE // _NUMBER
    lines = room[skipped : skipped + pieces.size].reshape(pieces.shape)
    lines[:] = pieces
    return lines
