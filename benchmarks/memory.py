"""What a loader's worker process keeps to itself: over ten epochs, and with a hundred times as many samples.

    python -m benchmarks.memory

Two datasets of one small column are read by ``StreamingDataLoader`` with two workers that persist. After each epoch
every worker's private memory is read from ``/proc/PID/smaps``: what is mapped of shards (the page cache, which the
system takes back when it likes) and of slabs (which the training process has as well) is told apart. Linux only.

Fails if a worker's private memory grows by 5 MB or more between the first and the last epoch, or if it is larger by as
much with the many samples.
"""

import argparse
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from arrowstream import StreamingDataLoader, StreamingDataset, write_dataframe

MAX_GROWTH = 5e6
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


def measure(directory: Path, batch_size: int, epochs: int) -> list[Memory]:
    """Read epochs, and give after each the memory of the worker that has most of its own."""
    dataset = StreamingDataset(local=directory, shuffle=True, batch_size=batch_size)
    loader = StreamingDataLoader(dataset, num_workers=NUM_WORKERS, persistent_workers=True)
    found = []
    for _ in range(epochs):
        num_samples = sum(len(batch["id"]) for batch in loader)
        assert num_samples == dataset.size, (num_samples, dataset.size)
        workers = loader._source._iterator._workers
        found.append(max(memory_of(worker.pid, directory) for worker in workers))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000, 10_000_000])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=4096)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    print(f"{'samples':>12} {'epoch':>5} {'private MB':>10} {'shards MB':>10} {'slabs MB':>10}   the larger worker")
    last: list[Memory] = []
    grown = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for samples in arguments.samples:
            directory = Path(folder, str(samples)).resolve()
            write_dataframe(pa.table({"id": np.arange(samples, dtype=np.int32)}), directory)
            found = measure(directory, arguments.batch_size, arguments.epochs)
            for epoch, memory in enumerate(found, 1):
                shown = " ".join(f"{part / 1e6:10.1f}" for part in memory)
                print(f"{samples:12,} {epoch:5} {shown}", flush=True)
            last.append(found[-1])
            grown = max(grown, found[-1].private - found[0].private)
    more = last[-1].private - last[0].private
    print(f"a worker grows by {grown / 1e6:.1f} MB; with the most samples it has {more / 1e6:+.1f} MB")
    return 0 if max(grown, more) < MAX_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
