"""transformers' Trainer, stopped in the middle of an epoch and gone on with, to the weights of an unbroken run.

    python examples/flights_delay.py --dir /tmp/flights
    torchrun --nproc-per-node=2 examples/flights_transformers.py --dir /tmp/flights --save-every 100

Go on with --resume /tmp/flights/checkpoint-100. Predicts how late a flight arrives.
"""

import argparse

import torch
from flights_delay import Delay, training_arguments
from transformers import Trainer, TrainingArguments

from arrowstream import StreamingDataLoader, StreamingDataset
from arrowstream.transformers import LoaderState


class Model(torch.nn.Module):
    """Takes the columns as keywords and gives the loss, as the Trainer expects it."""

    def __init__(self) -> None:
        super().__init__()
        self.delay = Delay()

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the loss."""
        return {"loss": self.delay.loss(batch)}


class StreamingTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose ranks read their own samples."""

    def get_train_dataloader(self) -> StreamingDataLoader:
        """Make the loader."""
        # A generator of its own: else starting an epoch would draw from the one that dropout draws from.
        own = torch.Generator().manual_seed(self.args.process_index)
        return StreamingDataLoader(self.train_dataset, num_workers=self.args.dataloader_num_workers, generator=own)


def train(given: argparse.Namespace) -> None:
    """Train as one rank of several, from the checkpoint if there is one."""
    torch.set_num_threads(1)
    settings = TrainingArguments(
        output_dir=str(given.dir),
        num_train_epochs=given.epochs,
        per_device_train_batch_size=given.batch_size,
        dataloader_num_workers=given.workers,
        save_strategy="steps" if given.save_every else "no",
        save_steps=given.save_every or 500,
        learning_rate=1e-2,
        use_cpu=True,
        ddp_backend="gloo",
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
    )
    dataset = StreamingDataset(local=given.dir / "shards", shuffle=True, batch_size=given.batch_size)
    trainer = StreamingTrainer(model=Model(), args=settings, train_dataset=dataset, callbacks=[LoaderState()])
    trainer.train(resume_from_checkpoint=str(given.resume) if given.resume else None)
    if trainer.is_world_process_zero():
        torch.save(trainer.model.delay.state_dict(), given.dir / given.out)


if __name__ == "__main__":
    train(training_arguments(__doc__))
