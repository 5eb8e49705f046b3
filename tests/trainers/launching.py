"""Starts the examples as the ranks of a job, as torchrun does."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
LAUNCHERS = ["RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"]
DEADLINE_S = 240


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(example: str, *arguments: object, num_ranks: int = 1) -> None:
    """Run an example as so many ranks."""
    run_ranks([str(EXAMPLES / f"{example}.py"), *map(str, arguments)], num_ranks=num_ranks)


def run_ranks(command: list[str], *, num_ranks: int) -> None:
    """Run a script with the variables that torchrun sets, which takes half the time of torchrun.

    Raises:
        AssertionError: A rank ended with an error, or did not end; the others were killed.
    """
    shared = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
    if num_ranks > 1:
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        shared |= {"WORLD_SIZE": str(num_ranks), "LOCAL_WORLD_SIZE": str(num_ranks)}
    ranks: list[subprocess.Popen[str]] = []
    for rank in range(num_ranks):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if num_ranks > 1 else {}
        environment = {**shared, **place, "OMP_NUM_THREADS": "1"}
        ranks.append(
            subprocess.Popen(
                [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        with ThreadPoolExecutor(num_ranks) as readers:
            said = list(readers.map(lambda process: process.communicate(timeout=DEADLINE_S)[0], ranks))
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    assert [process.returncode for process in ranks] == [0] * num_ranks, "\n".join(said)
