"""How the tensors of a plain DataLoader leave its workers."""

import os
import signal
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, default_collate, get_worker_info

from arrowstream import StreamingDataset
from arrowstream.small_tensors import MAX_INLINE_BYTES
from tests.reading.datasets import deliver, noise, write_large_rows, write_samples

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("small") / "data", 40)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large_rows(tmp_path_factory.mktemp("large") / "data", 12, row_bytes=MAX_INLINE_BYTES // 2)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_is_small_arrives_in_memory_of_the_loop_and_what_is_large_in_shared_memory(
    large: Path, method: str
) -> None:
    dataset = StreamingDataset(local=large, batch_size=4)
    batches = list(DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context=method))
    assert [batch["id"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    for batch in batches:
        assert (batch["id"].is_shared(), batch["noise"].is_shared()) == (False, True)
        for number, row in zip(batch["id"].tolist(), batch["noise"], strict=True):
            assert row.tolist() == noise(number, MAX_INLINE_BYTES // 2).tolist()


def test_what_is_exactly_as_large_as_may_be_is_small(large: Path) -> None:
    dataset = StreamingDataset(local=large, batch_size=2)
    for batch in DataLoader(dataset, batch_size=2, num_workers=1):
        assert not batch["noise"].is_shared()
        assert torch.equal(batch["noise"][1], torch.from_numpy(noise(batch["id"][1].item(), MAX_INLINE_BYTES // 2)))


def test_a_map_style_loader_sends_small_tensors_in_the_message_too(data: Path) -> None:
    view = StreamingDataset(local=data, batch_size=8).map_style()
    loader = DataLoader(view, batch_size=8, sampler=view.sampler(), num_workers=1)
    batches = list(loader)
    assert not any(batch["vector"].is_shared() for batch in batches)
    assert [number for batch in batches for number in batch["id"].tolist()] == list(range(40))


def of_all_kinds(samples: list[dict[str, Any]]) -> dict[str, Any]:
    batch = default_collate(samples)
    vector = batch["vector"]
    return {
        "whole": vector,
        "view": vector[1:3].T,
        "again": vector,
        "learned": torch.nn.Parameter(vector[:2].clone()),
        "number": vector.sum(),
        "nothing": vector[:0].clone(),
        "halves": vector.bfloat16(),
        "flags": vector > 3,
        "complex": torch.complex(vector, -vector),
        "nested": [(vector + 1, {"deep": vector.double()})],
    }


def leaves(batch: Any) -> Iterator[torch.Tensor]:
    if isinstance(batch, torch.Tensor):
        yield batch
    else:
        for value in batch.values() if isinstance(batch, dict) else batch:
            yield from leaves(value)


def test_tensors_of_all_kinds_arrive_as_they_were(data: Path) -> None:
    dataset = StreamingDataset(local=data, batch_size=8)
    here, sent = (
        list(DataLoader(dataset, batch_size=8, collate_fn=of_all_kinds, num_workers=num_workers))
        for num_workers in (0, 2)
    )
    assert len(here) == len(sent) == 5
    for expected, found in zip(here, sent, strict=True):
        assert found.keys() == expected.keys()
        for one, other in zip(leaves(expected), leaves(found), strict=True):
            assert torch.equal(one, other)
            assert (type(other), other.dtype, other.stride()) == (type(one), one.dtype, one.stride())
            assert other.requires_grad == one.requires_grad
        found["whole"][1:3] = -1  # it can be written to, and what is a view of it still is one
        assert found["view"].eq(-1).all()
        assert found["again"] is found["whole"]
        found["number"].resize_(1000).fill_(1)


def test_the_training_process_goes_on_sharing_tensors_as_torch_does(data: Path) -> None:
    dataset = StreamingDataset(local=data, batch_size=8)
    for num_workers in (0, 1):
        assert len(list(DataLoader(dataset, batch_size=8, num_workers=num_workers))) == 5
    tensor = torch.zeros(3)
    ForkingPickler.dumps(tensor)
    assert tensor.is_shared()


class DiesWhileSending(StreamingDataset):
    def __iter__(self) -> Iterator[Any]:
        for number, sample in enumerate(super().__iter__()):
            if number == 20:
                assert get_worker_info() is not None
                os.kill(os.getpid(), signal.SIGKILL)
            yield {**sample, "text": sample["text"] * 1000}  # more than a pipe holds


def test_a_worker_that_is_killed_while_it_sends_is_an_error(data: Path) -> None:
    loader = DataLoader(DiesWhileSending(local=data, batch_size=8), batch_size=8, num_workers=1)
    with pytest.raises(RuntimeError, match=r"killed by signal: Killed|exited unexpectedly"):
        for _ in deliver(loader):
            pass
