"""What the ranks of a job read through the loaders that trainers make of ours; a script, run by torchrun's variables.

Writes ``{case: what this rank read, or the error}`` as JSON. It is a script because trainers are slow to import and
change their process.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler

from arrowstream import StreamingDataLoader, StreamingDataset

BATCH_SIZE = 4


def make(data: str, **arguments: Any) -> StreamingDataset:
    return StreamingDataset(local=data, columns=["id"], shuffle=True, batch_size=BATCH_SIZE, **arguments)


def ids(batches: Iterable[dict[str, torch.Tensor]]) -> list[int]:
    return [number for batch in batches for number in batch["id"].tolist()]


def attempt(read: Callable[[], list[int]]) -> list[int] | str:
    try:
        return read()
    except Exception as error:  # noqa: BLE001  # whatever it is, the test compares it
        return f"{type(error).__name__}: {error}"


def with_accelerate(data: str, out: Path) -> dict[str, Any]:
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration
    from transformers import Trainer, TrainingArguments

    accelerator = Accelerator(cpu=True)
    shares = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=False))

    def through(who: Accelerator, dataset: Any, **arguments: Any) -> list[int]:
        loader = who.prepare(DataLoader(dataset, **{"batch_size": BATCH_SIZE, **arguments}))
        return ids(loader)

    def by_sampler(who: Accelerator) -> list[int]:
        view = make(data).map_style()
        return through(who, view, sampler=view.sampler())

    def trainer_of(dataset: StreamingDataset) -> Trainer:
        settings = TrainingArguments(
            str(out),
            per_device_train_batch_size=BATCH_SIZE,
            use_cpu=True,
            report_to="none",
            remove_unused_columns=False,
        )
        return Trainer(model=torch.nn.Linear(1, 1), args=settings, train_dataset=dataset)

    def spawned(who: Accelerator) -> list[int]:
        return through(who, make(data), num_workers=1, multiprocessing_context="spawn")

    ours = StreamingDataLoader(make(data))
    is_left_alone = accelerator.prepare(ours) is ours
    cases: dict[str, Callable[[], list[int]]] = {
        "ours": lambda: ids(accelerator.prepare(ours)),
        "ours with workers": lambda: ids(accelerator.prepare(StreamingDataLoader(make(data), num_workers=1))),
        "not prepared": lambda: ids(DataLoader(make(data), batch_size=BATCH_SIZE)),
        "dispatched": lambda: through(accelerator, make(data)),
        "dispatched with spawned workers": lambda: spawned(accelerator),
        "shared": lambda: through(shares, make(data)),
        "shared with spawned workers": lambda: spawned(shares),
        "shared by a sampler": lambda: by_sampler(shares),
        "accelerate shares out alone": lambda: through(shares, make(data, rank=0, world_size=1)),
        "accelerate dispatches alone": lambda: through(accelerator, make(data, rank=0, world_size=1)),
        "transformers' own loader": lambda: ids(trainer_of(make(data)).get_train_dataloader()),
        "transformers' own loader, alone": lambda: ids(
            trainer_of(make(data, rank=0, world_size=1)).get_train_dataloader()
        ),
        # The last one, because only the rank that reads for all hears of it; the other waits until that is gone.
        "dispatched with forked workers": lambda: through(
            accelerator, make(data), num_workers=1, multiprocessing_context="fork"
        ),
    }
    read = {name: attempt(case) for name, case in cases.items()}
    return {**read, "is left alone": is_left_alone}


def with_lightning(data: str, out: Path) -> dict[str, Any]:
    import lightning

    class Reading(lightning.LightningModule):
        """Learns nothing and keeps what it was given."""

        def __init__(self, make_loader: Callable[[], DataLoader[Any]]) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.make_loader = make_loader
            self.batches: list[dict[str, torch.Tensor]] = []

        def train_dataloader(self) -> DataLoader[Any]:
            return self.make_loader()

        def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            self.batches.append(batch)
            return self.weight.sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(make_loader: Callable[[], DataLoader[Any]]) -> list[int]:
        model = Reading(make_loader)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", strategy="ddp", devices=2, **quiet)
        trainer.fit(model)
        return ids(model.batches)

    def by_sampler() -> DataLoader[Any]:
        view = make(data).map_style()
        loader = DataLoader(view, batch_size=BATCH_SIZE, sampler=view.sampler())
        assert isinstance(loader.sampler, DistributedSampler)
        return loader

    cases: dict[str, Callable[[], DataLoader[Any]]] = {
        "ours": lambda: StreamingDataLoader(make(data)),
        "torch's": lambda: DataLoader(make(data), batch_size=BATCH_SIZE),
        "by sampler": by_sampler,
    }
    return {name: attempt(lambda case=case: fit(case)) for name, case in cases.items()}  # type: ignore[misc]


if __name__ == "__main__":
    trainer, data, out = sys.argv[1:]
    torch.set_num_threads(1)
    said = {"accelerate": with_accelerate, "lightning": with_lightning}[trainer](data, Path(out))
    (Path(out) / f"{os.environ['RANK']}.json").write_text(json.dumps(said))
