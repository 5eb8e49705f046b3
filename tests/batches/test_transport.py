"""What is packed in one process is the same batch in another."""

import pickle
from collections import namedtuple
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset

from arrowstream import StreamingDataset
from arrowstream.batch_forms import Ragged
from arrowstream.slabs import SlabPool, SlabTable
from arrowstream.transport import Packed, Packer, Sent, unpack
from tests.batches.batches import assert_same
from tests.reading.datasets import write_samples

Pair = namedtuple("Pair", "one other")

BATCHES = [
    {},
    torch.arange(5),
    {"x": torch.zeros(0, 3), "y": torch.tensor(True), "z": [torch.ones(3, dtype=torch.bfloat16)], "text": ["a", None]},
    [torch.arange(12).reshape(3, 4).t(), ({"a": torch.full((2, 2), 7, dtype=torch.uint16)}, "b", 1.5)],
    Ragged(torch.arange(3, dtype=torch.uint8), torch.tensor([0, 3])),
    Pair(torch.tensor([1 + 2j]), [{"deep": Pair(None, torch.tensor([[float("nan")]]))}]),
    [None, torch.arange(2)][::-1],
]


def arrive(batch: Any, is_packed: bool = True) -> Packed:
    table = SlabTable()
    sent = Sent(0, [Packer(SlabPool(table, 2)).pack(batch) if is_packed else (None, batch)])
    (packed,) = pickle.loads(ForkingPickler.dumps(sent)).batches
    assert isinstance(packed, Packed)
    return packed


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("batch", BATCHES, ids=range(len(BATCHES)))
def test_a_batch_comes_back_as_it_was(batch: Any, is_packed: bool) -> None:
    assert_same(unpack(arrive(batch, is_packed)), batch)


def test_tensors_do_not_overlap_and_are_aligned() -> None:
    tensors = [torch.arange(length, dtype=torch.uint8) for length in (1, 65, 64, 3)]
    found = unpack(arrive(tensors))
    for tensor in found:
        tensor.fill_(0)
    assert_same(found, [torch.zeros_like(tensor) for tensor in tensors])
    assert {tensor.data_ptr() % 64 for tensor in found} == {0}
    assert_same(unpack(arrive(tensors)), tensors)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_tensors_that_carry_more_than_values_go_torchs_way() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    sparse = torch.eye(2).to_sparse()
    packed = arrive([parameter, sparse])
    assert packed.memory is None
    found = unpack(packed)
    assert isinstance(found[0], torch.nn.Parameter)
    assert found[1].is_sparse
    assert_same([found[0].detach(), found[1].to_dense()], [parameter.detach(), sparse.to_dense()])


def test_a_batch_without_tensors_takes_no_memory() -> None:
    assert arrive({"text": ["a", "b"]}) == Packed(None, {"text": ["a", "b"]})


Part = tuple[int, bool]  # elements of a tensor; whether it is read into memory of the packer's


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=5), min_size=1, max_size=12))
def test_what_is_read_into_the_packers_memory_arrives_beside_what_is_not(batches: list[list[Part]]) -> None:
    table = SlabTable()
    packer = Packer(SlabPool(table, 3))
    arrived, expected = [], []
    for number, parts in enumerate(batches):
        tensors = []
        for length, is_taken in parts:
            values = torch.arange(length, dtype=torch.int32) + 1000 * number
            if is_taken:
                values = packer.take(values.nbytes).view(torch.int32).copy_(values)
            tensors.append(values)
        expected.append([tensor.clone() for tensor in tensors])
        sent = Sent(0, [packer.pack(tensors)])
        (packed,) = pickle.loads(ForkingPickler.dumps(sent)).batches
        arrived.append(unpack(packed))
        del packed
        if number % 3 == 2:
            arrived[number - 1] = expected[number - 1]  # its memory is used again
    assert_same(arrived, expected)


def test_a_batch_that_was_read_into_shared_memory_is_not_copied() -> None:
    table = SlabTable()
    packer = Packer(SlabPool(table, 2))
    packer.pack([torch.zeros(100)])
    read = packer.take(400).view(torch.float32)
    parcel, _ = packer.pack([read.fill_(3.0)])
    assert parcel is not None
    assert parcel.memory.data_ptr() == read.data_ptr()


def test_memory_that_is_not_shared_yet_is_main_memory_whatever_the_default_device_is() -> None:
    with torch.device("meta"):
        assert Packer(SlabPool(SlabTable(), 2)).take(400).device.type == "cpu"


class Packs(IterableDataset[Any]):
    def __init__(self, streaming: StreamingDataset) -> None:
        self.streaming = streaming
        self.table = SlabTable()

    def __iter__(self) -> Any:
        packer = Packer(SlabPool(self.table, 2))
        return (Sent(0, [packer.pack(batch)]) for batch in self.streaming.batches())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_batches_of_worker_processes_arrive(tmp_path: Path, method: str) -> None:
    write_samples(tmp_path / "d")

    def make() -> StreamingDataset:
        return StreamingDataset(local=tmp_path / "d", shuffle=True, batch_size=8)

    expected = list(DataLoader(make(), batch_size=8, num_workers=2))
    loader = DataLoader(Packs(make()), None, num_workers=2, multiprocessing_context=method, collate_fn=_same)
    found = [unpack(packed) for message in loader for packed in message.batches]
    assert_same(found, expected)


def _same(packed: Any) -> Any:
    return packed
