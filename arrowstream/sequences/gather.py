"""Sequences of a batch, from whatever shards they lie in to one array a field."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.batch_forms import BatchForm
from arrowstream.padding import PADDING
from arrowstream.prefetch import Prefetcher
from arrowstream.sequences.borders import Borders
from arrowstream.sequences.packed import PackedTokens
from arrowstream.sequences.packing import IntArray
from arrowstream.sequences.reader import SequenceReader
from arrowstream.sequences.tokens import AnyArray
from arrowstream.windows import RowWindow


class SequenceBatchReader:
    """Reads batches of sequences. One thread at a time may use it.

    What it keeps grows with shards and record batches, never with documents or tokens.

    Args:
        reader: Opens the shards.
        fields: What is wanted of the sequences.
        form: What to make of the arrays.
    """

    def __init__(self, reader: SequenceReader, fields: Sequence[str] | None, form: BatchForm) -> None:
        self._reader = reader
        self._fields = reader.check_columns(fields)
        self._form = form
        self._length = reader.packing.seq_len
        num_shards = len(reader.samples_per_shard)
        # A slot is a record batch; all slots lie end to end, counted in tokens.
        self._window: RowWindow | None = None
        self._packed: PackedTokens | None = None  # with best fit
        self._slots: dict[int, range] = {}  # of each shard that was ever opened here
        self._bound: set[int] = set()
        self._is_bound = np.zeros(num_shards, np.bool_)
        self._first_tokens: IntArray = np.zeros(num_shards, np.int64)
        self._slot_starts: IntArray = np.zeros(1, np.int64)  # (slots + 1,)
        self._num_closed = reader.num_closed

    def read(
        self, ids: IntArray, shards: IntArray, rows: IntArray, batch_size: int, prefetcher: Prefetcher | None = None
    ) -> Iterator[dict[str, Any]]:
        """Read fields that own their memory: (n, seq_len), but ``cu_seqlens``, which counts through the whole batch."""
        del ids
        for start in range(0, max(len(shards), 1), batch_size):
            yield self._read(shards[start : start + batch_size], rows[start : start + batch_size], prefetcher)

    def _read(self, shards: IntArray, rows: IntArray, prefetcher: Prefetcher | None) -> dict[str, Any]:
        arrays: dict[str, AnyArray] = {}
        borders: Borders | None = None
        for name in self._fields:
            if name == "tokens":
                arrays[name] = self._tokens(shards, rows, prefetcher)
                continue
            if borders is None:
                borders = self._borders(shards, rows, prefetcher)
            arrays[name] = borders.field(name)
        return {name: self._form.array(array) for name, array in arrays.items()}

    def marked(self, batch: dict[str, Any], padding: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Add the column."""
        return {**batch, PADDING: self._form.array(padding)}

    def _borders(self, shards: IntArray, rows: IntArray, prefetcher: Prefetcher | None) -> Borders:
        numbers = shards.tolist()
        pieces = [
            self._reader.tokens(shard, prefetcher).pieces(row)
            for shard, row in zip(numbers, rows.tolist(), strict=True)
        ]
        return Borders(pieces, [self._reader.first_documents[shard] for shard in numbers], self._length)

    def _tokens(self, shards: IntArray, rows: IntArray, prefetcher: Prefetcher | None) -> AnyArray:
        if not self._is_bound[shards].all():
            for shard in dict.fromkeys(shards[~self._is_bound[shards]].tolist()):
                self._bind(shard, prefetcher)
        tokens = self._cut(shards, rows, prefetcher) if self._packed is None else self._packed.gather(shards, rows)
        self._release_closed()
        return tokens

    def _cut(self, shards: IntArray, rows: IntArray, prefetcher: Prefetcher | None) -> AnyArray:
        """Gather sequences that lie end to end."""
        places = self._first_tokens[shards] + rows * self._length  # (n,), in tokens of all slots
        slots = np.searchsorted(self._slot_starts, places, "right") - 1
        whole = places + self._length <= self._slot_starts[slots + 1]
        tokens = self._gather(slots, places - self._slot_starts[slots], whole)
        # Few: those that lie across the end of a record batch, or have padding.
        for number in np.flatnonzero(~whole).tolist():
            views = self._reader.tokens(int(shards[number]), prefetcher).views(int(rows[number]))
            self._lay(views, tokens[number])
        return tokens

    def _gather(self, slots: IntArray, offsets: IntArray, whole: npt.NDArray[np.bool_]) -> AnyArray:
        if self._window is None or not whole.any():
            return np.empty((len(slots), self._length), self._reader.dtype)
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
        out[start:] = self._reader.pad_id

    def _bind(self, shard: int, prefetcher: Prefetcher | None) -> None:
        """Take note of where the tokens of a shard lie; its slots are numbers, and its own for good."""
        tokens = self._reader.tokens(shard, prefetcher)
        window = self._window or self._open_window(tokens.dtype)
        slots = self._slots.get(shard)
        if slots is None:
            first = len(self._slot_starts) - 1
            slots = self._slots[shard] = range(first, first + len(tokens.values))
            self._first_tokens[shard] = self._slot_starts[-1]
            self._slot_starts = np.concatenate([self._slot_starts, self._slot_starts[-1] + tokens.starts[1:]])
            window.resize(slots.stop)
        for slot, values in zip(slots, tokens.values, strict=True):
            if len(values):
                window.place(slot, values)
        if self._packed is not None:
            self._packed.place(shard, tokens, slots.start)
        self._bound.add(shard)
        self._is_bound[shard] = True

    def _open_window(self, dtype: np.dtype[Any]) -> RowWindow:
        window = self._window = RowWindow(dtype, (self._length,))
        if self._reader.packing.method == "best_fit":
            self._slot_starts = np.zeros(2, np.int64)  # the first slot is that of padding
            window.resize(1)
            self._packed = PackedTokens(len(self._is_bound), self._length, self._reader.pad_id, window, 0)
        return window

    def _release_closed(self) -> None:
        """Let go of what the reader has closed; not before the batch that needed it is read."""
        if self._num_closed == self._reader.num_closed:
            return
        self._num_closed = self._reader.num_closed
        for shard in [shard for shard in self._bound if not self._reader.has(shard)]:
            for slot in self._slots[shard]:
                if self._window is not None:
                    self._window.release(slot)
            if self._packed is not None:
                self._packed.release(shard)
            self._bound.discard(shard)
            self._is_bound[shard] = False
