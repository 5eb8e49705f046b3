"""The example of data-parallel training: stopped in the middle of an epoch, it ends as if nothing had happened."""

import os
import subprocess
import sys
from pathlib import Path

import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights_ddp.py"
LAUNCHERS = ["RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"]


def run(*arguments: object, ranks: int | None = None) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks else []
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
    done = subprocess.run(
        [sys.executable, *launcher, str(EXAMPLE), *map(str, arguments)],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    run("write", "--dir", tmp_path, "--rows", 12_000)
    # 2 ranks of 128 take 46 steps an epoch, so the checkpoint is in the middle of the second; what comes after is lost.
    settings = ["train", "--dir", tmp_path, "--batch-size", 128]
    run(*settings, "--save-every", 60, "--out", "unbroken.pt", ranks=2)
    state = torch.load(tmp_path / "checkpoint.pt")["loader"]
    assert state["epoch"] == 1
    assert 0 < state["sample_in_epoch"] < state["num_samples"]
    run(*settings, "--workers", 1, "--out", "resumed.pt", ranks=2)
    unbroken, resumed = (torch.load(tmp_path / name) for name in ("unbroken.pt", "resumed.pt"))
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
