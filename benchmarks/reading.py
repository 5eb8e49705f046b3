"""The tasks of reading. What a peer gives is compared with the rows at its first turn; then epochs alone are timed."""

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter, perf_counter_ns

import numpy as np

from benchmarks.checks import CHECKED_ROWS, MIN_SECONDS, Measured, check_epoch, check_reads
from benchmarks.peers.base import Peer
from benchmarks.request import Request
from benchmarks.rows import Rows, load_rows

_BLOCK_CALLS = 1000


def random_sample(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    dataset = peer.open(request)
    check_reads(dataset, rows)
    blocks = np.random.default_rng(1).integers(0, len(rows), (200, _BLOCK_CALLS)).tolist()  # Python ints
    _read_block(dataset, blocks[0])
    started = perf_counter()
    means = []
    for block in blocks[1:]:
        means.append(_read_block(dataset, block) / _BLOCK_CALLS)
        if perf_counter() - started > MIN_SECONDS and len(means) >= 3:
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


def iterate(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    dataset = peer.shuffled(request)
    seen = []
    for k, sample in enumerate(dataset):
        seen.append(rows.check(sample) if k < CHECKED_ROWS else sample["id"])
    check_epoch(seen, rows)
    return _time_epochs(lambda: _count_samples(dataset), rows)


def mosaic_files(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    scratch = Path(request.scratch_dir)
    written = request.at(scratch / "written")
    peer.write_mosaic(written, rows, rows.samples())
    dataset = peer.stream(written, scratch / "cache")
    start = perf_counter()
    seen = [sample["id"] for sample in dataset]
    seconds = perf_counter() - start
    check_epoch(seen, rows)
    for k, sample in enumerate(dataset):
        if k < CHECKED_ROWS:
            rows.check(sample)
    if request.options["epoch"] == "first":
        return {"n": len(rows), "seconds": seconds, "samples_per_s": len(seen) / seconds}
    return _time_epochs(lambda: _count_samples(dataset), rows)


def loader(peer: Peer, request: Request) -> Measured:
    """Time epochs of batches."""
    rows = load_rows(Path(request.rows_dir))
    batches = peer.batches(request)
    seen: list[int] = []
    for k, batch in enumerate(batches):
        if k == 0 and request.is_first:
            for j in range(min(CHECKED_ROWS, len(batch["id"]))):
                rows.check({name: column[j] for name, column in batch.items()})
        seen += batch["id"].tolist()
    if request.is_first and peer.reads_all:
        check_epoch(seen, rows)
    return _time_epochs(lambda: sum(len(batch["id"]) for batch in batches), rows)


def _time_epochs(run_epoch: Callable[[], int], rows: Rows) -> Measured:
    """Time whole epochs, from ``iter()`` to the end; the first one was the check's."""
    seconds: list[float] = []
    num_samples = 0
    while sum(seconds) < MIN_SECONDS:
        start = perf_counter()
        num_samples += run_epoch()
        seconds.append(perf_counter() - start)
    return {"n": len(rows), "seconds": statistics.fmean(seconds), "samples_per_s": num_samples / sum(seconds)}


def _count_samples(dataset: Iterable) -> int:
    num_samples = 0
    for _ in dataset:
        num_samples += 1
    return num_samples
