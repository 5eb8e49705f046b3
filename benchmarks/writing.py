"""The tasks of writing, and of importing: what is written is read back and compared, after the clock has stopped."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks.checks import MIN_SECONDS, Measured, check_reads
from benchmarks.peers.base import Peer
from benchmarks.request import Request
from benchmarks.rows import Rows, load_rows


def import_fresh(peer: Peer, request: Request) -> Measured:
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


def write_sample(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    samples = rows.samples()

    def write(out: Path) -> None:
        peer.write_samples(request.at(out), rows, samples)

    return _time_writes(write, peer, rows, request)


def write_frame(peer: Peer, request: Request) -> Measured:
    rows = load_rows(Path(request.rows_dir))
    table = rows.to_arrow()

    def write(out: Path) -> None:
        peer.write_table(request.at(out), table)

    return _time_writes(write, peer, rows, request)


def _time_writes(write: Callable[[Path], None], peer: Peer, rows: Rows, request: Request) -> Measured:
    scratch = Path(request.scratch_dir)
    write(scratch / "warm")  # imports, codecs, thread pools
    seconds: list[float] = []
    while sum(seconds) < MIN_SECONDS:
        out = scratch / f"write{len(seconds)}"
        start = perf_counter()
        write(out)
        seconds.append(perf_counter() - start)
        num_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        shutil.rmtree(out)
    check_reads(peer.open(request.at(scratch / "warm")), rows)
    median = statistics.median(seconds)
    return {
        "n": len(rows),
        "seconds": median,
        "samples_per_s": len(rows) / median,
        "mb_on_disk": num_bytes / 1e6,
    }
