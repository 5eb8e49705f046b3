"""The callback for transformers' ``Trainer`` refuses what it could not go on with."""

from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader
from transformers import TrainerState, TrainingArguments

from arrowstream import StreamingDataLoader, StreamingDataset
from arrowstream.transformers import LoaderState
from tests.reading.datasets import write_samples


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> StreamingDataset:
    return StreamingDataset(local=write_samples(tmp_path_factory.mktemp("d"), 100), batch_size=10)


def begin(loader: Any, folder: Path, *, accumulated: int = 1, state: TrainerState | None = None) -> LoaderState:
    arguments = TrainingArguments(str(folder), use_cpu=True, gradient_accumulation_steps=accumulated)
    callback = LoaderState()
    callback.on_train_begin(arguments, state or TrainerState(), None, train_dataloader=loader)
    return callback


def test_another_loader_is_refused(dataset: StreamingDataset, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="loader is a DataLoader; have its get_train_dataloader return a StreamingData"):
        begin(DataLoader(dataset, batch_size=10), tmp_path)


def test_accumulation_that_would_lose_batches_is_refused(dataset: StreamingDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an epoch has 10 batches, and gradient_accumulation_steps=3"):
        begin(StreamingDataLoader(dataset), tmp_path, accumulated=3)


def test_a_checkpoint_that_was_made_without_it_is_refused(dataset: StreamingDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint at step 4 has no state of the loader: it was made without Loader"):
        begin(StreamingDataLoader(dataset), tmp_path, state=TrainerState(global_step=4))


def test_the_loader_goes_on_where_the_checkpoint_has_it(dataset: StreamingDataset, tmp_path: Path) -> None:
    first = StreamingDataLoader(dataset)
    saving = begin(first, tmp_path)
    iterator = iter(first)
    for _ in range(4):
        next(iterator)
    saved = TrainerState(global_step=4, stateful_callbacks={"LoaderState": saving.state()})
    again = StreamingDataLoader(StreamingDataset(local=dataset.streams[0].local, batch_size=10))
    begin(again, tmp_path, state=saved)
    assert [batch["id"].tolist() for batch in again] == [batch["id"].tolist() for batch in iterator]
