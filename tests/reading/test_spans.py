"""A table finds the span of a number as a search would."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.spans import Spans

# A few huge spans among many tiny ones are searched; like ones are looked up.
SIZES = st.lists(st.integers(0, 40) | st.sampled_from([0, 1, 1000, 1 << 20]), min_size=1, max_size=60)


@given(sizes=SIZES | st.integers(1, 300).flatmap(lambda size: st.just([size] * 50)))
def test_every_number_lies_in_its_span(sizes: list[int]) -> None:
    lengths = np.array(sizes, np.int64)
    end = int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    holding = np.flatnonzero(lengths)
    numbers = np.unique(
        np.concatenate([starts[holding], starts[holding] + lengths[holding] - 1, np.arange(min(end, 2000))])
    )
    found = Spans(starts, end).find(numbers)
    assert found.dtype == np.int64
    assert (starts[found] <= numbers).all()
    assert (numbers < starts[found] + lengths[found]).all()
