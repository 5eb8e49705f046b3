"""A shuffle in blocks is what its blocks' permutations say, however few of them are kept."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.plan.block_shuffle import BlockShuffle


def shuffled(
    key: tuple[int, int, int], lengths: list[int], block_size: int, *, offset: int
) -> list[tuple[int, int, int]]:
    """Give (run, place after the shuffle, place before it) of all samples, block by block as it is defined."""
    seed, epoch, shuffle = key
    found = []
    for run, length in enumerate(lengths):
        for block, begin in enumerate(range(-offset, length, block_size)):
            start, stop = max(begin, 0), min(begin + block_size, length)
            if start >= stop:
                continue
            permutation = np.random.default_rng((seed, epoch, run, shuffle, block)).permutation(stop - start)
            found += [(run, start + after, start + before) for after, before in enumerate(permutation.tolist())]
    return found


@given(
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 2**40),
    shuffle=st.integers(0, 5),
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    block_size=st.integers(1, 80),
    kept=st.integers(1, 4),
    data=st.data(),
)
def test_samples_go_where_their_block_says(
    seed: int, epoch: int, shuffle: int, lengths: list[int], block_size: int, kept: int, data: st.DataObject
) -> None:
    key, offset = (seed, epoch, shuffle), data.draw(st.integers(0, block_size - 1))
    samples = shuffled(key, lengths, block_size, offset=offset)
    there, back = (
        BlockShuffle(key, np.array(lengths), block_size, offset=offset, kept=kept, back=back) for back in (False, True)
    )
    # One after the other, so that blocks make room for each other and come back.
    for chosen in data.draw(st.lists(st.lists(st.sampled_from(samples), max_size=20), max_size=5)) if samples else []:
        runs, after, before = np.array(chosen, np.int64).reshape(-1, 3).T
        assert back.move(runs, after).tolist() == before.tolist()
        assert there.move(runs, before).tolist() == after.tolist()


def test_far_places_of_many_runs_are_asked_for_at_once() -> None:
    lengths = [10**6 + run for run in range(3)]
    there, back = (
        BlockShuffle((1, 2, 3), np.array(lengths), 64, offset=32, kept=2, back=back) for back in (False, True)
    )
    random = np.random.default_rng(0)
    runs = random.integers(0, 3, 3000)
    places = random.integers(0, 10**6, 3000)
    moved = there.move(runs, places)
    assert back.move(runs, moved).tolist() == places.tolist()
    assert (np.abs(moved - places) < 64).all()
    assert np.count_nonzero(moved == places) < 300
