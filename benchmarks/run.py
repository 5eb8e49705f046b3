"""Measure arrowstream beside its peers: every peer in a process and an environment of its own, in turn, round by round.

  python -m benchmarks.run                                  everything on one kind of row, 5 rounds
  python -m benchmarks.run --tasks loader --rows tokens,image32,table --n 50000 --rounds 3 the loaders
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
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from benchmarks.environments import interpreter
from benchmarks.peers import PEER_NAMES, get_peer
from benchmarks.process import PeerError, PeerProcess
from benchmarks.report import Entrant, Series, machine, machine_text, table_text
from benchmarks.request import Request
from benchmarks.rows import ROW_KINDS, make_rows
from benchmarks.tasks import TASKS, Measured

_RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one entrant does in each round."""

    task: str
    variant: str
    rows: str
    entrant: Entrant

    def __str__(self) -> str:
        return " ".join(part for part in (self.rows, self.task, self.variant, str(self.entrant)) if part)


Results = dict[Job, Series]
Processes = Mapping[str, PeerProcess]


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; the exit status is 1 when a peer failed."""
    options = _parse(arguments)
    facts = machine()
    pythons = {name: interpreter(get_peer(name), options.env) for name in options.peers}
    jobs = list(_jobs(options))
    with tempfile.TemporaryDirectory(prefix="arrowstream-bench-", dir=options.scratch) as scratch:
        series = _measure(jobs, pythons, options, Path(scratch))
    versions = _versions(series)
    print("\n" + machine_text(facts, versions))
    for task, variant, rows in dict.fromkeys((job.task, job.variant, job.rows) for job in jobs):
        table = [series[job] for job in jobs if (job.task, job.variant, job.rows) == (task, variant, rows)]
        n = options.n or ROW_KINDS[rows].default_n
        setting = f"{rows}, {n:,} rows, batch {options.batch_size}, rounds: {options.rounds}"
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
    parser.add_argument("--rows", type=_names(ROW_KINDS), default=["table"], help="kinds of row (default: table)")
    parser.add_argument("--n", type=int, help="how many rows (default: by their kind, see rows.py)")
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
    if (options.n is not None and options.n < options.batch_size) or options.rounds < 1:
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
    for rows, task in product(options.rows, options.tasks):
        for variant, variant_options in TASKS[task].variants.items():
            for peer in options.peers:
                for way in get_peer(peer).ways(task, variant_options, rows):
                    yield Job(task=task, variant=variant, rows=rows, entrant=Entrant(peer=peer, way=way))


def _measure(jobs: list[Job], pythons: Mapping[str, Path], options: argparse.Namespace, scratch: Path) -> Results:
    """Prepare the data, then give every job its turns. An interrupt ends the rounds, not the report."""
    series = {job: Series(entrant=job.entrant, answers=[]) for job in jobs}
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(PeerProcess(get_peer(name), python, options.timeout, scratch / f"{name}.log"))
            for name, python in pythons.items()
        }
        for kind in options.rows:
            of_kind = [job for job in jobs if job.rows == kind]
            rows = scratch / kind
            make_rows(rows, kind, options.n or ROW_KINDS[kind].default_n)
            _prepare(of_kind, series, processes, options, rows)
            for round_number, job in product(range(options.rounds), of_kind):
                if not series[job].error:
                    print(f"round {round_number + 1}/{options.rounds}: {job}", file=sys.stderr)
                    series[job] = _take_turn(job, series[job], processes, options, rows)
            shutil.rmtree(rows)
    return series


def _prepare(jobs: list[Job], series: Results, processes: Processes, options: argparse.Namespace, rows: Path) -> None:
    for peer in dict.fromkeys(job.entrant.peer for job in jobs if TASKS[job.task].reads):
        preparation = Job(task="prepare", variant="", rows=rows.name, entrant=Entrant(peer=peer, way=""))
        try:
            _ask(preparation, processes, options, rows, is_first=True)
        except (PeerError, OSError) as error:
            failed = [job for job in jobs if job.entrant.peer == peer and TASKS[job.task].reads]
            series.update({job: replace(series[job], error=f"preparing its data: {error}") for job in failed})


def _take_turn(job: Job, so_far: Series, processes: Processes, options: argparse.Namespace, rows: Path) -> Series:
    try:
        answer = _ask(job, processes, options, rows, is_first=not so_far.answers)
    except (PeerError, OSError) as error:
        return replace(so_far, error=str(error))
    return replace(so_far, answers=[*so_far.answers, answer])


def _ask(job: Job, processes: Processes, options: argparse.Namespace, rows: Path, *, is_first: bool) -> Measured:
    """Have one job done by its peer's process."""
    task = TASKS.get(job.task)
    with tempfile.TemporaryDirectory(dir=rows) as written:
        request = Request(
            task=job.task, variant=job.variant, options=task.variants[job.variant] if task else {},
            way=job.entrant.way, rows_dir=str(rows), data_dir=str(rows / f"data-{job.entrant.peer}"),
            scratch_dir=written, batch_size=options.batch_size, shard_bytes=options.shard_bytes, is_first=is_first,
        )  # fmt: skip
        return processes[job.entrant.peer].ask(request)


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
        "version": 2,
        "time": now.isoformat(timespec="seconds"),
        "machine": facts,
        "versions": versions,
        "setting": {name: getattr(options, name) for name in ("n", "rounds", "batch_size", "shard_bytes")},
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
