"""What lies in a dataset's directory, read without arrowstream."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa


def index_of(directory: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((directory / "index.json").read_text())
    return parsed


def shards_of(directory: Path) -> list[Path]:
    """The shards in their order."""
    return [directory / name for group in index_of(directory)["groups"] for name in group["shards"]["basename"]]


def read_shard(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def read_rows(directory: Path) -> list[dict[str, Any]]:
    return [row for path in shards_of(directory) for row in read_shard(path).to_pylist()]


def listing(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def run_python(code: str, *arguments: object, timeout_s: float = 60) -> str:
    """Run code in an interpreter of its own and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_until_killed(code: str, *arguments: object, timeout_s: float = 60) -> None:
    """Run code in an interpreter of its own that has to end by SIGKILL."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
