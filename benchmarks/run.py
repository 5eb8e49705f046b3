"""Measure arrowstream beside its peers: every peer in a process and an environment of its own, in turn, round by round.

  python -m benchmarks.run                                  everything, 5 rounds (about an hour on two cores)
  python -m benchmarks.run --quick                          everything once on few rows: does it work?
  python -m benchmarks.run --tasks iterate,loader           some tasks
  python -m benchmarks.run --peers arrowstream,memmap       some peers (no environment is made for the others)
  python -m benchmarks.run --env mosaic=venvs/mosaic        an environment that exists already

Run it from the repository's root, with arrowstream, torch and pyarrow installed;
benchmarks/README.md says how to read it.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environments import interpreter
from benchmarks.peers import PEER_NAMES, get_peer
from benchmarks.report import Entrant, Series, machine, machine_text, table_text
from benchmarks.request import Request
from benchmarks.rows import ROW_KINDS, make_rows
from benchmarks.tasks import TASKS, Measured

_ROOT = Path(__file__).parent.parent
_RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one entrant does in each round."""

    task: str
    variant: str
    entrant: Entrant

    def __str__(self) -> str:
        return " ".join(part for part in (self.task, self.variant, str(self.entrant)) if part)


class PeerError(RuntimeError):
    """A peer's process failed, printed no answer, or passed its deadline."""


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; the exit status is 1 when a peer failed."""
    options = _parse(arguments)
    facts = machine()
    pythons = {name: interpreter(get_peer(name), options.env) for name in options.peers}
    jobs = list(_jobs(options))
    with tempfile.TemporaryDirectory(prefix="arrowstream-bench-", dir=options.scratch) as scratch:
        series = _measure(jobs, pythons, options, Path(scratch))
    setting = f"{options.rows}, {options.n:,} rows, batch {options.batch_size}, rounds: {options.rounds}"
    versions = _versions(series)
    print("\n" + machine_text(facts, versions))
    for task, variant in dict.fromkeys((job.task, job.variant) for job in jobs):
        table = [series[job] for job in jobs if (job.task, job.variant) == (task, variant)]
        print("\n" + table_text(task, variant, table, setting))
    _save(options, facts, versions, series)
    return int(any(entry.error for entry in series.values()))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    tasks = "\n".join(f"  {name:14} {task.summary}" for name, task in TASKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        epilog=f"tasks:\n{tasks}\n\npeers: {', '.join(PEER_NAMES)}\nrows:  {', '.join(ROW_KINDS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tasks", type=_names(TASKS), default=list(TASKS), help="comma-separated (default: all)")
    parser.add_argument("--peers", type=_names(PEER_NAMES), default=list(PEER_NAMES), help="as above (default: all)")
    parser.add_argument("--rows", choices=ROW_KINDS, default="table", help="kind of row (default: table)")
    parser.add_argument("--n", type=int, default=50_000, help="how many rows (default: 50000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each peer takes its turn (default: 5)")
    parser.add_argument("--quick", action="store_true", help="the same as --n 2000 --rounds 1")
    parser.add_argument("--batch-size", type=int, default=256, help="samples a batch (default: 256)")
    parser.add_argument("--shard-bytes", type=int, default=1 << 23, help="size limit of a shard (default: 8 MiB)")
    parser.add_argument("--env", type=_environment, action="append", default=[], metavar="PEER=PATH",
                        help="use this virtual environment or interpreter for a peer (repeatable)")  # fmt: skip
    parser.add_argument("--scratch", type=Path, help="where data is written (default: the system's temporary folder)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds that one process may take (default: 600)")
    parser.add_argument("--json", type=Path, metavar="FILE",
                        help="where the results go (default: benchmarks/results/TIME.json)")  # fmt: skip
    options = parser.parse_args(arguments)
    options.env = dict(options.env)
    if options.quick:
        options.n, options.rounds = 2000, 1
    if options.n < options.batch_size or options.rounds < 1:
        parser.error("--n must be at least one batch, --rounds at least 1")
    return options


def _names(known):
    def names(text: str) -> list[str]:
        given = [name.strip() for name in text.split(",")]
        if unknown := set(given) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        return [name for name in known if name in given]

    return names


def _environment(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or name not in PEER_NAMES:
        raise argparse.ArgumentTypeError(f"expected PEER=PATH with a peer of {', '.join(PEER_NAMES)}, got {text!r}")
    return name, Path(path)


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    """All jobs of a round, those that are compared next to each other."""
    for task in options.tasks:
        for variant in TASKS[task].variants:
            for peer in options.peers:
                for way in get_peer(peer).tasks.get(task, ()):
                    yield Job(task=task, variant=variant, entrant=Entrant(peer=peer, way=way))


def _measure(
    jobs: list[Job], pythons: Mapping[str, Path], options: argparse.Namespace, scratch: Path
) -> dict[Job, Series]:
    """Prepare the data, then give every job its turns. An interrupt ends the rounds, not the report."""
    make_rows(scratch / "rows", options.rows, options.n)
    series = {job: Series(entrant=job.entrant, answers=[]) for job in jobs}
    for peer in dict.fromkeys(job.entrant.peer for job in jobs if TASKS[job.task].reads):
        preparation = Job(task="prepare", variant="", entrant=Entrant(peer=peer, way=""))
        try:
            _ask(preparation, pythons[peer], options, scratch)
        except (PeerError, OSError) as error:
            failed = [job for job in jobs if job.entrant.peer == peer and TASKS[job.task].reads]
            series |= {job: replace(series[job], error=f"preparing its data: {error}") for job in failed}
    with contextlib.suppress(KeyboardInterrupt):
        for round_number in range(options.rounds):
            for job in jobs:
                if not series[job].error:
                    print(f"round {round_number + 1}/{options.rounds}: {job}", file=sys.stderr)
                    series[job] = _take_turn(job, series[job], pythons[job.entrant.peer], options, scratch)
    return series


def _take_turn(job: Job, so_far: Series, python: Path, options: argparse.Namespace, scratch: Path) -> Series:
    try:
        answer = _ask(job, python, options, scratch)
    except (PeerError, OSError) as error:
        return replace(so_far, error=str(error))
    return replace(so_far, answers=[*so_far.answers, answer])


def _ask(job: Job, python: Path, options: argparse.Namespace, scratch: Path) -> Measured:
    """Run one job in a process of its own."""
    peer = get_peer(job.entrant.peer)
    keep = {name for name in os.environ if name != "PYTHONPATH" or not peer.own_environment}
    task = TASKS.get(job.task)
    with tempfile.TemporaryDirectory(dir=scratch) as written:
        request = Request(
            task=job.task, variant=job.variant, options=task.variants[job.variant] if task else {},
            way=job.entrant.way, rows_dir=str(scratch / "rows"), data_dir=str(scratch / f"data-{peer.name}"),
            scratch_dir=written, batch_size=options.batch_size, shard_bytes=options.shard_bytes,
        )  # fmt: skip
        command = [str(python), "-m", "benchmarks.peers", peer.name, request.to_json()]
        with subprocess.Popen(
            command, cwd=_ROOT, env={name: os.environ[name] for name in keep}, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                printed, complaints = process.communicate(timeout=options.timeout)
            except subprocess.TimeoutExpired:
                raise PeerError(f"no answer within {options.timeout:g} s (--timeout)") from None
            finally:
                _kill_group(process)
    if process.returncode:
        raise PeerError("; ".join(complaints.strip().splitlines()[-1:]) or f"exit status {process.returncode}")
    try:
        return json.loads(printed.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise PeerError(f"the last line printed is no JSON: {printed[-200:]!r}") from error


def _kill_group(process: subprocess.Popen) -> None:
    """End what is left of a peer and of the workers that it started; it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _versions(series: Mapping[Job, Series]) -> dict[str, dict[str, str]]:
    return {job.entrant.peer: entry.answers[-1]["versions"] for job, entry in series.items() if entry.answers}


def _save(
    options: argparse.Namespace,
    facts: Mapping[str, object],
    versions: Mapping[str, Mapping[str, str]],
    series: Mapping[Job, Series],
) -> None:
    now = datetime.now(UTC)
    file = options.json or _RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "version": 1,
        "time": now.isoformat(timespec="seconds"),
        "machine": facts,
        "versions": versions,
        "setting": {name: getattr(options, name) for name in ("rows", "n", "rounds", "batch_size", "shard_bytes")},
        "jobs": [
            {**asdict(job), "error": entry.error, "rounds": [_without_versions(answer) for answer in entry.answers]}
            for job, entry in series.items()
        ],
    }
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nresults: {file}", file=sys.stderr)


def _without_versions(answer: Measured) -> Measured:
    return {key: value for key, value in answer.items() if key != "versions"}


if __name__ == "__main__":
    sys.exit(main())
