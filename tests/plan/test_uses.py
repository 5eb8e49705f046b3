"""When shards are needed, told without laying out the order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.plan.order import Order
from arrowstream.plan.uses import NEVER, Forecast, Uses, uses_of_ids, uses_of_order
from arrowstream.world import World

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any)


@given(
    counts=COUNTS,
    shuffle=st.booleans(),
    block_size=st.integers(2, 200),
    canonical_nodes=st.integers(1, 6),
    epoch=st.integers(0, 3),
)
def test_every_sample_stands_in_a_stretch_of_its_shard(
    counts: list[int], shuffle: bool, block_size: int, canonical_nodes: int, epoch: int
) -> None:
    samples = np.array(counts)
    order = Order(samples, shuffle=shuffle, seed=7, epoch=epoch, block_size=block_size, canonical_nodes=canonical_nodes)
    shards = np.repeat(np.arange(len(samples)), samples)[order.samples_at(np.arange(order.num_samples))]
    uses = uses_of_order(order, samples, World())
    for position, shard in enumerate(shards.tolist()):
        own = uses.parts == shard
        assert ((uses.first[own] <= position) & (position <= uses.last[own])).any()
        assert uses.next_at(position)[shard] == position
    assert uses.first.min() >= 0
    assert uses.last.max() < order.num_samples


@given(counts=COUNTS, num_nodes=st.sampled_from([1, 2, 4]))
def test_a_machine_needs_what_its_canonical_nodes_need(counts: list[int], num_nodes: int) -> None:
    samples = np.array(counts)
    order = Order(samples, shuffle=True, seed=7, epoch=0, block_size=16, canonical_nodes=4)
    shards = np.repeat(np.arange(len(samples)), samples)[order.samples_at(np.arange(order.num_samples))]
    for node in range(num_nodes):
        uses = uses_of_order(order, samples, World(num_nodes=num_nodes, rank=node))
        assert set(uses.parts.tolist()) >= set(shards[node::num_nodes].tolist())
        assert (uses.first % num_nodes == node).all()


def test_stretches_of_a_large_order_are_short() -> None:
    samples = np.full(1000, 1000)
    order = Order(samples, shuffle=True, seed=7, epoch=0, block_size=4000, canonical_nodes=4)
    uses = uses_of_order(order, samples, World())
    # 1,000 samples, in at most two blocks of 1,000, and half a block at each end, of one canonical node in four.
    assert (uses.last - uses.first).max() < 4 * (2 * 1000 + 1000)
    # Each canonical node has at most so many shards that overlap.
    assert uses.most_bytes(np.ones(1000, np.int64)) <= 4 * 5


def test_laid_out_ids_have_the_uses_that_they_show() -> None:
    ids = np.array([[0, 9], [1, 8], [5, -1], [6, 0]])  # four steps of two samples, of shards of 4, 4 and 4
    uses = uses_of_ids(ids, np.array([4, 4, 4]), epoch_size=8)
    assert uses.next_at(0).tolist() == [0, 4, 0]
    assert uses.next_at(4).tolist() == [4, 4, NEVER]
    assert uses.most_bytes(np.array([1, 10, 100])) == 101


def test_a_forecast_looks_across_the_end_of_the_epoch() -> None:
    def uses(epoch: int) -> Uses:
        first = np.array([0, 10]) if epoch == 3 else np.array([10, 0])
        return Uses(parts=np.array([0, 1]), first=first, last=first + 9, num_parts=3, epoch_size=20)

    position = 0
    forecast = Forecast(uses, 3, lambda: position)
    assert forecast.next_uses().tolist() == [0, 10, NEVER]
    position = 9
    assert forecast.next_uses().tolist() == [9, 10, NEVER]
    position = 10
    assert forecast.next_uses().tolist() == [30, 10, NEVER]
    position = 20
    assert forecast.next_uses().tolist() == [30, 20, NEVER]
