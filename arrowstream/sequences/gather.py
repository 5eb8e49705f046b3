"""Sequences of a batch, from whatever shards they lie in to one array a field."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.batch_forms import BatchForm
from arrowstream.padding import PADDING
from arrowstream.prefetch import Prefetcher
from arrowstream.sequences.borders import Borders
from arrowstream.sequences.cut import CutTokens
from arrowstream.sequences.packed import PackedTokens
from arrowstream.sequences.packing import IntArray
from arrowstream.sequences.piece_table import PieceTable
from arrowstream.sequences.reader import SequenceReader
from arrowstream.sequences.tokens import AnyArray


class SequenceBatchReader:
    """Reads batches of sequences. One thread at a time may use it.

    For the shards that are open it keeps tables of their pieces: 16 bytes a piece where best fit packed the tokens,
    and as many where more than tokens is wanted. What it keeps of others grows with shards and record batches.

    Args:
        reader: Opens the shards.
        fields: What is wanted of the sequences.
        form: What to make of the arrays.
    """

    def __init__(self, reader: SequenceReader, fields: Sequence[str] | None, form: BatchForm) -> None:
        self._reader = reader
        self._fields = reader.check_columns(fields)
        self._form = form
        num_shards = len(reader.samples_per_shard)
        self._tokens: CutTokens | PackedTokens | None = None  # from the first shard on
        self._borders = Borders(reader.packing.seq_len)
        self._documents = PieceTable(num_shards) if set(self._fields) != {"tokens"} else None
        self._bound: set[int] = set()
        self._is_bound = np.zeros(num_shards, np.bool_)
        self._num_closed = reader.num_closed

    def read(
        self, ids: IntArray, shards: IntArray, rows: IntArray, prefetcher: Prefetcher | None = None
    ) -> dict[str, Any]:
        """Read fields that own their memory: (n, seq_len), but ``cu_seqlens``, which counts through the whole batch."""
        del ids
        is_bound = self._is_bound[shards]
        if not is_bound.all():
            for shard in dict.fromkeys(shards[~is_bound].tolist()):
                self._bind(shard, prefetcher)
        pieces = None if self._documents is None else self._documents.gather(shards, rows)
        batch = {name: self._form.array(self._field(name, shards, rows, pieces)) for name in self._fields}
        self._release_closed()
        return batch

    def marked(self, batch: dict[str, Any], padding: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Add the column."""
        return {**batch, PADDING: self._form.array(padding)}

    def _field(self, name: str, shards: IntArray, rows: IntArray, pieces: IntArray | None) -> AnyArray:
        if name != "tokens":
            assert pieces is not None
            return self._borders.field(name, pieces)
        assert self._tokens is not None
        return self._tokens.gather(shards, rows)

    def _bind(self, number: int, prefetcher: Prefetcher | None) -> None:
        """Take note of what a shard holds, and where."""
        shard = self._reader.tokens(number, prefetcher)
        if "tokens" in self._fields:
            self._tokens = self._tokens or self._open_tokens(shard.dtype)
            self._tokens.place(number, shard)
        if self._documents is not None:
            self._documents.place(number, *self._borders.pieces(shard.bins, self._reader.first_documents[number]))
        self._bound.add(number)
        self._is_bound[number] = True

    def _open_tokens(self, dtype: np.dtype[Any]) -> CutTokens | PackedTokens:
        packing = self._reader.packing
        kind = PackedTokens if packing.method == "best_fit" else CutTokens
        return kind(len(self._is_bound), packing.seq_len, self._reader.pad_id, dtype)

    def _release_closed(self) -> None:
        """Let go of what the reader has closed; not before the batch that needed it is read."""
        if self._num_closed == self._reader.num_closed:
            return
        self._num_closed = self._reader.num_closed
        for number in [number for number in self._bound if not self._reader.has(number)]:
            for part in (self._tokens, self._documents):
                if part is not None:
                    part.release(number)
            self._bound.discard(number)
            self._is_bound[number] = False
