"""What is packed in one process is the same batch in another, and costs one file descriptor."""

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from arrowstream import StreamingDataset
from arrowstream.batch_forms import Ragged
from arrowstream.transport import pack, unpack
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


@pytest.mark.parametrize("batch", BATCHES, ids=range(len(BATCHES)))
def test_a_batch_comes_back_as_it_was(batch: Any) -> None:
    packed = pack(batch)
    assert packed.memory.is_shared()
    assert_same(unpack(packed), batch)


def test_tensors_do_not_overlap_and_are_aligned() -> None:
    tensors = [torch.arange(length, dtype=torch.uint8) for length in (1, 65, 64, 3)]
    found = unpack(pack(tensors))
    for tensor in found:
        tensor.fill_(0)
    assert_same(found, [torch.zeros_like(tensor) for tensor in tensors])
    assert {tensor.data_ptr() % 64 for tensor in found} == {0}
    assert_same(unpack(pack(tensors)), tensors)


def test_tensors_that_carry_more_than_values_stay_as_they_are() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    sparse = torch.eye(2).to_sparse()
    found = unpack(pack([parameter, sparse]))
    assert found[0] is parameter
    assert found[1] is sparse


class Packs(IterableDataset[Any]):
    def __init__(self, streaming: StreamingDataset) -> None:
        self.streaming = streaming

    def __iter__(self) -> Any:
        return map(pack, self.streaming.batches())


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
