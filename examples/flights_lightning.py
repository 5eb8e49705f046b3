"""Lightning's Trainer, stopped in the middle of an epoch and gone on with, to the weights of an unbroken run.

    python examples/flights_delay.py --dir /tmp/flights
    torchrun --nproc-per-node=2 examples/flights_lightning.py --dir /tmp/flights --save-every 100

Go on with --resume /tmp/flights/step=100.ckpt. Predicts how late a flight arrives.
"""

import argparse
import os

import lightning
import torch
from flights_delay import Delay, training_arguments
from lightning.pytorch.callbacks import ModelCheckpoint

from arrowstream import StreamingDataLoader, StreamingDataset


class Model(lightning.LightningModule):  # type: ignore[misc]
    """Predicts the delay at arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.delay = Delay(dropout=0)  # Lightning's checkpoints hold no random state, so that dropout would differ

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Give the loss."""
        return self.delay.loss(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def train(given: argparse.Namespace) -> None:
    """Train as one rank of several, from the checkpoint if there is one."""
    torch.set_num_threads(1)
    lightning.seed_everything(0)
    dataset = StreamingDataset(local=given.dir / "shards", shuffle=True, batch_size=given.batch_size)
    loader = StreamingDataLoader(dataset, num_workers=given.workers, persistent_workers=given.workers > 0)
    saving = ModelCheckpoint(given.dir, filename="{step}", every_n_train_steps=given.save_every or 0, save_top_k=-1)
    model = Model()
    trainer = lightning.Trainer(
        max_epochs=given.epochs,
        accelerator="cpu",
        strategy="ddp",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        callbacks=[saving],
        logger=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, loader, ckpt_path=given.resume)
    if trainer.is_global_zero:
        torch.save(model.delay.state_dict(), given.dir / given.out)
        print(f"{trainer.global_step} steps; {loader.stats()}")


if __name__ == "__main__":
    train(training_arguments(__doc__))
