"""What is known of the pieces of sequences, looked up for whole batches."""

import numpy as np

from arrowstream.sequences.extents import Extents, address_of
from arrowstream.sequences.packing import IntArray
from arrowstream.windows import RowWindow

_INT = np.dtype(np.int64)


class PieceTable:
    """Two numbers for each piece of the sequences of the shards that were placed.

    Args:
        num_shards: Of the dataset.
    """

    def __init__(self, num_shards: int) -> None:
        self._pieces = Extents()
        # By shard: where the lines of a sequence begin in memory, and those of the next one, hence where they end.
        self._sequences = RowWindow(_INT, (2,))
        self._sequences.resize(num_shards)

    def place(self, number: int, firsts: IntArray, pieces: IntArray) -> None:
        """Take note of a shard.

        Args:
            number: Of the shard.
            firsts: Number of the first piece of each sequence, and of all pieces: int64 of shape (sequences + 1,).
            pieces: The two numbers of each piece, int64 of shape (pieces, 2), contiguous.
        """
        self._pieces.keep(number, [pieces])
        self._sequences.place(number, address_of(pieces) + firsts * pieces.strides[0])

    def release(self, number: int) -> None:
        """Forget a shard."""
        self._pieces.release(number)
        self._sequences.release(number)

    def gather(self, shards: IntArray, rows: IntArray) -> IntArray:
        """Look up sequences.

        Args:
            shards: That were placed, int64 of shape (n,).
            rows: Numbers of sequences in those shards; **not checked**, int64 of shape (n,).

        Returns:
            The numbers of their pieces, one sequence behind the other, int64 of shape (pieces, 2).
        """
        return self._pieces.copy(self._sequences.gather_from(shards, rows), _INT).reshape(-1, 2)
