"""The tokens of sequences that best fit packed, for whole batches: a few steps of NumPy, however many documents.

The tables that say which pieces a sequence holds are rows of one size too, and are gathered as rows are.
"""

import numpy as np

from arrowstream.sequences.packing import IntArray
from arrowstream.sequences.tokens import AnyArray, TokenShard
from arrowstream.windows import RowWindow

_INT = np.dtype(np.int64)


class PackedTokens:
    """Gathers packed sequences of the shards that were placed.

    Args:
        num_shards: Of the dataset.
        seq_len: Tokens of a sequence.
        pad_id: Token that fills up sequences.
        window: The tokens of all record batches.
        padding_slot: A slot of the window that is free.
    """

    def __init__(self, num_shards: int, seq_len: int, pad_id: int, window: RowWindow, padding_slot: int) -> None:
        self._length = seq_len
        self._window = window
        self._padding_slot = padding_slot
        window.place(padding_slot, np.full(seq_len, pad_id, window.dtype))
        self._firsts = RowWindow(_INT, (2,))  # by shard: number of the first piece of a sequence, and of the next one's
        self._pieces = RowWindow(_INT, (3,))  # by shard: slot, first token in it, and tokens of each piece
        self._firsts.resize(num_shards)
        self._pieces.resize(num_shards)

    def place(self, number: int, shard: TokenShard, first_slot: int) -> None:
        """Take note of the sequences of a shard, whose record batches are the slots from a number on."""
        firsts, pieces = shard.packed_pieces(first_slot)
        if len(pieces):
            self._firsts.place(number, firsts)
            self._pieces.place(number, pieces)

    def release(self, number: int) -> None:
        """Forget a shard."""
        self._firsts.release(number)
        self._pieces.release(number)

    def gather(self, shards: IntArray, rows: IntArray) -> AnyArray:
        """Copy the tokens of sequences.

        Args:
            shards: That were placed, int64 of shape (n,).
            rows: Numbers of sequences in those shards; **not checked**, int64 of shape (n,).

        Returns:
            (n, seq_len), owning its memory.
        """
        firsts, behind = self._firsts.gather_from(shards, rows).T  # (n,)
        counts = behind - firsts
        starts = counts.cumsum() - counts  # of each sequence, in pieces of the batch
        numbers = np.arange(int(counts.sum())) + (firsts - starts).repeat(counts)
        slots, tokens, lengths = self._pieces.gather(shards.repeat(counts), numbers).T  # (pieces,)
        filled = np.add.reduceat(lengths, starts)  # (n,), in tokens
        own = np.arange(len(shards)) * self._length
        to = lengths.cumsum() - lengths + (own - (filled.cumsum() - filled)).repeat(counts)
        short = np.flatnonzero(filled < self._length)  # sequences that end with padding
        if len(short):
            slots = np.concatenate([slots, np.full(len(short), self._padding_slot)])
            tokens = np.concatenate([tokens, np.zeros(len(short), np.int64)])
            lengths = np.concatenate([lengths, self._length - filled[short]])
            to = np.concatenate([to, own[short] + filled[short]])
        gathered = np.empty((len(shards), self._length), self._window.dtype)
        self._window.gather_pieces(slots, tokens, lengths, to, gathered)
        return gathered
