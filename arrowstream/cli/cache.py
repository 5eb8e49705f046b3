"""``arrowstream cache``: what lies in caches, and less of it."""

import argparse
import re
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from arrowstream.cache import CachedFile, collect, list_cache
from arrowstream.cli.report import Report
from arrowstream.units import format_bytes, parse_bytes

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "cache",
        help="list caches, or delete what can be fetched again",
        description="ls lists what lies in caches (what datasets were given as local=). gc deletes what killed "
        "processes left and, down to a limit or beyond an age, what can be fetched again. Jobs that use a cache go on.",
    )
    parser.add_argument("action", choices=["ls", "gc"])
    parser.add_argument("directories", nargs="+", metavar="DIRECTORY", type=Path, help="directory of a cache")
    parser.add_argument("--limit", metavar="BYTES", help="gc: what may stay in each; least recently opened goes first")
    parser.add_argument("--older-than", metavar="AGE", help="gc: what was not opened for so long goes: 12h, 7d")
    parser.add_argument("--files", action="store_true", help="list every file")
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    if arguments.action == "ls" and (arguments.limit or arguments.older_than):
        raise ValueError("--limit and --older-than are for gc; ls deletes nothing")
    limit = parse_bytes(arguments.limit) if arguments.limit else None
    unused_s = _parse_age(arguments.older_than) if arguments.older_than else None
    rows, files = [], []
    for directory in arguments.directories:
        before = list_cache(directory)
        row = {"directory": str(directory), **_summary(before)}
        if arguments.action == "gc":
            collect(directory, limit=limit, unused_s=unused_s)
            left = list_cache(directory)
            freed = _bytes(before) - _bytes(left)
            row = {"directory": str(directory), **_summary(left), "deleted": len(before) - len(left), "freed": freed}
            before = left
        rows.append(row)
        files += [_line(directory, file) for file in before if arguments.files]
    return Report(tables={"caches": rows, **({"files": files} if arguments.files else {})})


def _summary(files: Sequence[CachedFile]) -> dict[str, object]:
    counts = {kind: [file for file in files if file.kind == kind] for kind in ("shard", "part", "compressed")}
    temporary = [file for file in files if file.kind == "temporary"]
    return {
        "shards": len(counts["shard"]),
        "parts": len(counts["part"]),
        "compressed": len(counts["compressed"]),
        "temporary": len(temporary),
        "bytes": _bytes(files),
        "size": format_bytes(_bytes(files)),
        "removable": sum(file.num_bytes for file in files if file.removable),
    }


def _bytes(files: Sequence[CachedFile]) -> int:
    return sum(file.num_bytes for file in files)


def _line(directory: Path, file: CachedFile) -> dict[str, object]:
    opened = datetime.fromtimestamp(file.used_s).astimezone().isoformat(" ", "seconds")
    return {"file": f"{directory}/{file.name}", "kind": file.kind, "bytes": file.num_bytes, "opened": opened}


def _parse_age(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        raise ValueError(f"--older-than {text}: expected a number of s, m, h or d, such as 7d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > time.time():
        raise ValueError(f"--older-than {text}: lies before 1970")
    return seconds
