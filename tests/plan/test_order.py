"""The order of an epoch is a permutation, whatever it is made of, and every position of it stands alone."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream.plan.order import Order, default_canonical_nodes

SHARDS = st.lists(st.integers(0, 60), min_size=1, max_size=12)
SEEDS = st.integers(0, 2**63)
EPOCHS = st.integers(0, 2**40)
BLOCK_SIZES = st.integers(1, 200)
NODES = st.none() | st.integers(1, 9)


def make_order(
    shards: list[int],
    *,
    seed: int = 0,
    epoch: int = 0,
    block_size: int = 8,
    shuffle: bool = True,
    nodes: int | None = None,
) -> Order:
    counts = np.array(shards, np.int64)
    return Order(counts, shuffle=shuffle, seed=seed, epoch=epoch, block_size=block_size, canonical_nodes=nodes)


def whole(order: Order) -> np.ndarray:
    return order.samples_at(np.arange(order.num_samples, dtype=np.int64))


@given(shards=SHARDS, seed=SEEDS, epoch=EPOCHS, block_size=BLOCK_SIZES, shuffle=st.booleans(), nodes=NODES)
def test_every_sample_has_one_position(
    shards: list[int], seed: int, epoch: int, block_size: int, shuffle: bool, nodes: int | None
) -> None:
    order = whole(make_order(shards, seed=seed, epoch=epoch, block_size=block_size, shuffle=shuffle, nodes=nodes))
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(sum(shards)))


@given(shards=SHARDS)
def test_without_shuffling_the_samples_keep_their_order(shards: list[int]) -> None:
    assert whole(make_order(shards, shuffle=False)).tolist() == list(range(sum(shards)))


@given(shards=SHARDS, seed=SEEDS, block_size=BLOCK_SIZES, nodes=NODES, data=st.data())
def test_any_positions_give_what_the_whole_order_has_there(
    shards: list[int], seed: int, block_size: int, nodes: int | None, data: st.DataObject
) -> None:
    order = make_order(shards, seed=seed, block_size=block_size, nodes=nodes)
    places = st.integers(0, max(order.num_samples - 1, 0))
    positions = data.draw(st.lists(places, max_size=50 if order.num_samples else 0))
    chosen = np.array(positions, np.int64)
    assert order.samples_at(chosen).tolist() == whole(order)[chosen].tolist()


@given(shards=SHARDS, seed=SEEDS, epoch=EPOCHS, block_size=BLOCK_SIZES)
def test_the_same_plan_gives_the_same_order(shards: list[int], seed: int, epoch: int, block_size: int) -> None:
    first, second = (whole(make_order(shards, seed=seed, epoch=epoch, block_size=block_size)) for _ in range(2))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize("shards", [[500], [50] * 10, [1] * 500, [0, 499, 0, 1, 0]])
def test_epochs_and_seeds_differ(shards: list[int]) -> None:
    orders = [
        tuple(whole(make_order(shards, seed=seed, epoch=epoch, block_size=64)))
        for seed in range(4)
        for epoch in range(4)
    ]
    assert len(set(orders)) == len(orders)


def test_seed_and_epoch_are_not_added_up() -> None:
    later_epoch = whole(make_order([500], seed=1, epoch=2))
    higher_seed = whole(make_order([500], seed=2, epoch=1))
    assert later_epoch.tolist() != higher_seed.tolist()


@given(seed=SEEDS)
def test_one_block_mixes_all_it_holds(seed: int) -> None:
    # 1,000 samples of one shard: were the permutation the identity or a rotation, neighbours would stay neighbours.
    order = whole(make_order([1000], seed=seed, block_size=1000))
    neighbours = np.count_nonzero(np.diff(order) == 1)
    assert neighbours < 20


@settings(max_examples=30)
@given(seed=SEEDS, block_size=st.integers(8, 50))
def test_a_sample_stays_within_a_block_and_a_half_of_its_shard(seed: int, block_size: int) -> None:
    shards = [100] * 10
    order = whole(make_order(shards, seed=seed, block_size=block_size))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))  # (samples,), where each sample ended up
    for shard in range(10):
        own = places[shard * 100 : (shard + 1) * 100]
        # Undisturbed it would take up 100 places; either pass moves a sample by less than a block.
        assert own.max() - own.min() < 100 + 2 * 2 * block_size


def test_the_order_crosses_the_borders_of_the_first_pass() -> None:
    order = whole(make_order([1000], block_size=100))
    blocks = [set(order[start : start + 100] // 100) for start in range(0, 1000, 100)]
    assert all(len(block) > 1 for block in blocks)


def test_a_billion_samples_need_no_table() -> None:
    order = Order(np.full(50_000, 20_000), shuffle=True, seed=1, epoch=0)
    positions = np.array([0, 1, 499_999_999, 999_999_998, 999_999_999])
    ids = order.samples_at(positions)
    assert len(set(ids.tolist())) == 5
    assert ids.min() >= 0
    assert ids.max() < 10**9


def test_however_much_was_read_as_much_memory_is_held() -> None:
    order = Order(np.full(2000, 10**5), shuffle=True, seed=1, epoch=0, canonical_nodes=8, block_size=1 << 15)
    order.samples_at(np.arange(8 << 12))
    tracemalloc.start()
    try:
        for start in range(0, 10**8, 10**6):
            order.samples_at(np.arange(start, start + 8))
        order.samples_at(np.arange(10**8, 2 * 10**8, 10**5))  # many blocks at once
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10**5  # a hundred of its blocks would be six megabytes


def test_a_block_may_be_far_larger_than_the_data() -> None:
    orders = [whole(make_order([300, 200], block_size=block_size)).tolist() for block_size in (1000, 1001, 10**15)]
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == list(range(500))


def test_threads_may_ask_at_the_same_time() -> None:
    order = make_order([10**5] * 2, block_size=64)
    expected = whole(order)

    def ask(number: int) -> bool:
        positions = np.random.default_rng(number).integers(0, 2 * 10**5, 200)
        return bool((order.samples_at(positions) == expected[positions]).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(40)))


@pytest.mark.parametrize("shards", [[], [0], [0, 0]])
def test_nothing_has_an_empty_order(shards: list[int]) -> None:
    assert whole(make_order(shards)).tolist() == []


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_canonical_node_reads_the_same_run_of_shards_in_every_epoch(shuffle: bool) -> None:
    shards = [100] * 32
    runs = []
    for epoch in range(3):
        order = whole(make_order(shards, epoch=epoch, nodes=4, shuffle=shuffle))
        runs.append([frozenset((order[node::4] // 100).tolist()) for node in range(4)])
    assert runs[0] == runs[1] == runs[2]
    assert [len(run) for run in runs[0]] == [8, 8, 8, 8]
    assert frozenset.union(*runs[0]) == frozenset(range(32))


def test_within_its_run_each_epoch_takes_the_shards_in_another_order() -> None:
    first, second = (whole(make_order([100] * 32, epoch=epoch, nodes=2))[::2] // 100 for epoch in range(2))
    assert first.tolist() != second.tolist()


def test_a_batch_draws_from_all_canonical_nodes() -> None:
    order = whole(make_order([1000] * 64, nodes=8, block_size=512))
    shards = [len(set((order[start : start + 64] // 1000).tolist())) for start in range(0, 64_000, 64)]
    assert min(shards) >= 8


@pytest.mark.parametrize(("shards", "nodes"), [(1, 1), (31, 1), (32, 2), (1000, 32), (1024, 64), (10**6, 64)])
def test_the_number_of_canonical_nodes_follows_from_the_number_of_shards(shards: int, nodes: int) -> None:
    assert default_canonical_nodes(shards) == nodes
