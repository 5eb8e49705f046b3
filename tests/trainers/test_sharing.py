"""Trainers do not share out again what each rank reads of its own: they leave it alone, or it is an error."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reading.datasets import write_samples
from tests.trainers.launching import run_ranks

NUM_SAMPLES = 96  # 12 steps of 4 on each of 2 ranks
SCRIPT = Path(__file__).parent / "sharing.py"


def read_by(trainer: str, directory: Path) -> list[dict[str, Any]]:
    data = write_samples(directory / "samples", NUM_SAMPLES)
    run_ranks([str(SCRIPT), trainer, str(data), str(directory)], num_ranks=2)
    return [json.loads((directory / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def accelerate(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return read_by("accelerate", tmp_path_factory.mktemp("accelerate"))


@pytest.fixture(scope="module")
def lightning(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return read_by("lightning", tmp_path_factory.mktemp("lightning"))


def assert_each_sample_once_an_epoch(ranks: list[dict[str, Any]], case: str, num_epochs: int = 1) -> None:
    shares = [rank[case] for rank in ranks]
    assert all(isinstance(share, list) for share in shares), shares
    assert [len(share) for share in shares] == [num_epochs * NUM_SAMPLES // 2] * 2
    for epoch in range(num_epochs):
        size = NUM_SAMPLES // 2
        together = [number for share in shares for number in share[epoch * size : (epoch + 1) * size]]
        assert sorted(together) == list(range(NUM_SAMPLES))


def test_accelerate_leaves_our_loader_alone(accelerate: list[dict[str, Any]]) -> None:
    assert [rank["is left alone"] for rank in accelerate] == [True, True]


@pytest.mark.parametrize("case", ["ours", "ours with workers", "not prepared"])
def test_ranks_of_accelerate_read_each_sample_once(accelerate: list[dict[str, Any]], case: str) -> None:
    assert_each_sample_once_an_epoch(accelerate, case)


@pytest.mark.parametrize(
    "case", ["accelerate shares out alone", "accelerate dispatches alone", "transformers' own loader, alone"]
)
def test_accelerate_may_share_out_what_every_rank_reads_whole(accelerate: list[dict[str, Any]], case: str) -> None:
    assert_each_sample_once_an_epoch(accelerate, case)


@pytest.mark.parametrize(
    ("case", "wrapper"),
    [
        ("dispatched", "DataLoaderDispatcher"),
        ("dispatched with spawned workers", "DataLoaderDispatcher"),
        ("shared", "IterableDatasetShard"),
        ("shared with spawned workers", "IterableDatasetShard"),
        ("shared by a sampler", "BatchSamplerShard"),
        ("transformers' own loader", "DataLoaderDispatcher"),
    ],
)
def test_a_loader_that_accelerate_wrapped_is_refused(accelerate: list[dict[str, Any]], case: str, wrapper: str) -> None:
    for rank in accelerate:
        assert rank[case].startswith("SharedOutTwiceError: Accelerate reads this")
        assert wrapper in rank[case]


def test_a_loader_that_accelerate_wrapped_is_refused_in_workers_that_are_forked(
    accelerate: list[dict[str, Any]],
) -> None:
    assert accelerate[0]["dispatched with forked workers"].startswith("SharedOutTwiceError: Caught")


@pytest.mark.parametrize("case", ["ours", "torch's", "by sampler"])
def test_ranks_of_lightning_read_each_sample_once_an_epoch(lightning: list[dict[str, Any]], case: str) -> None:
    assert_each_sample_once_an_epoch(lightning, case, num_epochs=2)


def test_nothing_of_a_trainer_is_imported_with_the_library() -> None:
    code = "import arrowstream, sys; arrowstream.StreamingDataLoader; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"accelerate", "lightning", "transformers"} & set(done.stdout.split())
