"""Between the brackets stands what NumPy would take: `numpy.arange(n)` is the oracle, for results and for refusals."""

import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from arrowstream.dataset import StreamingDataset
from arrowstream.locate import Locator, resolve_ids
from tests.reading.datasets import assert_is_sample, write_samples

SIZES = st.integers(0, 400)
NUMBERS = st.integers(-450, 450)
INTEGER_TYPES = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
NESTED = st.recursive(st.lists(NUMBERS, max_size=4), lambda inner: st.lists(inner, max_size=3), max_leaves=4)
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
# NumPy wraps unsigned integers of more than 63 bits around; no dataset reaches there, and ours refuses them.
ARRAYS = st.sampled_from(INTEGER_TYPES).flatmap(
    lambda kind: npst.arrays(
        kind,
        SHAPES,
        elements=st.integers(max(-450, np.iinfo(kind).min), min(450, np.iinfo(kind).max)).map(kind),
    )
)
SLICES = st.slices(450) | st.builds(
    slice, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | st.integers(-9, 9) | st.integers(-500, 500)
)
# Also beyond 63 bits: NumPy raises OverflowError for one number and IndexError for a list of them; ours is always the
# latter, so only the list is here.
WRONG = (
    st.floats()
    | st.text(max_size=3)
    | st.lists(st.floats(), min_size=1, max_size=3)
    | npst.arrays(np.float64, SHAPES)
    | st.builds(slice, st.floats())
    | st.just([[1], [2, 3]])
    | st.just({"a": 1})
    | st.lists(st.integers(2**63, 2**70), min_size=1, max_size=2)
    | st.just([None, 1])
    | st.just(b"ab")
    | st.just(1j)
)
KEYS = (
    NUMBERS
    | st.sampled_from(INTEGER_TYPES).map(lambda kind: kind(7))
    | st.sampled_from([True, False, np.True_, None, ..., (), (...,), (1, 2), (..., 1), (None, 1), (slice(3),)])
    | NESTED
    | ARRAYS
    | SLICES
    | st.tuples(SLICES | NESTED)
    | st.lists(st.booleans(), max_size=8)
    | npst.arrays(np.bool_, SHAPES)
    | WRONG
)


def outcome(index: Any, key: Any) -> Any:
    try:
        found = index[key]
    except Exception as error:  # noqa: BLE001 - whatever NumPy raises is what is expected
        return type(error)
    return np.shape(found), np.asarray(found).tolist()


class Resolving:
    def __init__(self, size: int) -> None:
        self.size = size

    def __getitem__(self, key: Any) -> Any:
        return resolve_ids(key, self.size)


@given(size=SIZES, key=KEYS)
def test_a_key_means_what_it_means_to_numpy(size: int, key: Any) -> None:
    assert outcome(Resolving(size), key) == outcome(np.arange(size), key)


@given(data=st.data(), size=st.integers(0, 60))
def test_a_mask_means_what_it_means_to_numpy(data: st.DataObject, size: int) -> None:
    mask = data.draw(npst.arrays(np.bool_, size))
    assert outcome(Resolving(size), mask) == outcome(np.arange(size), mask)
    assert outcome(Resolving(size), mask.tolist()) == outcome(np.arange(size), mask.tolist())


@given(size=st.integers(1, 400), kind=st.sampled_from(INTEGER_TYPES), data=st.data())
def test_every_integer_type_reaches_from_the_front_and_the_back(size: int, kind: Any, data: st.DataObject) -> None:
    limits = np.iinfo(kind)
    number = kind(data.draw(st.integers(max(limits.min, -size), min(limits.max, size - 1))))
    assert outcome(Resolving(size), number) == outcome(np.arange(size), number)
    many = np.array([number], kind)
    assert outcome(Resolving(size), many) == outcome(np.arange(size), many)


def test_unsigned_numbers_beyond_63_bits_are_out_of_bounds() -> None:
    with pytest.raises(IndexError, match="index 18446744073709551615 is out of bounds"):
        resolve_ids(np.array([2**64 - 1], np.uint64), 5)


@pytest.mark.parametrize(
    "key", [5, -5, slice(7, 3000, 7), slice(-3, None), slice(None, -(2**60) + 5), slice(2**60, 2**60 - 9, -2)]
)
def test_a_huge_dataset_is_not_laid_out(key: int | slice) -> None:
    found = range(2**60)[key]
    assert resolve_ids(key, 2**60).tolist() == (found if isinstance(found, int) else list(found))


# Shards and rows ------------------------------------------------------------------------------------------------------


@given(counts=st.lists(st.integers(0, 30), max_size=12))
def test_every_sample_lies_at_one_row_of_one_shard(counts: list[int]) -> None:
    locator = Locator(np.array(counts, np.int64))
    shards, rows = locator.locate(np.arange(sum(counts)))
    places = [(shard, row) for shard, count in enumerate(counts) for row in range(count)]
    assert list(zip(shards.tolist(), rows.tolist(), strict=True)) == places
    assert locator.num_samples == len(places)


@pytest.mark.parametrize("wrong", [-1, 5, 6, 2**62, -(2**62)])
def test_ids_outside_the_dataset_are_refused(wrong: int) -> None:
    with pytest.raises(IndexError, match=f"sample {wrong} is out of bounds for a dataset of 5 samples"):
        Locator(np.array([2, 0, 3])).locate(np.array([0, wrong, 4]))


# Samples --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> StreamingDataset:
    # More samples than a byte counts.
    return StreamingDataset(local=write_samples(tmp_path_factory.mktemp("located") / "data", 300))


def shape_of(samples: Any) -> Any:
    return [shape_of(each) for each in samples] if isinstance(samples, list) else samples["id"]


@given(key=KEYS)
def test_samples_are_nested_as_numpy_nests_their_ids(dataset: StreamingDataset, key: Any) -> None:
    try:
        expected = np.arange(300)[key]
    except Exception as error:  # noqa: BLE001 - whatever NumPy raises is what is expected
        with pytest.raises(type(error)):
            dataset[key]
    else:
        assert shape_of(dataset[key]) == expected.tolist()


@pytest.mark.parametrize("kind", INTEGER_TYPES)
def test_a_sample_is_found_by_any_type_of_integer(dataset: StreamingDataset, kind: Any) -> None:
    for number in (0, 1, 37, 127):
        assert_is_sample(dataset[kind(number)], number)
    if np.iinfo(kind).min < 0:
        for number in (-1, -37, -128):
            assert_is_sample(dataset[kind(number)], 300 + number)


def test_a_tensor_is_an_index_as_it_is_to_numpy(dataset: StreamingDataset) -> None:
    assert_is_sample(dataset[torch.tensor(299)], 299)
    assert [each["id"] for each in dataset[torch.tensor([3, -1])]] == [3, 299]


@pytest.mark.parametrize("read", [operator.getitem, lambda dataset, key: dataset.get_item(key)])
@pytest.mark.parametrize("number", [300, -301, 2**70, -(2**70)])
def test_the_refusal_names_the_index_and_the_size(dataset: StreamingDataset, read: Any, number: int) -> None:
    with pytest.raises(IndexError, match=f"index {number} is out of bounds for axis 0 with size 300"):
        read(dataset, number)


# As Arrow -------------------------------------------------------------------------------------------------------------


@given(key=ARRAYS.filter(lambda ids: (ids >= -300).all() and (ids < 300).all()) | SLICES | st.just(...))
def test_what_is_taken_is_what_the_ids_name(dataset: StreamingDataset, key: Any) -> None:
    try:
        expected = np.arange(300)[key].reshape(-1).tolist()
    except ValueError:
        with pytest.raises(ValueError, match="slice step cannot be zero"):
            dataset.take(key)
        return
    table = dataset.take(key)
    assert table.column("id").to_pylist() == expected
    assert table.column("text").to_pylist() == [each["text"] for each in dataset[expected]]
    assert [*map(len, table.to_batches())] in ([], [len(expected)])


def test_columns_are_taken_in_the_order_in_which_they_are_named(dataset: StreamingDataset) -> None:
    table = dataset.take([5, 5, -1], columns=["text", "id"])
    assert table.to_pylist() == [{"text": dataset[n]["text"], "id": n} for n in (5, 5, 299)]
    assert dataset.take([], columns=["text"]).column_names == ["text"]


def test_a_column_that_is_not_there_is_named(dataset: StreamingDataset) -> None:
    with pytest.raises(KeyError, match="no column is named 'label'; there are: id, text, vector"):
        dataset.take([1], columns=["id", "label"])


def test_out_of_bounds_is_out_of_bounds_for_arrow_too(dataset: StreamingDataset) -> None:
    with pytest.raises(IndexError, match="index 300 is out of bounds"):
        dataset.take([1, 300])


def test_a_table_keeps_its_values_when_its_dataset_is_gone(tmp_path: Path) -> None:
    table = StreamingDataset(local=write_samples(tmp_path / "data", 50)).take(...)
    for file in (tmp_path / "data").iterdir():
        file.write_bytes(b"")
    assert table.column("id").to_pylist() == list(range(50))
