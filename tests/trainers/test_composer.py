"""What Composer asks of a dataset and its loader.

Composer wants a torch below 2.7.1, so these are stand-ins: the calls that its 0.32.1 makes, in their order, without it.
"""

from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from arrowstream import StreamingDataLoader, StreamingDataset
from tests.reading.datasets import write_samples

NUM_SAMPLES = 100
BATCH_SIZE = 8


class ComposersCalls:
    """``Trainer.fit`` of Composer, as far as it touches data."""

    def __init__(self, dataloader: DataLoader[Any]) -> None:
        self.dataloader = dataloader
        self.epoch = self.sample_in_epoch = 0
        # composer/core/data_spec.py, DataSpec.__init__
        assert isinstance(dataloader.dataset, Sized)
        assert dataloader._iterator is None
        assert isinstance(dataloader.dataset, IterableDataset) or isinstance(dataloader.sampler, DistributedSampler)

    def batches(self) -> Iterator[Any]:
        """Trainer._train_loop: batches, counted by DataSpec.get_num_samples_in_batch and summed over the ranks."""
        for batch in self.dataloader:
            self.sample_in_epoch += len(batch["id"])
            yield batch
        self.epoch, self.sample_in_epoch = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """composer/core/state.py, State._dataset_state_dict, beside the timestamp."""
        dataset: Any = self.dataloader.dataset
        state = dataset.state_dict(int(self.sample_in_epoch), True)
        return {"train": state, "timestamp": (self.epoch, self.sample_in_epoch)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """State._load_dataset_state; then Trainer._spin_dataloaders_to_cur_epoch leaves the loader as it is."""
        dataset: Any = self.dataloader.dataset
        dataset.load_state_dict(state["train"])
        self.epoch, self.sample_in_epoch = state["timestamp"]


def compose(data: Path, loader_class: type[DataLoader[Any]], **arguments: Any) -> ComposersCalls:
    dataset = StreamingDataset(local=data, columns=["id"], shuffle=True, batch_size=BATCH_SIZE)
    return ComposersCalls(loader_class(dataset, batch_size=BATCH_SIZE, **arguments))


def ids(batch: Any) -> list[int]:
    numbers: list[int] = batch["id"].tolist()
    return numbers


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("loader_class", [StreamingDataLoader, DataLoader])
def test_a_state_by_composers_calls_goes_on_with_the_very_next_batch(
    loader_class: type[DataLoader[Any]], num_workers: int, tmp_path: Path
) -> None:
    data = write_samples(tmp_path / "samples", NUM_SAMPLES)
    unbroken = compose(data, loader_class)
    expected = [[ids(batch) for batch in unbroken.batches()] for _ in range(2)]
    stopped = compose(data, loader_class, num_workers=num_workers)
    assert [ids(batch) for batch in stopped.batches()] == expected[0]
    batches = stopped.batches()
    assert [ids(next(batches)) for _ in range(3)] == expected[1][:3]
    state = stopped.state_dict()
    resumed = compose(data, loader_class, num_workers=num_workers)
    resumed.load_state_dict(state)
    again = resumed.batches()
    assert [ids(next(again)) for _ in range(2)] == expected[1][3:5]
    # It counts on from where the epoch began, and saves once more.
    last = compose(data, loader_class)
    last.load_state_dict(resumed.state_dict())
    assert [ids(batch) for batch in last.batches()] == expected[1][5:]


def test_composer_takes_the_sampler_of_a_view_for_one_that_shares_out(tmp_path: Path) -> None:
    view = StreamingDataset(local=write_samples(tmp_path / "samples", NUM_SAMPLES), batch_size=BATCH_SIZE).map_style()
    sampler = view.sampler()
    composed = ComposersCalls(DataLoader(view, batch_size=BATCH_SIZE, sampler=sampler))
    # Composer makes no sampler of its own where it finds one that shares out.
    assert isinstance(sampler, DistributedSampler)
    assert sorted(number for batch in composed.batches() for number in ids(batch)) == list(range(NUM_SAMPLES))
