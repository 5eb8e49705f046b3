"""MosaicML's Composer, stopped in the middle of an epoch and gone on with, to the weights of an unbroken run.

    python examples/flights_delay.py --dir /tmp/flights
    composer -n 2 examples/flights_composer.py --dir /tmp/flights --save-every 100

Go on with --resume /tmp/flights/step-100. Predicts how late a flight arrives.
"""

import argparse
from typing import Any

import torch
from composer import ComposerModel, Time, Trainer
from composer.callbacks import CheckpointSaver
from composer.utils import dist
from flights_delay import Delay, training_arguments

from arrowstream import StreamingDataLoader, StreamingDataset


class Model(ComposerModel):  # type: ignore[misc]
    """Predicts the delay at arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.delay = Delay(dropout=0)  # after a resume dropout draws other numbers than in an unbroken run

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Give predictions, (batch,)."""
        prediction: torch.Tensor = self.delay(batch)
        return prediction

    def loss(self, outputs: torch.Tensor, batch: dict[str, torch.Tensor], *args: Any) -> torch.Tensor:
        """Give by how many minutes the predictions are off on average."""
        return torch.nn.functional.l1_loss(outputs, batch["arr_delay"])


def train(given: argparse.Namespace) -> None:
    """Train as one rank of several, from the checkpoint if there is one."""
    torch.set_num_threads(1)
    dist.initialize_dist("cpu")
    dataset = StreamingDataset(local=given.dir / "shards", shuffle=True, batch_size=given.batch_size)
    # A generator of its own: else starting an epoch would draw from the one that dropout draws from.
    own = torch.Generator().manual_seed(dist.get_global_rank())
    loader = StreamingDataLoader(
        dataset, num_workers=given.workers, persistent_workers=given.workers > 0, generator=own
    )
    model = Model()
    every = Time(given.save_every or 10**9, "ba")
    saving = CheckpointSaver(folder=str(given.dir), filename="step-{batch}", save_interval=every, overwrite=True)
    trainer = Trainer(
        model=model,
        train_dataloader=loader,  # Composer counts the samples, and keeps the dataset's state
        optimizers=torch.optim.Adam(model.parameters(), lr=1e-2),
        max_duration=Time(given.epochs, "ep"),
        callbacks=[saving],
        load_path=str(given.resume) if given.resume else None,
        device="cpu",
        seed=0,
        progress_bar=False,
    )
    trainer.fit()
    if dist.get_global_rank() == 0:
        torch.save(model.delay.state_dict(), given.dir / given.out)
    trainer.close()


if __name__ == "__main__":
    train(training_arguments(__doc__))
