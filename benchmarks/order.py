"""How well an order mixes, what it holds, and what it costs to compute; beside the orders of mosaicml-streaming.

    python -m benchmarks.order [--quick] [--env PYTHON_OF_MOSAIC] [--out FILE]

*Mixing* is measured on data sorted by class: 400 shards of 1,000 samples, ten classes, batches of 256. Only ids are
simulated; nothing is read. *Live* is what is between its first use and its last: the mean over the epoch, and the most
at any moment. *Computing* is from the index in memory to the first batch of 256, each in a process of its own, with the
memory that the process took on top. ``--env`` is the Python of an environment that has mosaicml-streaming: its own py1e
is then timed beside ours at the same size.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.plan.mosaic.shuffles import BLOCK_SIZE, SHUFFLES
from arrowstream.plan.order import Order
from arrowstream.plan.quality import Units, distinct_per_batch, label_distance, residency
from arrowstream.plan.window import Shards, ShuffleUnit, choose_window

IntArray = npt.NDArray[np.int64]

SHARDS, ROWS, CLASSES, BATCH, SAMPLE_BYTES, SEED = 400, 1000, 10, 256, 1000, 9176
MOSAIC = """
import json, resource, sys, time
import numpy as np
from streaming.base.shuffle.py1e import get_shuffle_py1e
sizes = np.full(int(sys.argv[1]), int(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
first = get_shuffle_py1e(sizes, 1, 9176, 0, 4_000_000)[:256]
print(json.dumps({"seconds": time.perf_counter() - start,
                  "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}))
"""


def mixing(ids: IntArray, shards: Shards, unit: ShuffleUnit) -> dict[str, Any]:
    """Measure one order, given as the sample at each position."""
    units = Units.of(shards, unit)
    used = units.of_samples(ids)
    held = residency(used[:, None], units, whole_epoch=True)
    batches = ids[: len(ids) // BATCH * BATCH].reshape(-1, BATCH)
    total = int(shards.num_bytes.sum())
    return {
        "unit": unit,
        "label_distance": round(label_distance(batches * CLASSES // len(ids), np.full(CLASSES, 1 / CLASSES)), 4),
        "units_per_batch": round(distinct_per_batch(units.of_samples(batches)), 1),
        "live_mean_percent": round(100 * held.mean_bytes / total, 3),
        "live_most_percent": round(100 * held.max_bytes / total, 3),
    }


def own_order(shards: Shards, unit: ShuffleUnit | None, budget: int | None) -> dict[str, Any]:
    window = choose_window(shards, unit=unit, budget=budget)
    order = Order(
        shards.num_samples,
        shuffle=True,
        seed=SEED,
        epoch=0,
        block_size=window.block_size,
        canonical_nodes=window.canonical_nodes,
        rows_per_unit=shards.rows_per_unit(window.unit),
    )
    figures = mixing(order.samples_at(np.arange(order.num_samples)), shards, window.unit)
    return {"canonical_nodes": window.canonical_nodes, "block_size": window.block_size, **figures}


def mixing_table() -> list[dict[str, Any]]:
    counts = np.full(SHARDS, ROWS)
    total = SHARDS * ROWS * SAMPLE_BYTES

    def shards_with(rows_per_batch: int) -> Shards:
        return Shards(
            num_samples=counts, rows_per_batch=np.full(SHARDS, rows_per_batch), num_bytes=counts * SAMPLE_BYTES
        )

    rows = [{"order": "arrowstream, by default", **own_order(shards_with(0), None, None)}]
    for rows_per_batch in (8, 16, 32, 64):
        for percent in (1, 3, 10):
            name = f"arrowstream, record batches of {rows_per_batch}, budget {percent} %"
            rows.append(
                {"order": name, **own_order(shards_with(rows_per_batch), "record_batch", total * percent // 100)}
            )
    for percent in (10, 30, 60):
        name = f"arrowstream, shards, budget {percent} %"
        rows.append({"order": name, **own_order(shards_with(0), "shard", total * percent // 100)})
    for name, shuffle in SHUFFLES.items():
        for block_size in (20_000, BLOCK_SIZE):
            figures = mixing(shuffle(counts, 1, SEED, 0, block_size), shards_with(0), "shard")
            rows.append({"order": f"mosaic's {name}", "canonical_nodes": 1, "block_size": block_size, **figures})
    perfect = np.random.default_rng(SEED).permutation(SHARDS * ROWS)
    rows.append({"order": "all samples at random", **mixing(perfect, shards_with(0), "shard")})
    return rows


def first_batch(num_shards: int, rows: int, place: str) -> dict[str, float]:
    """Compute the first batch at a place of the epoch; in a process of its own, for the memory."""
    counts = np.full(num_shards, rows)
    num_samples = num_shards * rows
    start = {"start": 0, "middle": num_samples // 2, "end": num_samples - BATCH}[place]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    order = Order(counts, shuffle=True, seed=SEED, epoch=1)
    order.samples_at(np.arange(start, start + BATCH))
    seconds = time.perf_counter() - began
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "mib": mib}


def million(num_shards: int, rows: int) -> dict[str, float]:
    """Compute a million positions from the middle of an epoch, and find them back."""
    order = Order(np.full(num_shards, rows), shuffle=True, seed=SEED, epoch=1)
    positions = np.arange(10**6) + num_shards * rows // 2
    began = time.perf_counter()
    ids = order.samples_at(positions)
    there = time.perf_counter()
    order.positions_of(ids)
    return {"seconds": there - began, "back_seconds": time.perf_counter() - there}


def py1e_whole(num_shards: int, rows: int) -> dict[str, float]:
    """Lay out py1e as our port of it does."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    SHUFFLES["py1e"](np.full(num_shards, rows), 1, SEED, 0, 4_000_000)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


ALONE: dict[str, Callable[..., dict[str, float]]] = {
    "first_batch": first_batch,
    "million": million,
    "py1e_whole": py1e_whole,
}


def alone(task: str, *arguments: object) -> dict[str, float]:
    """Run a task in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.order", "--alone", task, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def computing_table(env: str | None, *, quick: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for num_shards, num_rows in [(10**6, 10**4), (50_000, 20_000)]:
        size = f"{num_shards * num_rows:.0e} samples in {num_shards:.0e} shards"
        rows += [
            {"what": f"first batch at the {place}, {size}", **alone("first_batch", num_shards, num_rows, place)}
            for place in ("start", "middle", "end")
        ]
        rows.append({"what": f"1 M positions, {size}", **alone("million", num_shards, num_rows)})
    num_shards, num_rows = (50, 20_000) if quick else (500, 20_000)
    size = f"{num_shards * num_rows:.0e} samples in {num_shards} shards"
    rows.append({"what": f"first batch at the start, {size}", **alone("first_batch", num_shards, num_rows, "start")})
    rows.append({"what": f"our port of py1e, {size}", **alone("py1e_whole", num_shards, num_rows)})
    if env is not None:
        done = subprocess.run(
            [env, "-c", MOSAIC, str(num_shards), str(num_rows)], capture_output=True, text=True, check=True, timeout=900
        )
        rows.append({"what": f"mosaicml-streaming's py1e, {size}", **json.loads(done.stdout.splitlines()[-1])})
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [
        [f"{row[name]:.4g}" if isinstance(row.get(name), float) else str(row.get(name, "")) for name in names]
        for row in rows
    ]
    widths = [max(len(name), *(len(row[column]) for row in cells)) for column, name in enumerate(names)]
    for row in [names, ["-" * width for width in widths], *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller epoch beside mosaicml-streaming")
    parser.add_argument("--env", help="the Python of an environment that has mosaicml-streaming")
    parser.add_argument("--out", type=Path, help="write the figures there, as JSON")
    parser.add_argument("--alone", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        task, *values = arguments.alone
        print(json.dumps(ALONE[task](*(int(value) if value.isdecimal() else value for value in values))))
        return
    tables = {"mixing": mixing_table(), "computing": computing_table(arguments.env, quick=arguments.quick)}
    for rows in tables.values():
        show(rows)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(tables, indent=2))


if __name__ == "__main__":
    main()
