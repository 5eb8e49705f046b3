"""What is packed in one process is the same batch in another."""

import pickle
from collections import namedtuple
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from arrowstream import StreamingDataset
from arrowstream.batch_forms import Ragged
from arrowstream.slabs import SlabPool, SlabTable
from arrowstream.transport import Packed, Sent, pack, unpack
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
    sent = Sent(*pack(batch, SlabPool(table, 2))) if is_packed else Sent(None, batch)
    packed = pickle.loads(ForkingPickler.dumps(sent))
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


class Packs(IterableDataset[Any]):
    def __init__(self, streaming: StreamingDataset) -> None:
        self.streaming = streaming
        self.table = SlabTable()

    def __iter__(self) -> Any:
        pool = SlabPool(self.table, 2)
        return (Sent(*pack(batch, pool)) for batch in self.streaming.batches())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_batches_of_worker_processes_arrive(tmp_path: Path, method: str) -> None:
    write_samples(tmp_path / "d")

    def make() -> StreamingDataset:
        return StreamingDataset(local=tmp_path / "d", shuffle=True, batch_size=8)

    expected = list(DataLoader(make(), batch_size=8, num_workers=2))
    loader = DataLoader(Packs(make()), None, num_workers=2, multiprocessing_context=method, collate_fn=_same)
    found = [unpack(packed) for packed in loader]
    assert_same(found, expected)


def _same(packed: Any) -> Any:
    return packed
