from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.sequences.extents import Extents, address_of
from arrowstream.sequences.packing import best_fit, concatenated
from arrowstream.sequences.piece_table import PieceTable

LENGTHS = st.lists(st.integers(0, 40), max_size=60)


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def naive_best_fit(lengths: list[int], seq_len: int) -> list[list[int]]:
    """Best-fit decreasing as textbooks have it, one item at a time."""
    items = [seq_len for length in lengths for _ in range(length // seq_len)]
    items += [length % seq_len for length in lengths if length % seq_len]
    bins: list[list[int]] = []
    for item in sorted(items, reverse=True):
        fitting = [each for each in bins if sum(each) + item <= seq_len]
        # Of several that are as full, the one that was filled last.
        chosen = max(reversed(fitting), key=sum) if fitting else []
        bins = [*(each for each in bins if each is not chosen), chosen]
        chosen.append(item)
    return bins


@given(LENGTHS, st.integers(1, 20))
def test_best_fit_holds_every_token_once_and_cuts_only_what_does_not_fit(lengths: list[int], seq_len: int) -> None:
    bins = best_fit(offsets_of(lengths), seq_len)
    tokens = [
        token
        for start, length in zip(bins.pieces.starts.tolist(), bins.pieces.lengths.tolist(), strict=True)
        for token in range(start, start + length)
    ]
    assert sorted(tokens) == list(range(sum(lengths)))
    held = np.bincount(bins.pieces.documents, minlength=len(lengths)).tolist()
    assert held == [-(-length // seq_len) for length in lengths]
    for document, start, length in zip(*bins.pieces, strict=True):
        assert offsets_of(lengths)[document] <= start
        assert start + length <= offsets_of(lengths)[document + 1]


@given(LENGTHS, st.integers(1, 20))
def test_best_fit_fills_as_the_textbook_does(lengths: list[int], seq_len: int) -> None:
    bins = best_fit(offsets_of(lengths), seq_len)
    found = [sorted(bins.of(number).pieces.lengths.tolist()) for number in range(len(bins))]
    assert sorted(found) == sorted(sorted(each) for each in naive_best_fit(lengths, seq_len))


@given(LENGTHS, st.integers(1, 20))
def test_at_most_one_sequence_of_best_fit_is_half_empty(lengths: list[int], seq_len: int) -> None:
    bins = best_fit(offsets_of(lengths), seq_len)
    filled = sorted(int(bins.of(number).pieces.lengths.sum()) for number in range(len(bins)))
    assert all(0 < each <= seq_len for each in filled)
    assert len(filled) < 2 or filled[0] + filled[1] > seq_len


@given(LENGTHS, st.integers(1, 20))
def test_sequences_of_best_fit_follow_the_documents(lengths: list[int], seq_len: int) -> None:
    bins = best_fit(offsets_of(lengths), seq_len)
    pieces = [bins.of(number).pieces for number in range(len(bins))]
    assert [each.starts[0] for each in pieces] == sorted(each.starts[0] for each in pieces)
    assert all((np.diff(each.starts) > 0).all() for each in pieces)


@given(LENGTHS, st.integers(1, 20), st.booleans())
def test_concatenated_sequences_know_the_document_of_every_token(lengths: list[int], seq_len: int, rest: bool) -> None:
    expected = [document for document, length in enumerate(lengths) for _ in range(length)]
    num_sequences = -(-len(expected) // seq_len) if rest else len(expected) // seq_len
    bins = concatenated(offsets_of(lengths), seq_len, num_sequences)
    assert len(bins) == num_sequences
    for number in range(num_sequences):
        start = number * seq_len
        stop = min(start + seq_len, len(expected))
        pieces = bins.of(number).pieces
        assert np.repeat(pieces.documents, pieces.lengths).tolist() == expected[start:stop]
        assert (pieces.starts + pieces.lengths).tolist() == [*pieces.starts[1:].tolist(), stop]
        assert pieces.starts[0] == start
        assert pieces.lengths.min() > 0


@given(LENGTHS, st.integers(1, 20))
def test_padding_is_the_last_piece_of_what_is_not_full(lengths: list[int], seq_len: int) -> None:
    bins = best_fit(offsets_of(lengths), seq_len)
    padded = bins.padded(seq_len) if len(bins) else bins
    assert len(padded) == len(bins)
    for number in range(len(bins)):
        (documents, starts, held), _ = bins.of(number)
        filled, _ = padded.of(number)
        missing = seq_len - int(held.sum())
        assert filled.documents.tolist() == [*documents.tolist(), *[-1] * (missing > 0)]
        assert filled.starts.tolist() == [*starts.tolist(), *[0] * (missing > 0)]
        assert filled.lengths.tolist() == [*held.tolist(), *[missing] * (missing > 0)]


ARRAYS = st.lists(st.binary(max_size=600), min_size=1, max_size=6)


@given(ARRAYS, st.integers(1, 12), st.randoms(use_true_random=False))
def test_parts_of_arrays_are_copied_as_slices_are(held: list[bytes], num_parts: int, random: Random) -> None:
    arrays = [np.frombuffer(each, np.uint8) for each in held]
    extents = Extents()
    for number, array in enumerate(arrays):
        extents.keep(number, [array])
    chosen = [random.randrange(len(held)) for _ in range(num_parts)]
    slices = [sorted(random.choices(range(len(held[number]) + 1), k=2)) for number in chosen]
    addresses = [
        [address_of(arrays[number]) + start, address_of(arrays[number]) + stop]
        for number, (start, stop) in zip(chosen, slices, strict=True)
    ]
    expected = b"".join(held[number][slice(*each)] for number, each in zip(chosen, slices, strict=True))
    copied = extents.copy(np.array(addresses), np.dtype(np.uint8))
    assert copied.tobytes() == expected
    assert copied.flags.writeable


def test_one_part_can_be_all_there_is_and_none_is_nothing() -> None:
    array = np.arange(100_000, dtype=np.uint16)
    extents = Extents()
    extents.keep(0, [array])
    first = address_of(array)
    copied = extents.copy(np.array([[first, first + array.nbytes]] * 3), array.dtype)
    assert np.array_equal(copied, np.concatenate([array] * 3))
    assert address_of(copied) % 64 == 0
    assert extents.copy(np.empty((0, 2), np.int64), array.dtype).shape == (0,)


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=9), min_size=1, max_size=5), st.data())
def test_tables_are_looked_up_across_shards(shards: list[list[int]], drawn: st.DataObject) -> None:
    table = PieceTable(len(shards))
    lines = []  # of each shard, of each sequence
    for number, counts in enumerate(shards):
        firsts = offsets_of(counts)
        pieces = np.arange(2 * firsts[-1]).reshape(-1, 2) + 1000 * number
        table.place(number, firsts, pieces)
        lines.append(np.split(pieces, firsts[1:-1]))
    # What was placed again lies elsewhere.
    again = drawn.draw(st.integers(0, len(shards) - 1))
    table.release(again)
    table.place(again, offsets_of(shards[again]), np.concatenate(lines[again]))
    wanted = drawn.draw(st.lists(st.sampled_from([(s, r) for s, c in enumerate(shards) for r in range(len(c))])))
    batch_size = drawn.draw(st.integers(1, 5))
    numbers = np.array(wanted, np.int64).reshape(-1, 2)
    found = table.find(numbers[:, 0], numbers[:, 1], batch_size)
    assert [batch.tolist() for batch in found] == [
        [line for shard, row in wanted[start : start + batch_size] for line in lines[shard][row].tolist()]
        for start in range(0, max(len(wanted), 1), batch_size)
    ]
