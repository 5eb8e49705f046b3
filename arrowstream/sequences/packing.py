"""How the documents of a shard become sequences of one length: pure functions of the documents' lengths.

*Concatenated*: the documents of a shard are laid end to end and cut every ``seq_len`` tokens.

*Best fit*: a document that is longer than a sequence is cut, and its whole pieces are sequences by themselves; what is
left, and every shorter document, goes as one piece into the fullest sequence that still has room for it, the longest
first. This is best-fit decreasing (Johnson 1973), proposed for training by Ding et al., *Fewer Truncations Improve
Language Modeling* (2024). Documents of one length are placed together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Method = Literal["concat", "best_fit"]
Remainder = Literal["drop", "pad"]
METHODS: tuple[Method, ...] = get_args(Method)
REMAINDERS: tuple[Remainder, ...] = get_args(Remainder)


class Pieces(NamedTuple):
    """Parts of documents, in the sequence in which they stand; each int64 of shape (n,).

    Attributes:
        documents: Rows of the documents in their shard.
        starts: Where the parts begin, in tokens of the shard.
        lengths: Tokens, more than 0.
    """

    documents: IntArray
    starts: IntArray
    lengths: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """What the sequences of a dataset are.

    Attributes:
        column: The column of tokens.
        seq_len: Tokens of a sequence.
        method: ``concat`` or ``best_fit``.
        remainder: What becomes of the last tokens of a shard that fill no sequence: with ``concat``, ``drop`` or
            ``pad``; ``best_fit`` drops nothing.
        dtype: Of the tokens, where the column is of bytes or text; None where it says so itself.

    Raises:
        ValueError: A value is unknown or out of range.
    """

    column: str
    seq_len: int
    method: Method = "concat"
    remainder: Remainder = "drop"
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.seq_len < 1:
            raise ValueError(f"seq_len is {self.seq_len}; expected at least 1 token")
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; expected one of {', '.join(map(repr, METHODS))}")
        if self.remainder not in REMAINDERS:
            raise ValueError(f"remainder is {self.remainder!r}; expected one of {', '.join(map(repr, REMAINDERS))}")
        if self.dtype is not None and np.dtype(self.dtype).kind not in "iu":
            raise ValueError(f"dtype is {self.dtype!r}; tokens are integers")

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides which tokens stand in which sequence, in JSON values."""
        settings: dict[str, Any] = {"column": self.column, "seq_len": self.seq_len, "method": self.method}
        if self.method == "concat":
            settings["remainder"] = self.remainder
        if self.dtype is not None:
            settings["dtype"] = np.dtype(self.dtype).name
        return settings

    def count_concatenated(self, num_tokens: int) -> int:
        """Count the sequences that tokens end to end are cut into."""
        return num_tokens // self.seq_len if self.remainder == "drop" else -(-num_tokens // self.seq_len)


class Bins(NamedTuple):
    """The sequences of a shard.

    Attributes:
        pieces: Of all sequences, one sequence behind the other, within each in the documents' order.
        firsts: Number of the first piece of each sequence, and of all pieces: int64 of shape (sequences + 1,).
    """

    pieces: Pieces
    firsts: IntArray

    def __len__(self) -> int:
        return len(self.firsts) - 1

    def of(self, sequence: int) -> "Bins":
        """Give one sequence alone."""
        first, behind = self.firsts[sequence : sequence + 2].tolist()
        pieces = Pieces(*(values[first:behind] for values in self.pieces))
        return Bins(pieces, np.array([0, behind - first], np.int64))

    def padded(self, seq_len: int) -> "Bins":
        """Give every sequence that is not full one more piece, of what is missing, of document -1 and from token 0."""
        (documents, starts, lengths), firsts = self
        missing = seq_len - np.add.reduceat(lengths, firsts[:-1])  # (sequences,)
        short = np.flatnonzero(missing)
        if not len(short):
            return self
        ends = firsts[1:][short]
        pieces = Pieces(
            np.insert(documents, ends, -1), np.insert(starts, ends, 0), np.insert(lengths, ends, missing[short])
        )
        return Bins(pieces, firsts + np.searchsorted(short, np.arange(len(firsts))))


def concatenated(offsets: IntArray, seq_len: int, num_sequences: int) -> Bins:
    """Cut documents that are laid end to end.

    Args:
        offsets: Where the documents begin and the last one ends, int64 of shape (documents + 1,).
        seq_len: Tokens of a sequence.
        num_sequences: That are wanted; the last one may be short, and the tokens behind it are left out.

    Returns:
        Sequences in the order of the documents.
    """
    cuts = np.arange(num_sequences + 1) * seq_len
    cuts[-1] = stop = min(cuts[-1], offsets[-1])
    borders = np.unique(np.concatenate([offsets[offsets < stop], cuts]))  # (pieces + 1,)
    starts = borders[:-1]
    documents = np.searchsorted(offsets, starts, "right") - 1
    return Bins(Pieces(documents, starts, np.diff(borders)), np.searchsorted(borders, cuts))


def best_fit(offsets: IntArray, seq_len: int) -> Bins:
    """Put the documents of a shard into sequences, as full as they will get.

    Args:
        offsets: Where the documents begin and the last one ends, int64 of shape (documents + 1,).
        seq_len: Tokens that a sequence has room for.

    Returns:
        Sequences in the order of the first document that each holds.
    """
    pieces = _cut(offsets, seq_len)
    if not len(pieces.lengths):
        return Bins(pieces, np.zeros(1, np.int64))
    by_length = np.argsort(-pieces.lengths, kind="stable")
    bins = np.empty(len(by_length), np.int64)
    bins[by_length] = _fill(pieces.lengths[by_length], seq_len)
    # The sequences are numbered anew, so that without a shuffle the data's own order shows.
    _, first_pieces, numbers = np.unique(bins, return_index=True, return_inverse=True)
    rank = np.empty(len(first_pieces), np.int64)
    rank[np.argsort(first_pieces, kind="stable")] = np.arange(len(first_pieces))
    bins = rank[numbers]
    by_bin = np.argsort(bins, kind="stable")
    firsts = np.zeros(len(first_pieces) + 1, np.int64)
    np.cumsum(np.bincount(bins, minlength=len(first_pieces)), out=firsts[1:])
    return Bins(Pieces(*(values[by_bin] for values in pieces)), firsts)


def _cut(offsets: IntArray, seq_len: int) -> Pieces:
    """Cut what is longer than a sequence; leave out what is empty."""
    lengths = np.diff(offsets)
    num_pieces = -(-lengths // seq_len)  # (documents,)
    documents = np.repeat(np.arange(len(lengths), dtype=np.int64), num_pieces)
    first = np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)
    skipped = (np.arange(len(documents), dtype=np.int64) - first) * seq_len
    return Pieces(documents, offsets[documents] + skipped, np.minimum(lengths[documents] - skipped, seq_len))


def _fill(lengths: IntArray, seq_len: int) -> IntArray:
    """Choose a bin for each piece, by best fit.

    Args:
        lengths: Descending, in [1, seq_len], int64 of shape (n,).
        seq_len: Room of a bin.

    Returns:
        Numbers of bins, int64 of shape (n,).
    """
    room: dict[int, list[int]] = {}  # bins by the tokens that they still have room for
    open_rooms = 0  # bit r is set where bins have room for r
    bins: list[int] = []
    counts: list[int] = []  # of pieces that go into each of these, one behind the other
    num_bins = 0
    for length, count in zip(*_runs(lengths), strict=True):
        left = count
        while left:
            fitting = open_rooms >> length
            if fitting:
                size = length + (fitting & -fitting).bit_length() - 1
                chosen = room[size].pop()
                if not room[size]:
                    open_rooms ^= 1 << size
            else:
                size, chosen, num_bins = seq_len, num_bins, num_bins + 1
            # Best fit goes on with the bin that it has just begun, as long as that has room for another one.
            placed = min(size // length, left)
            bins.append(chosen)
            counts.append(placed)
            left -= placed
            size -= placed * length
            room.setdefault(size, []).append(chosen)
            open_rooms |= 1 << size
    return np.repeat(np.array(bins, np.int64), counts)


def _runs(values: IntArray) -> tuple[list[int], list[int]]:
    """Give the values that stand next to each other, and how often."""
    firsts = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(np.diff(values)) + 1])
    return values[firsts].tolist(), np.diff(firsts, append=len(values)).tolist()
