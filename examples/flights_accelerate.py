"""Hugging Face's Accelerate, stopped in the middle of an epoch and gone on with, to the weights of an unbroken run.

    python examples/flights_delay.py --dir /tmp/flights
    accelerate launch --cpu --num-processes 2 examples/flights_accelerate.py --dir /tmp/flights --save-every 100

Go on with --resume /tmp/flights/step_100. Predicts how late a flight arrives.
"""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from flights_delay import Delay, training_arguments

from arrowstream import StreamingDataLoader, StreamingDataset


def train(given: argparse.Namespace) -> None:
    """Train as one rank of several, from the checkpoint if there is one."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    set_seed(0, device_specific=True)
    dataset = StreamingDataset(local=given.dir / "shards", shuffle=True, batch_size=given.batch_size)
    # A generator of its own: else starting an epoch would draw from the one that dropout draws from.
    own = torch.Generator().manual_seed(accelerator.process_index)
    loader = StreamingDataLoader(
        dataset, num_workers=given.workers, persistent_workers=given.workers > 0, generator=own
    )
    model = Delay()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    if given.resume:
        accelerator.load_state(str(given.resume))  # the loader goes on as well
    steps = 0
    while dataset.next_epoch < given.epochs:
        for batch in loader:
            batch = send_to_device(batch, accelerator.device)  # noqa: PLW2901  # Accelerate leaves the loader alone
            optimizer.zero_grad()
            loss = torch.nn.functional.l1_loss(model(batch), batch["arr_delay"])
            accelerator.backward(loss)
            optimizer.step()
            steps += 1
            if given.save_every and steps % given.save_every == 0:
                accelerator.save_state(str(given.dir / f"step_{steps}"))
    if accelerator.is_main_process:
        torch.save(accelerator.unwrap_model(model).state_dict(), given.dir / given.out)
        print(f"{steps} steps; the last batch was off by {loss:.1f} minutes; {loader.stats()}")
    accelerator.end_training()


if __name__ == "__main__":
    train(training_arguments(__doc__))
