"""The tokens of sequences that are cut from documents laid end to end, for whole batches: rows of one size."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.sequences.packing import IntArray
from arrowstream.sequences.tokens import AnyArray, Copy, TokenShard
from arrowstream.windows import RowWindow


class CutTokens:
    """Gathers concatenated sequences of the shards that were placed.

    Args:
        num_shards: Of the dataset.
        seq_len: Tokens of a sequence.
        pad_id: Token that fills up sequences.
        dtype: Of the tokens.
    """

    def __init__(self, num_shards: int, seq_len: int, pad_id: int, dtype: np.dtype[Any]) -> None:
        self._length = seq_len
        self._pad_id = pad_id
        # A slot is a record batch; all slots lie end to end, counted in tokens.
        self._window = RowWindow(dtype, (seq_len,))
        self._shards: dict[int, TokenShard] = {}
        self._slots: dict[int, range] = {}  # of each shard that was ever placed; they are its own for good
        self._first_tokens: IntArray = np.zeros(num_shards, np.int64)
        self._slot_starts: IntArray = np.zeros(1, np.int64)  # (slots + 1,)

    def place(self, number: int, shard: TokenShard) -> None:
        """Take note of where the tokens of a shard lie."""
        slots = self._slots.get(number)
        if slots is None:
            first = len(self._slot_starts) - 1
            slots = self._slots[number] = range(first, first + len(shard.values))
            self._first_tokens[number] = self._slot_starts[-1]
            self._slot_starts = np.concatenate([self._slot_starts, self._slot_starts[-1] + shard.starts[1:]])
            self._window.resize(slots.stop)
        for slot, values in zip(slots, shard.values, strict=True):
            if len(values):
                self._window.place(slot, values)
        self._shards[number] = shard

    def release(self, number: int) -> None:
        """Forget a shard."""
        for slot in self._slots[number]:
            self._window.release(slot)
        del self._shards[number]

    def find(self, shards: IntArray, rows: IntArray, batch_size: int) -> list[Copy]:
        """Look up sequences.

        Args:
            shards: That were placed, int64 of shape (n,).
            rows: Numbers of sequences in those shards; **not checked**, int64 of shape (n,).
            batch_size: Sequences of each batch but the last.

        Returns:
            What copies the tokens of each batch, as long as none of the shards is released.
        """
        places = self._first_tokens[shards] + rows * self._length  # (n,), in tokens of all slots
        slots = np.searchsorted(self._slot_starts, places, "right") - 1
        whole = places + self._length <= self._slot_starts[slots + 1]
        places -= self._slot_starts[slots]
        copies: list[Copy] = []
        for start in range(0, max(len(shards), 1), batch_size):
            part = slice(start, start + batch_size)
            copies.append(partial(self._copy, shards[part], rows[part], slots[part], places[part], whole[part]))
        return copies

    def _copy(
        self, shards: IntArray, rows: IntArray, slots: IntArray, offsets: IntArray, whole: npt.NDArray[np.bool_]
    ) -> AnyArray:
        tokens = self._gather_whole(slots, offsets, whole)
        # Few: those that lie across the end of a record batch, or have padding.
        for number in np.flatnonzero(~whole).tolist():
            self._lay(self._shards[int(shards[number])].views(int(rows[number])), tokens[number])
        return tokens

    def _gather_whole(self, slots: IntArray, offsets: IntArray, whole: npt.NDArray[np.bool_]) -> AnyArray:
        if not whole.any():
            return np.empty((len(slots), self._length), self._window.dtype)
        if not whole.all():
            # Any sequence will do in place of those that follow.
            some = int(whole.argmax())
            slots, offsets = np.where(whole, slots, slots[some]), np.where(whole, offsets, offsets[some])
        return self._window.gather_from(slots, offsets)

    def _lay(self, views: list[AnyArray], out: AnyArray) -> None:
        start = 0
        for view in views:
            out[start : start + len(view)] = view
            start += len(view)
        out[start:] = self._pad_id
