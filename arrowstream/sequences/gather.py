"""Sequences of batches, from whatever shards they lie in to one array a field."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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
from arrowstream.sequences.tokens import AnyArray, Copy

# Sequences that are looked up together, where their shards are at hand: of 8 batches of 256 that takes 90 µs, of one
# by one 270, and the numbers of their pieces still fit into the processor's cache.
_LOOKED_UP = 2048


class _Found(NamedTuple):
    """What a batch is made of.

    Attributes:
        tokens: Copies them; None where no tokens are wanted.
        pieces: Document and tokens of each piece, int64 of shape (pieces, 2); None where only tokens are wanted.
    """

    tokens: Copy | None
    pieces: IntArray | None


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
        self, ids: IntArray, shards: IntArray, rows: IntArray, batch_size: int, prefetcher: Prefetcher | None = None
    ) -> Iterator[dict[str, Any]]:
        """Read fields that own their memory: (n, seq_len), but ``cu_seqlens``, which counts through the whole batch."""
        del ids
        step = max(_LOOKED_UP // batch_size, 1) * batch_size
        for start in range(0, max(len(shards), 1), step):
            yield from self._read(shards[start : start + step], rows[start : start + step], batch_size, prefetcher)

    def marked(self, batch: dict[str, Any], padding: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Add the column."""
        return {**batch, PADDING: self._form.array(padding)}

    def _read(
        self, shards: IntArray, rows: IntArray, batch_size: int, prefetcher: Prefetcher | None
    ) -> Iterator[dict[str, Any]]:
        ahead = self._find(shards, rows, batch_size) if self._is_bound[shards].all() else []
        num_closed = self._num_closed
        for number, start in enumerate(range(0, max(len(shards), 1), batch_size)):
            if ahead and self._num_closed == num_closed:
                found = ahead[number]
            else:
                part = slice(start, start + batch_size)
                self._make_ready(shards[part], prefetcher)
                (found,) = self._find(shards[part], rows[part], batch_size)
            batch = {name: self._form.array(self._field(name, found)) for name in self._fields}
            self._release_closed()
            yield batch

    def _field(self, name: str, found: _Found) -> AnyArray:
        if found.pieces is not None and name != "tokens":
            return self._borders.field(name, found.pieces)
        if found.tokens is not None:
            return found.tokens()
        return np.empty((0, self._reader.packing.seq_len), self._reader.dtype)  # of no sequences at all

    def _find(self, shards: IntArray, rows: IntArray, batch_size: int) -> list[_Found]:
        """Look sequences up, batch by batch, at least one; their shards are bound."""
        num_batches = max(-(-len(shards) // batch_size), 1)
        copies: Sequence[Copy | None] = [None] * num_batches
        pieces: Sequence[IntArray | None] = [None] * num_batches
        if self._tokens is not None:
            copies = self._tokens.find(shards, rows, batch_size)
        if self._documents is not None:
            pieces = self._documents.find(shards, rows, batch_size)
        return [_Found(*parts) for parts in zip(copies, pieces, strict=True)]

    def _make_ready(self, shards: IntArray, prefetcher: Prefetcher | None) -> None:
        is_bound = self._is_bound[shards]
        if not is_bound.all():
            for number in dict.fromkeys(shards[~is_bound].tolist()):
                self._bind(number, prefetcher)

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
