"""The figures of an order are what counting by hand gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.plan.order import Order
from arrowstream.plan.quality import Units, distinct_per_batch, label_distance, residency
from arrowstream.plan.window import Shards, choose_window


def test_the_label_distance_of_batches_that_are_known() -> None:
    halves = np.array([0.5, 0.5])
    assert label_distance(np.array([[0, 1, 0, 1]]), halves) == 0
    assert label_distance(np.array([[0, 0, 0, 0], [1, 1, 1, 1]]), halves) == 0.5
    assert label_distance(np.array([[0, 0], [0, 1]]), halves) == 0.25
    assert label_distance(np.array([[2, 2]]), np.array([0.4, 0.4, 0.2])) == pytest.approx(0.8)


def test_the_units_of_a_batch_are_counted_once_each() -> None:
    assert distinct_per_batch(np.array([[3, 3, 3], [1, 2, 1], [0, 1, 2]])) == 2


@given(
    used=st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=12),
    sizes=st.lists(st.integers(1, 100), min_size=6, max_size=6),
)
def test_a_unit_is_held_from_its_first_use_to_its_last(used: list[list[int]], sizes: list[int]) -> None:
    counts = np.array([sum(step.count(unit) for step in used) for unit in range(6)])
    units = Units(first_ids=np.arange(6), num_samples=np.maximum(counts, 1), num_bytes=np.array(sizes))
    live = []
    for number in range(len(used)):
        held = [
            unit
            for unit in range(6)
            if any(unit in step for step in used[: number + 1]) and any(unit in step for step in used[number:])
        ]
        live.append(sum(sizes[unit] for unit in held))
    found = residency(np.array(used), units, whole_epoch=True)
    assert (found.max_bytes, found.mean_bytes) == (max(live), pytest.approx(sum(live) / len(live)))
    assert found.fetches.tolist() == sorted({unit for step in used for unit in step})
    # All samples of the units were read: it makes no difference whether the epoch goes on.
    assert residency(np.array(used), units, whole_epoch=False).max_bytes == found.max_bytes


def test_a_unit_of_which_samples_are_left_stays_while_the_epoch_goes_on() -> None:
    units = Units(first_ids=np.array([0, 5]), num_samples=np.array([5, 1]), num_bytes=np.array([100, 10]))
    used = np.array([[0, 0], [1, 1]])[:, :1]
    assert residency(used, units, whole_epoch=True).max_bytes == 100
    assert residency(used, units, whole_epoch=False).max_bytes == 110


def mixed(shards: Shards, budget: int | None = None) -> tuple[float, float]:
    """Give label distance and the share of the data that is live, of data sorted by ten classes, in batches of 256."""
    window = choose_window(shards, budget=budget)
    order = Order(
        shards.num_samples,
        shuffle=True,
        seed=9176,
        epoch=0,
        block_size=window.block_size,
        canonical_nodes=window.canonical_nodes,
        rows_per_unit=shards.rows_per_unit(window.unit),
    )
    ids = order.samples_at(np.arange(order.num_samples))
    batches = ids[: len(ids) // 256 * 256].reshape(-1, 256)
    units = Units.of(shards, window.unit)
    held = residency(units.of_samples(ids)[:, None], units, whole_epoch=True)
    distance = label_distance(batches * 10 // order.num_samples, np.full(10, 0.1))
    return distance, held.max_bytes / int(shards.num_bytes.sum())


def test_data_that_is_sorted_by_class_is_mixed_well() -> None:
    counts = np.full(400, 1000)
    shards = Shards(num_samples=counts, rows_per_batch=np.full(400, 16), num_bytes=counts * 1000)
    assert mixed(shards)[0] <= 0.10
    distance, live = mixed(shards, budget=4_000_000)  # 1 % of the data
    assert distance <= 0.12
    assert live <= 0.01
