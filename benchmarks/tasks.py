"""The tasks: what is timed, in which variants, and how. Runs inside a peer's process; needs NumPy alone.

Setup is never timed: rows are loaded, datasets opened, and what they give is checked against the rows before (for
writers: after) the clock runs. What is short is repeated until it has taken ``_MIN_SECONDS``.
"""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, perf_counter_ns

import numpy as np

from benchmarks.peers.base import Peer
from benchmarks.request import Request
from benchmarks.rows import Rows, WrongRowError, load_rows

_MIN_SECONDS = 0.5
_CHECKED_ROWS = 50
_BLOCK_CALLS = 1000


Measured = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One table (or one a variant) of the report."""

    summary: str
    metric: str  # the key of an answer that is compared
    unit: str
    higher_is_better: bool
    run: Callable[[Peer, Request], Measured]
    variants: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"": {}})
    limit: str | None = None  # the peer that shows what is possible
    extras: tuple[str, ...] = ()  # further keys worth a column
    reads: bool = False  # needs the data that `prepare` writes


def answer(peer: Peer, request: Request) -> Measured:
    """Do what was asked, and say which versions did it."""
    run = _prepare if request.task == "prepare" else TASKS[request.task].run
    measured = run(peer, request)
    return {"task": request.task, **measured, "versions": peer.versions()}


def _prepare(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    peer.write_samples(request, rows, rows.samples())
    return {"n": len(rows)}


def _import(peer: Peer, request: Request) -> Measured:
    """The median of three fresh interpreters, their own start not counted."""
    code = (
        "import json, sys, time; start = time.perf_counter(); "
        f"{peer.imports[request.variant]}; seconds = time.perf_counter() - start; "
        "print(json.dumps([seconds, 'torch' in sys.modules, 'polars' in sys.modules]))"
    )
    found = []
    for _ in range(3):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"{peer.imports[request.variant]!r} failed: {ran.stderr.strip()}")
        found.append(json.loads(ran.stdout.splitlines()[-1]))
    seconds = [fresh[0] for fresh in found]
    return {"n": 3, "seconds": statistics.median(seconds), "torch": found[0][1], "polars": found[0][2]}


def _write_sample(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    samples = rows.samples()

    def write(out: Path) -> None:
        peer.write_samples(request.at(out), rows, samples)

    return _time_writes(write, peer, rows, request)


def _write_frame(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    table = rows.to_arrow()

    def write(out: Path) -> None:
        peer.write_table(request.at(out), table)

    return _time_writes(write, peer, rows, request)


def _time_writes(write: Callable[[Path], None], peer: Peer, rows: Rows, request: Request) -> Measured:
    scratch = Path(request.scratch_dir)
    write(scratch / "warm")  # imports, codecs, thread pools
    seconds: list[float] = []
    while sum(seconds) < _MIN_SECONDS:
        out = scratch / f"write{len(seconds)}"
        start = perf_counter()
        write(out)
        seconds.append(perf_counter() - start)
        num_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        shutil.rmtree(out)
    _check_reads(peer.open(request.at(scratch / "warm")), rows)
    median = statistics.median(seconds)
    return {
        "n": len(rows),
        "seconds": median,
        "samples_per_s": len(rows) / median,
        "mb_on_disk": num_bytes / 1e6,
    }


def _random_sample(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    dataset = peer.open(request)
    _check_reads(dataset, rows)
    blocks = np.random.default_rng(1).integers(0, len(rows), (200, _BLOCK_CALLS)).tolist()  # Python ints
    _read_block(dataset, blocks[0])
    started = perf_counter()
    means = []
    for block in blocks[1:]:
        means.append(_read_block(dataset, block) / _BLOCK_CALLS)
        if perf_counter() - started > _MIN_SECONDS and len(means) >= 3:
            break
    singles = []
    for i in blocks[0]:
        start = perf_counter_ns()
        dataset[i]
        singles.append(perf_counter_ns() - start)
    mean_ns = statistics.fmean(means)
    return {
        "n": len(means) * _BLOCK_CALLS,
        "seconds": mean_ns * len(means) * _BLOCK_CALLS / 1e9,
        "samples_per_s": 1e9 / mean_ns,
        "mean_ns": mean_ns,
        "p50_ns": statistics.median(singles),
        "p99_ns": sorted(singles)[len(singles) * 99 // 100],
    }


def _read_block(dataset, ids: list[int]) -> int:
    start = perf_counter_ns()
    for i in ids:
        dataset[i]
    return perf_counter_ns() - start


def _iterate(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    dataset = peer.shuffled(request)
    seen = []
    for k, sample in enumerate(dataset):
        seen.append(rows.check(sample) if k < _CHECKED_ROWS else sample["id"])
    _check_epoch(seen, rows)
    return _time_epochs(lambda: _count_samples(dataset), rows)


def _loader(peer: Peer, request: Request) -> Measured:
    return _time_batches(peer.batches(request), load_rows(Path(request.rows_dir)))


def _batches(peer: Peer, request: Request) -> Measured:
    return _time_batches(peer.whole_batches(request), load_rows(Path(request.rows_dir)))


def _time_batches(loader: Iterable, rows: Rows) -> Measured:
    seen: list[int] = []
    for k, batch in enumerate(loader):
        if k == 0:
            for j in range(min(_CHECKED_ROWS, len(batch["id"]))):
                rows.check({name: column[j] for name, column in batch.items()})
        seen += batch["id"].tolist()
    _check_epoch(seen, rows)
    return _time_epochs(lambda: sum(len(batch["id"]) for batch in loader), rows)


def _mosaic_files(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    scratch = Path(request.scratch_dir)
    written = request.at(scratch / "written")
    peer.write_mosaic(written, rows, rows.samples())
    dataset = peer.stream(written, scratch / "cache")
    start = perf_counter()
    seen = [sample["id"] for sample in dataset]
    seconds = perf_counter() - start
    _check_epoch(seen, rows)
    for k, sample in enumerate(dataset):
        if k < _CHECKED_ROWS:
            rows.check(sample)
    if request.options["epoch"] == "first":
        return {"n": len(rows), "seconds": seconds, "samples_per_s": len(seen) / seconds}
    return _time_epochs(lambda: _count_samples(dataset), rows)


def _time_epochs(run_epoch: Callable[[], int], rows: Rows) -> Measured:
    """Time whole epochs, from ``iter()`` to the end; the first one was the check's."""
    seconds: list[float] = []
    num_samples = 0
    while sum(seconds) < _MIN_SECONDS:
        start = perf_counter()
        num_samples += run_epoch()
        seconds.append(perf_counter() - start)
    return {"n": len(rows), "seconds": statistics.fmean(seconds), "samples_per_s": num_samples / sum(seconds)}


def _count_samples(dataset: Iterable) -> int:
    num_samples = 0
    for _ in dataset:
        num_samples += 1
    return num_samples


def _check_reads(dataset, rows: Rows) -> None:
    for i in np.random.default_rng(2).integers(0, len(rows), _CHECKED_ROWS).tolist():
        if rows.check(dataset[i]) != i:
            raise WrongRowError(f"dataset[{i}] is another row")


def _check_epoch(seen: list[int], rows: Rows) -> None:
    """Every row came, in another order than it was written. (A last batch may repeat some.)"""
    missing = len(rows) - len(set(seen))
    if missing:
        raise WrongRowError(f"an epoch left out {missing} of {len(rows)} rows")
    if seen == sorted(seen):
        raise WrongRowError("an epoch that was to be shuffled came in the order of writing")


TASKS: dict[str, Task] = {
    "import": Task(
        summary="import in a fresh interpreter: the package, and the two classes that a program starts with",
        metric="seconds",
        unit="s",
        higher_is_better=False,
        run=_import,
        variants={"package": {}, "dataset": {}},
        extras=("torch", "polars"),
    ),
    "write_sample": Task(
        summary="writer.write(sample) for every row, uncompressed, until the dataset is complete",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=_write_sample,
        extras=("mb_on_disk",),
    ),
    "write_frame": Task(
        summary="write an Arrow table that is in memory",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=_write_frame,
        variants={
            "none": {"compression": None},
            "zstd:3": {"compression": "zstd:3"},
            "lz4": {"compression": "lz4"},
        },
        limit="arrow_ipc",
        extras=("mb_on_disk",),
    ),
    "random_sample": Task(
        summary="dataset[i] for random i, all data local and warm",
        metric="mean_ns",
        unit="ns/sample",
        higher_is_better=False,
        run=_random_sample,
        limit="memmap",
        extras=("p50_ns", "p99_ns"),
        reads=True,
    ),
    "iterate": Task(
        summary="for sample in dataset, shuffled, one process, from the second epoch on",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=_iterate,
        limit="memmap",
        reads=True,
    ),
    "loader": Task(
        summary="for batch in a torch DataLoader, shuffled, collated, from the second epoch on",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=_loader,
        variants={"0 workers": {"num_workers": 0}, "2 workers": {"num_workers": 2}},
        limit="memmap",
        reads=True,
    ),
    "mosaic_files": Task(
        summary="for sample in dataset, shuffled, one process, over the .mds files of mosaicml-streaming in a remote "
        "directory: the first epoch, which fetches them, and those after it",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=_mosaic_files,
        variants={"first epoch": {"epoch": "first"}, "later epochs": {"epoch": "later"}},
    ),
    "batches": Task(
        summary="for batch in what gives shuffled batches of tensors soonest, one process, from the second epoch on",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=_batches,
        variants={"": {"num_workers": 0}},
        limit="memmap",
        reads=True,
    ),
}
