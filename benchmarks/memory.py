"""What a loader's worker process keeps to itself: over ten epochs, with a hundred times as many samples, or shards.

    python -m benchmarks.memory

Datasets of one small column are read by ``StreamingDataLoader`` with two workers that persist. Several times an epoch
and after it every worker's private memory is read from ``/proc/PID/smaps``: what is mapped of shards (the page cache,
which the system takes back when it likes) and of slabs (which the training process has as well) is told apart. Linux
only.

Each dataset is written by one process and read by another, which starts afresh: what the one has freed a worker
inherits as holes in the heap, which it fills with memory of its own.

*Amid* is the most that a worker had while it read, its shuffle's blocks among it, which hold 2^18 samples or, of a
smaller dataset, all. *After* is what was left when the epoch was over.

Fails if a worker grows by 5 MB or more between the first and the last epoch, if after an epoch of many samples it has
3 MB more than after one of few samples in as many shards, or if it has more than 20 KB for each shard that is open.
"""

import argparse
import multiprocessing
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from arrowstream import StreamingDataLoader, StreamingDataset, index_files, write_dataframe

MAX_GROWTH = 5e6
MAX_DIFFERENCE = 3e6  # what malloc keeps of what was freed differs by one or two MB
MAX_SHARD = 20e3
_LOOKS = 8  # at the workers during an epoch
NUM_WORKERS = 2
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)$")


class Memory(NamedTuple):
    """Bytes of a process: its own, of mapped shards, and of slabs."""

    private: int
    shards: int
    slabs: int


def memory_of(pid: int, shards: Path) -> Memory:
    """Read a process's memory; a page of a slab counts as a share for each process that has it."""
    private = of_shards = of_slabs = 0
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        mapping = _MAPPING.match(line)
        if mapping:
            name = mapping[1]
            continue
        field, _, rest = line.partition(":")
        if field not in ("Private_Clean", "Private_Dirty", "Pss"):
            continue
        num_bytes = int(rest.split()[0]) * 1024
        if "arrowstream-batch" in name:
            of_slabs += num_bytes if field == "Pss" else 0
        elif name.startswith(str(shards)):
            of_shards += num_bytes if field == "Pss" else 0
        elif field != "Pss":
            private += num_bytes
    return Memory(private, of_shards, of_slabs)


class Epoch(NamedTuple):
    """What the worker had that had most, while it read an epoch and after it."""

    amid: Memory
    after: Memory


def write(directory: Path, samples: int, shards: int) -> None:
    """Write a dataset of so many shards, of about the same size; its index has one group, as one writer's has."""
    borders = [samples * shard // shards for shard in range(shards + 1)]
    for shard, (start, stop) in enumerate(pairwise(borders)):
        ids = np.arange(start, stop, dtype=np.int32)
        write_dataframe(pa.table({"id": ids}), directory / f"{shard:05}", size_limit=None)
    assert index_files(directory, pattern="*.arrow").num_shards == shards


def measure(directory: Path, batch_size: int, epochs: int, start_method: str) -> list[Epoch]:
    """Read epochs, and look at the workers."""
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    dataset = StreamingDataset(local=directory, shuffle=True, batch_size=batch_size)
    loader = StreamingDataLoader(
        dataset, num_workers=NUM_WORKERS, persistent_workers=True, multiprocessing_context=start_method
    )

    def look() -> Memory:
        return max(memory_of(worker.pid or 0, directory) for worker in multiprocessing.active_children())

    found = []
    for _ in range(epochs):
        num_samples, amid = 0, Memory(0, 0, 0)
        for number, batch in enumerate(loader, 1):
            num_samples += len(batch["id"])
            if number % max(dataset.size // batch_size // _LOOKS, 1) == 0:
                amid = max(amid, look())
        assert num_samples == dataset.size, (num_samples, dataset.size)
        found.append(Epoch(amid, look()))
    return found


def afresh(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000, 10_000_000])
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 900])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--start-method", choices=["fork", "forkserver", "spawn"], default="fork")
    arguments = parser.parse_args()
    print("private MB of the larger worker; shards and slabs in use, after the epoch")
    print(f"{'samples':>12} {'shards':>7} {'epoch':>5} {'amid':>8} {'after':>8} {'shards':>8} {'slabs':>8}")
    last: dict[tuple[int, int], Memory] = {}
    grown = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for shards in arguments.shards:
            for samples in arguments.samples:
                directory = Path(folder, f"{samples}-{shards}").resolve()
                afresh(write, directory, samples, shards)
                settings = arguments.batch_size, arguments.epochs, arguments.start_method
                found: list[Epoch] = afresh(measure, directory, *settings)
                for number, (amid, after) in enumerate(found, 1):
                    shown = " ".join(f"{part / 1e6:8.1f}" for part in (amid.private, *after))
                    print(f"{samples:12,} {shards:7,} {number:5} {shown}", flush=True)
                last[samples, shards] = found[-1].after
                growths = [getattr(found[-1], when).private - getattr(found[0], when).private for when in Epoch._fields]
                grown = max(grown, *growths)
    return judge(last, grown, arguments.samples, arguments.shards)


def judge(last: dict[tuple[int, int], Memory], grown: float, samples: list[int], shards: list[int]) -> int:
    """Say what memory depends on, and whether that is right; the exit status."""
    few, many = min(samples), max(samples)
    more = {number: last[many, number].private - last[few, number].private for number in shards}
    print(f"a worker grows by {grown / 1e6:.1f} MB")
    for number, difference in more.items():
        print(f"in {number:,} shards it has {difference / 1e6:+.1f} MB for {many:,} samples beside {few:,}")
    fewest, most = min(shards), max(shards)
    each = (last[many, most].private - last[many, fewest].private) / max(most - fewest, 1)
    if most > fewest:
        print(f"a shard takes {each / 1e3:.1f} KB")
    return 0 if grown < MAX_GROWTH and max(more.values()) < MAX_DIFFERENCE and each < MAX_SHARD else 1


if __name__ == "__main__":
    sys.exit(main())
