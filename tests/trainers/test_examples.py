"""The examples of trainers: gone on with in the middle of an epoch, they end with the weights of an unbroken run."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.launching import run

NUM_ROWS = 6_000


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("flights")
    run("flights_delay", "--dir", directory, "--rows", NUM_ROWS)
    return directory / "shards"


def state_of_ddp(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(checkpoint)["loader"]
    return state


def state_of_lightning(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(checkpoint)["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]
    return state


def state_of_accelerate(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(checkpoint / "dl_state_dict.bin")
    return state


def state_of_transformers(checkpoint: Path) -> dict[str, Any]:
    callbacks = json.loads((checkpoint / "trainer_state.json").read_text())["stateful_callbacks"]
    state: dict[str, Any] = callbacks["LoaderState"]["attributes"]["saved"]
    return state


@pytest.mark.parametrize(
    ("trainer", "num_ranks", "checkpoint", "read_state"),
    [
        ("ddp", 2, "checkpoint.pt", state_of_ddp),
        ("ddp", 4, "checkpoint.pt", state_of_ddp),
        ("lightning", 2, "step=30.ckpt", state_of_lightning),
        ("accelerate", 2, "step_30", state_of_accelerate),
        ("transformers", 2, "checkpoint-30", state_of_transformers),
    ],
)
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    trainer: str,
    num_ranks: int,
    checkpoint: str,
    read_state: Callable[[Path], dict[str, Any]],
    shards: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "shards").symlink_to(shards)
    # An epoch takes 24 steps, so the one checkpoint is in the middle of the second; what comes after it is lost.
    settings = [f"flights_{trainer}", "--dir", tmp_path, "--batch-size", 256 // num_ranks]
    run(*settings, "--save-every", 30, "--out", "unbroken.pt", num_ranks=num_ranks)
    assert_stands_in_the_second_epoch(read_state(tmp_path / checkpoint))
    run(*settings, "--resume", tmp_path / checkpoint, "--workers", 1, "--out", "resumed.pt", num_ranks=num_ranks)
    assert_same_weights(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no Ray Train: pip install 'ray[train]' (600 MB)")
def test_a_run_of_ray_that_was_stopped_ends_with_the_weights_of_one_that_was_not(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").symlink_to(shards)
    settings = ["flights_ray", "--dir", tmp_path, "--batch-size", 128, "--ranks", 2]  # Ray starts the ranks
    run(*settings, "--save-every", 30, "--out", "unbroken.pt")
    assert_stands_in_the_second_epoch(state_of_ddp(tmp_path / "checkpoint.pt"))
    run(*settings, "--resume", tmp_path / "checkpoint.pt", "--workers", 1, "--out", "resumed.pt")
    assert_same_weights(tmp_path)


def assert_stands_in_the_second_epoch(state: dict[str, Any]) -> None:
    assert state["epoch"] == 1
    assert state["sample_in_epoch"] == (30 - 24) * 256


def assert_same_weights(directory: Path) -> None:
    unbroken, resumed = (torch.load(directory / name) for name in ("unbroken.pt", "resumed.pt"))
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
