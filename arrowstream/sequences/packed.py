"""The tokens of sequences that best fit packed, for whole batches: a few steps of NumPy, however many documents."""

from functools import partial
from typing import Any

import numpy as np

from arrowstream.sequences.extents import Extents, address_of
from arrowstream.sequences.packing import IntArray
from arrowstream.sequences.piece_table import PieceTable
from arrowstream.sequences.tokens import AnyArray, Copy, TokenShard

_PADDING = -1


class PackedTokens:
    """Gathers packed sequences of the shards that were placed.

    Args:
        num_shards: Of the dataset.
        seq_len: Tokens of a sequence.
        pad_id: Token that fills up sequences.
        dtype: Of the tokens.
    """

    def __init__(self, num_shards: int, seq_len: int, pad_id: int, dtype: np.dtype[Any]) -> None:
        self._length = seq_len
        self._dtype = dtype
        self._padding = np.full(seq_len, pad_id, dtype)
        self._tokens = Extents()
        self._tokens.keep(_PADDING, [self._padding])
        self._table = PieceTable(num_shards)  # extents of the tokens

    def place(self, number: int, shard: TokenShard) -> None:
        """Take note of where the pieces of a shard lie."""
        (documents, starts, lengths), firsts = shard.bins.padded(self._length)
        batches, inside = shard.places(starts)
        size = self._dtype.itemsize
        addresses = np.array([address_of(values) for values in shard.values])[batches] + inside * size
        addresses[documents < 0] = address_of(self._padding)
        self._tokens.keep(number, shard.values)
        self._table.place(number, firsts, np.stack([addresses, addresses + lengths * size], axis=1))

    def release(self, number: int) -> None:
        """Forget a shard."""
        self._tokens.release(number)
        self._table.release(number)

    def find(self, shards: IntArray, rows: IntArray, batch_size: int) -> list[Copy]:
        """Look up sequences.

        Args:
            shards: That were placed, int64 of shape (n,).
            rows: Numbers of sequences in those shards; **not checked**, int64 of shape (n,).
            batch_size: Sequences of each batch but the last.

        Returns:
            What copies the tokens of each batch, as long as none of the shards is released.
        """
        return [partial(self._copy, extents) for extents in self._table.find(shards, rows, batch_size)]

    def _copy(self, extents: IntArray) -> AnyArray:
        return self._tokens.copy(extents, self._dtype).reshape(-1, self._length)
