from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.sequences.packing import best_fit, concatenated
from arrowstream.windows import RowWindow

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
    found = [sorted(bins.of(number).lengths.tolist()) for number in range(len(bins))]
    assert sorted(found) == sorted(sorted(each) for each in naive_best_fit(lengths, seq_len))


@given(LENGTHS, st.integers(1, 20))
def test_at_most_one_sequence_of_best_fit_is_half_empty(lengths: list[int], seq_len: int) -> None:
    bins = best_fit(offsets_of(lengths), seq_len)
    filled = sorted(int(bins.of(number).lengths.sum()) for number in range(len(bins)))
    assert all(0 < each <= seq_len for each in filled)
    assert len(filled) < 2 or filled[0] + filled[1] > seq_len


@given(LENGTHS, st.integers(1, 20))
def test_sequences_of_best_fit_follow_the_documents(lengths: list[int], seq_len: int) -> None:
    bins = best_fit(offsets_of(lengths), seq_len)
    pieces = [bins.of(number) for number in range(len(bins))]
    assert [each.starts[0] for each in pieces] == sorted(each.starts[0] for each in pieces)
    assert all((np.diff(each.starts) > 0).all() for each in pieces)


@given(LENGTHS, st.integers(1, 20))
def test_concatenated_sequences_know_the_document_of_every_token(lengths: list[int], seq_len: int) -> None:
    expected = [document for document, length in enumerate(lengths) for _ in range(length)]
    for start in range(0, len(expected), seq_len):
        stop = min(start + seq_len, len(expected))
        pieces = concatenated(offsets_of(lengths), start, stop)
        assert np.repeat(pieces.documents, pieces.lengths).tolist() == expected[start:stop]
        assert (pieces.starts + pieces.lengths).tolist() == [*pieces.starts[1:].tolist(), stop]
        assert pieces.starts[0] == start
        assert pieces.lengths.min() > 0


@given(
    st.sampled_from(["uint8", "uint16", "int64"]),
    st.lists(st.integers(1, 700), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_pieces_of_any_length_are_gathered_as_slices_are(dtype: str, lengths: list[int], random: Random) -> None:
    kind = np.dtype(dtype)
    slots = [np.arange(start, start + 900).astype(kind) for start in (0, 77, 300)]
    window = RowWindow(kind, (1,))
    window.resize(len(slots))
    for number, values in enumerate(slots):
        window.place(number, values)
    chosen = [random.randrange(len(slots)) for _ in lengths]
    starts = [random.randrange(900 - length + 1) for length in lengths]
    ends = np.cumsum(lengths)
    order = random.sample(range(len(lengths)), len(lengths))  # where they go is not where they are listed
    gathered = np.empty(int(ends[-1]), kind)
    columns = (np.array([column[number] for number in order]) for column in (chosen, starts, lengths, ends - lengths))
    window.gather_pieces(*columns, gathered)
    pieces = [slots[slot][start : start + n] for slot, start, n in zip(chosen, starts, lengths, strict=True)]
    assert np.array_equal(gathered, np.concatenate(pieces))
