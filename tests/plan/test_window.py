"""Within its budget the shuffle takes shards where enough of them are live, and record batches where not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream.plan.order import DEFAULT_BLOCK_SIZE, Order, units_per_shard
from arrowstream.plan.quality import Units, residency
from arrowstream.plan.window import MOST_MIXED, Shards, ShuffleUnit, choose_window

MIB = 1 << 20


def make_shards(num_shards: int, rows: int, rows_per_batch: int = 0, sample_bytes: int = 100) -> Shards:
    counts = np.full(num_shards, rows)
    return Shards(
        num_samples=counts, rows_per_batch=np.full(num_shards, rows_per_batch), num_bytes=counts * sample_bytes
    )


def order_of(shards: Shards, unit: ShuffleUnit, block_size: int, nodes: int | None, seed: int = 3) -> np.ndarray:
    order = Order(
        shards.num_samples,
        shuffle=True,
        seed=seed,
        epoch=1,
        block_size=block_size,
        canonical_nodes=nodes,
        rows_per_unit=shards.rows_per_unit(unit),
    )
    return order.samples_at(np.arange(order.num_samples))


def test_without_a_budget_shards_are_shuffled_as_ever() -> None:
    window = choose_window(make_shards(400, 1000, 16))
    assert (window.unit, window.block_size, window.canonical_nodes) == ("shard", DEFAULT_BLOCK_SIZE, 16)


def test_a_budget_for_many_shards_takes_shards() -> None:
    window = choose_window(make_shards(4096, 1000, 16), budget=400 * 100_000)
    assert (window.unit, window.canonical_nodes) == ("shard", 64)


def test_a_budget_for_few_shards_takes_record_batches() -> None:
    shards = make_shards(4096, 1000, 16)
    assert choose_window(shards, budget=100 * 100_000).unit == "record_batch"
    assert choose_window(shards, budget=100 * 100_000, unit="shard").unit == "shard"


@pytest.mark.parametrize("rows_per_batch", [0, 1000, 5000])
def test_record_batches_that_are_unknown_or_no_smaller_are_not_taken(rows_per_batch: int) -> None:
    assert choose_window(make_shards(400, 1000, rows_per_batch), budget=20 * 100_000).unit == "shard"


def test_a_budget_for_all_the_data_takes_shards() -> None:
    assert choose_window(make_shards(4, 1000, 16), budget=10 * 100_000).unit == "shard"


def test_a_window_has_a_largest_size() -> None:
    assert choose_window(make_shards(10**5, 10**4, sample_bytes=10), budget=1 << 40).block_size == MOST_MIXED


@settings(max_examples=60, deadline=None)
@given(
    num_shards=st.integers(20, 200),
    rows=st.integers(20, 100),
    rows_per_batch=st.integers(2, 20),
    share=st.floats(0.03, 1),
    unit=st.sampled_from(["shard", "record_batch"]),
)
def test_what_is_live_stays_within_the_budget(
    num_shards: int, rows: int, rows_per_batch: int, share: float, unit: ShuffleUnit
) -> None:
    shards = make_shards(num_shards, rows, rows_per_batch)
    budget = int(share * shards.num_bytes.sum())
    try:
        window = choose_window(shards, unit=unit, budget=budget)
    except ValueError:
        assert budget < 4 * shards.unit_bytes(unit)
        return
    units = Units.of(shards, unit)
    used = units.of_samples(order_of(shards, unit, window.block_size, window.canonical_nodes))
    held = residency(used[:, None], units, whole_epoch=True)
    # Units are unequal where the last one of a shard is short; the budget reckons with their mean.
    assert held.max_bytes <= budget * (1 if rows % rows_per_batch == 0 or unit == "shard" else 1.25)


def test_a_budget_below_four_units_says_what_is_needed() -> None:
    shards = make_shards(400, 1000, 10, sample_bytes=1049)
    with pytest.raises(ValueError, match=r"shuffle_budget is 3.0 MiB.*1 canonical nodes it has to be 4.0 MiB or more"):
        choose_window(shards, unit="shard", budget=3 * MIB)
    with pytest.raises(ValueError, match="shuffle_unit='record_batch' needs less"):
        choose_window(shards, unit="shard", budget=3 * MIB)
    with pytest.raises(ValueError, match="64 canonical nodes"):
        choose_window(shards, unit="record_batch", budget=MIB, canonical_nodes=64)


def test_record_batches_have_to_be_known() -> None:
    with pytest.raises(ValueError, match="does not say how many rows"):
        choose_window(make_shards(4, 100), unit="record_batch")


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    rows=st.integers(1, 50),
    seed=st.integers(0, 99),
    nodes=st.integers(1, 5),
)
def test_an_order_of_record_batches_is_a_permutation(sizes: list[int], rows: int, seed: int, nodes: int) -> None:
    counts = np.array(sizes, np.int64)
    shards = Shards(num_samples=counts, rows_per_batch=np.full(len(sizes), rows), num_bytes=counts)
    assert sorted(order_of(shards, "record_batch", 8, nodes, seed).tolist()) == list(range(sum(sizes)))


def test_record_batches_of_a_shard_are_spread_but_stay_in_their_canonical_node() -> None:
    shards = make_shards(32, 100, 10)
    ids = order_of(shards, "record_batch", 8, 4)
    runs = [set((ids[node::4] // 100).tolist()) for node in range(4)]
    assert [len(run) for run in runs] == [8, 8, 8, 8]  # 8 shards each: machines need not share shards
    first = ids[0::4][:100]  # of one canonical node: as many samples as a shard has
    assert len(set((first // 100).tolist())) >= 4
    # Those are whole record batches: moved as one, then mixed with their neighbours in blocks of 2.
    assert len(set((first // 10).tolist())) <= 12


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8), rows=st.integers(0, 50))
def test_units_cover_the_data(sizes: list[int], rows: int) -> None:
    counts = np.array(sizes, np.int64)
    shards = Shards(num_samples=counts, rows_per_batch=np.full(len(sizes), rows), num_bytes=counts * 7)
    units = Units.of(shards, "record_batch")
    assert len(units.first_ids) == units_per_shard(counts, shards.rows_per_batch).sum()
    assert units.num_bytes.tolist() == (units.num_samples * 7).tolist()
    members = np.concatenate(
        [np.arange(0), *(start + np.arange(n) for start, n in zip(*(units.first_ids, units.num_samples), strict=True))]
    )
    assert members.tolist() == list(range(sum(sizes)))
    assert units.of_samples(members).tolist() == np.repeat(np.arange(len(units.first_ids)), units.num_samples).tolist()
