"""Memory is used again once nothing refers to it, and not before."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream import StreamingDataset
from arrowstream.recycled import RecycledMemory
from tests.reading.datasets import noise, write_large_rows

#: What may be kept of an array.
KEPT: list[Callable[[np.ndarray], Any]] = [
    lambda memory: memory,
    lambda memory: memory[1:],
    torch.from_numpy,
    lambda memory: torch.from_numpy(memory)[:3].view(-1),
    torch.from_dlpack,
    memoryview,
    lambda memory: memory[1:][1:],
]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3000), st.sampled_from(KEPT), st.integers(-4, 10)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_what_is_kept_never_changes(steps: list[tuple[int, Callable[..., Any], int]], rng: random.Random) -> None:
    recycled = RecycledMemory(2)
    kept: list[tuple[Any, bytes]] = []
    for num_bytes, keep, dropped in steps:
        memory = recycled.take(num_bytes)
        assert memory.shape == (num_bytes,)
        assert memory.__array_interface__["data"][0] % 64 == 0
        memory[:] = np.frombuffer(rng.randbytes(num_bytes), np.uint8)
        part = keep(memory)
        kept.append((part, bytes(np.asarray(part))))
        del memory, part
        if 0 <= dropped < len(kept):
            del kept[dropped]
        assert [bytes(np.asarray(part)) for part, _ in kept] == [content for _, content in kept]
    assert len(recycled._lent) == len(kept)
    kept.clear()
    assert not recycled._lent
    assert len(recycled._spare) <= 2


def test_what_was_dropped_is_used_again_for_what_is_about_as_large() -> None:
    recycled = RecycledMemory(2)
    place = recycled.take(1000).__array_interface__["data"][0]
    same = recycled.take(600)
    assert same.__array_interface__["data"][0] == place
    del same
    small = recycled.take(400)  # would keep more than twice its size
    assert small.__array_interface__["data"][0] != place


def test_what_fits_nobody_any_more_is_given_up() -> None:
    recycled = RecycledMemory(2)
    kept = [recycled.take(100_000) for _ in range(2)]
    kept.clear()
    assert len(recycled._spare) == 2
    kept = [recycled.take(100) for _ in range(3)]
    kept.clear()
    assert {len(memory) for memory in recycled._spare} == {100}


def test_what_waits_to_be_used_again_is_bounded_in_bytes_too() -> None:
    recycled = RecycledMemory(100, max_bytes=5000)
    kept = [recycled.take(1000) for _ in range(20)]
    kept.clear()
    assert sum(map(len, recycled._spare)) == 5000
    recycled = RecycledMemory(100, max_bytes=5000)
    kept = [recycled.take(9000) for _ in range(2)]
    kept.clear()
    assert [len(memory) for memory in recycled._spare] == [9000]


def test_threads_never_get_the_same_memory() -> None:
    recycled = RecycledMemory(64)

    def fill(number: int) -> bool:
        random_sizes = np.random.default_rng(number).integers(1000, 3000, 400)
        held = []
        for size in random_sizes.tolist():
            memory = recycled.take(size)
            memory[:] = number
            held.append(memory)
            if len(held) > 5 and (held.pop(0) != number).any():
                return False
        return all((memory == number).all() for memory in held)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(fill, range(40)))


@pytest.mark.parametrize("row_bytes", [1 << 14, 1 << 16])
def test_a_loop_over_large_batches_fills_the_same_memory_and_one_that_keeps_them_gets_each(
    tmp_path: Path, row_bytes: int
) -> None:
    dataset = StreamingDataset(local=write_large_rows(tmp_path / "d", 1200, row_bytes=row_bytes), shuffle=True)
    # Of at least 4 MiB, which torch gathers however many threads it has.
    places = {batch["noise"].data_ptr() for batch in dataset.batches(300)}
    assert len(places) == 2  # the loop holds one while it asks for the next
    kept = list(dataset.batches(300))
    assert len({batch["noise"].data_ptr() for batch in kept}) == 4
    for batch in kept:
        for number, row in zip(batch["id"].tolist(), batch["noise"].numpy(), strict=True):
            assert np.array_equal(row, noise(number, row_bytes))
