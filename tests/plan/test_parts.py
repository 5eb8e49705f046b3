"""What is fetched at once: every sample lies in one part, and bytes are shared out in full."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.plan.order import Order
from arrowstream.plan.parts import Parts
from arrowstream.plan.uses import Uses, uses_of_order
from arrowstream.world import World

SHARDS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), min_size=1, max_size=20)


def parts_of(shards: list[tuple[int, int]]) -> Parts:
    samples, rows = (np.array(column, np.int64) for column in zip(*shards, strict=True))
    return Parts.of(samples, rows)


@given(SHARDS)
def test_parts_are_the_record_batches_in_the_order_of_their_samples(shards: list[tuple[int, int]]) -> None:
    parts = parts_of(shards)
    expected = []
    for number, (samples, rows) in enumerate(shards):
        pieces = [min(rows, samples - first) for first in range(0, samples, rows)] if rows else [samples]
        expected += [(number, count) for count in pieces or [0]]
    assert list(zip(parts.shards.tolist(), parts.num_samples.tolist(), strict=True)) == expected
    assert parts.first_parts.tolist() == [
        sum(shard < number for shard, _ in expected) for number in range(len(shards) + 1)
    ]


@given(SHARDS, st.integers(0, 10_000))
def test_bytes_are_shared_out_in_full(shards: list[tuple[int, int]], num_bytes: int) -> None:
    parts = parts_of(shards)
    shared = np.bincount(parts.shards, parts.share(np.full(len(shards), num_bytes)), minlength=len(shards))
    assert (shared >= num_bytes).all()
    assert (shared < num_bytes + np.bincount(parts.shards, minlength=len(shards))).all()


@given(SHARDS.filter(lambda shards: any(samples for samples, _ in shards)), st.booleans(), st.integers(2, 60))
def test_every_sample_stands_in_a_stretch_of_its_part(
    shards: list[tuple[int, int]], shuffle: bool, block_size: int
) -> None:
    parts = parts_of(shards)
    order = Order(
        parts.samples_per_shard,
        shuffle=shuffle,
        seed=3,
        epoch=1,
        block_size=block_size,
        rows_per_unit=parts.rows_per_part,
    )
    uses = uses_of_order(order, parts.num_samples, World())
    at = np.repeat(np.arange(len(parts.shards)), parts.num_samples)[order.samples_at(np.arange(order.num_samples))]
    for position, part in enumerate(at.tolist()):
        assert uses.next_at(position)[part] == position


USES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=12)


@given(USES)
def test_bytes_in_use_count_a_part_once_however_its_stretches_overlap(stretches: list[tuple[int, int, int]]) -> None:
    parts, first, length = (np.array(column, np.int64) for column in zip(*stretches, strict=True))
    uses = Uses(parts=parts, first=first, last=first + length, num_parts=5, epoch_size=50)
    sizes = np.array([1, 10, 100, 1000, 10_000])
    live = [
        sum(sizes[list({part for part, begin, more in stretches if begin <= position <= begin + more})])
        for position in range(50)
    ]
    assert uses.most_bytes(sizes) == max(live)
