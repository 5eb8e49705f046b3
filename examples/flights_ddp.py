"""Data-parallel training that may be stopped in the middle of an epoch, and ends with the weights of an unbroken run.

    python examples/flights_delay.py --dir /tmp/flights
    torchrun --nproc-per-node=2 examples/flights_ddp.py --dir /tmp/flights --save-every 100

Stop it whenever you like, and go on with --resume /tmp/flights/checkpoint.pt. Predicts how late a flight arrives.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from flights_delay import Delay, training_arguments
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from arrowstream import StreamingDataLoader, StreamingDataset


def train(given: argparse.Namespace) -> None:
    """Train as one rank of several, from the checkpoint if there is one."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    dataset = StreamingDataset(local=given.dir / "shards", shuffle=True, batch_size=given.batch_size)
    # A generator of its own: else starting an epoch would draw from the one that dropout draws from.
    own = torch.Generator().manual_seed(rank)
    loader = StreamingDataLoader(
        dataset, num_workers=given.workers, persistent_workers=given.workers > 0, generator=own
    )
    # So that buckets of gradients stay as they are: else the first step after a start sums in another order than all
    # others, and the weights of more than two ranks differ in the last bit after a resume.
    model = DistributedDataParallel(Delay(), find_unused_parameters=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "loader": loader}
    steps = 0
    if given.resume:
        saved = torch.load(given.resume)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["random"][rank])
        steps = saved["steps"]
    while dataset.next_epoch < given.epochs:
        for batch in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.l1_loss(model(batch), batch["arr_delay"])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
            if given.save_every and steps % given.save_every == 0:
                save(given.dir / "checkpoint.pt", parts, steps)
    if rank == 0:
        torch.save(model.module.state_dict(), given.dir / given.out)
        print(f"{steps} steps; the last batch was off by {loss:.1f} minutes; {loader.stats()}")
    distributed.destroy_process_group()


def save(checkpoint: Path, parts: dict[str, Any], steps: int) -> None:
    """Write what all ranks need to go on; only random numbers differ between them."""
    random: list[torch.Tensor] = [torch.empty_like(torch.get_rng_state()) for _ in range(distributed.get_world_size())]
    distributed.all_gather(random, torch.get_rng_state())
    states = {name: part.state_dict() for name, part in parts.items()}
    if distributed.get_rank() == 0:
        unfinished = checkpoint.with_suffix(".unfinished")
        torch.save({**states, "random": random, "steps": steps}, unfinished)
        os.replace(unfinished, checkpoint)


if __name__ == "__main__":
    train(training_arguments(__doc__))
