"""The tasks: what is timed, and in which variants. Runs inside a peer's process; needs NumPy alone.

Setup is never timed: rows are loaded, datasets opened, and what they give is checked against the rows before (for
writers: after) the clock runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import reading, writing
from benchmarks.checks import Measured
from benchmarks.peers.base import Peer
from benchmarks.request import Request
from benchmarks.rows import load_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One table (or one a variant) of the report."""

    summary: str
    metric: str  # the key of an answer that is compared
    unit: str
    higher_is_better: bool
    run: Callable[[Peer, Request], Measured]
    variants: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"": {}})
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


TASKS: dict[str, Task] = {
    "import": Task(
        summary="import in a fresh interpreter: the package, and the two classes that a program starts with",
        metric="seconds",
        unit="s",
        higher_is_better=False,
        run=writing.import_fresh,
        variants={"package": {}, "dataset": {}},
        extras=("torch", "polars"),
    ),
    "write_sample": Task(
        summary="writer.write(sample) for every row, uncompressed, until the dataset is complete",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=writing.write_sample,
        extras=("mb_on_disk",),
    ),
    "write_frame": Task(
        summary="write an Arrow table that is in memory",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=writing.write_frame,
        variants={
            "none": {"compression": None},
            "zstd:3": {"compression": "zstd:3"},
            "lz4": {"compression": "lz4"},
        },
        extras=("mb_on_disk",),
    ),
    "random_sample": Task(
        summary="dataset[i] for random i, all data local and warm",
        metric="mean_ns",
        unit="ns/sample",
        higher_is_better=False,
        run=reading.random_sample,
        extras=("p50_ns", "p99_ns"),
        reads=True,
    ),
    "iterate": Task(
        summary="for sample in dataset, shuffled, one process, from the second epoch on",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=reading.iterate,
        reads=True,
    ),
    "loader": Task(
        summary="for batch in a loader, shuffled, collated (JPEG: decoded and cropped), from the second epoch on",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=reading.loader,
        variants={"0 workers": {"num_workers": 0}, "2 workers": {"num_workers": 2}},
        reads=True,
    ),
    "mosaic_files": Task(
        summary="for sample in dataset, shuffled, one process, over the .mds files of mosaicml-streaming in a remote "
        "directory: the first epoch, which fetches them, and those after it",
        metric="samples_per_s",
        unit="samples/s",
        higher_is_better=True,
        run=reading.mosaic_files,
        variants={"first epoch": {"epoch": "first"}, "later epochs": {"epoch": "later"}},
    ),
}
