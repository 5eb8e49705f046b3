"""``arrowstream plan`` tells what an order does, as it comes out when one counts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.cli import main

NUM_SAMPLES = 2000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sorted by class: 2,000 samples of 2 kB in shards of about 250."""
    out = tmp_path_factory.mktemp("plan")
    columns = {"id": "int", "kind": "str", "x": "bytes", "vector": "ndarray:float32:2"}
    with MDSWriter(out=out, columns=columns, size_limit=1 << 19) as writer:
        for number in range(NUM_SAMPLES):
            kind = "abcde"[number * 5 // NUM_SAMPLES]
            writer.write({"id": number, "kind": kind, "x": bytes(2000), "vector": np.zeros(2, np.float32)})
    return out


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_counts_what_the_batches_hold(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(
        capsys, str(data), "--batch-size", "25", "--nodes", "2", "--ranks", "2", "--label", "kind", "--epoch", "3"
    )
    dataset = StreamingDataset(local=data, batch_size=100, shuffle=True)
    ends = np.cumsum(dataset.samples_per_shard)
    batches = [dataset.plan(3).batch(step) for step in range(20)]
    shards = [len(set(np.searchsorted(ends, batch, side="right").tolist())) for batch in batches]
    assert found["units_per_batch"] == pytest.approx(np.mean(shards))
    shares = [np.bincount(batch * 5 // NUM_SAMPLES, minlength=5) / 100 for batch in batches]
    assert found["label_distance"] == pytest.approx(np.mean([abs(share - 0.2).sum() / 2 for share in shares]))
    assert (found["samples"], found["shards"], found["steps"]) == (NUM_SAMPLES, dataset.num_shards, 20)
    for node, row in enumerate(found["nodes"]):
        read = np.concatenate([batch[node::2] for batch in batches])
        touched = len(set(np.searchsorted(ends, read, side="right").tolist()))
        assert (row["downloads"], row["downloads_per_step"], row["gets_per_step"]) == (
            touched,
            touched / 20,
            touched / 20,
        )


def test_an_order_without_a_shuffle_holds_one_shard(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, str(data / "index.json"), "--batch-size", "1", "--no-shuffle", "--label", "kind")
    largest = max(StreamingDataset(local=data).streams[0].index.raw_bytes.tolist())
    assert found["nodes"][0]["live_bytes_max"] == largest
    assert found["units_per_batch"] == 1
    assert found["label_distance"] == pytest.approx(0.8)


def test_an_order_of_mosaicml_streaming_can_be_compared(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, str(data), "--batch-size", "50", "--shuffle-algo", "py1e", "--workers", "3", "--samples", "500")
    assert (found["order"], found["steps_simulated"], found["steps_per_worker"]) == ("py1e", 10, 14)


def test_people_get_a_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(data), "--shuffle-unit", "shard", "--shuffle-budget", "4mb"]) == 0
    printed = capsys.readouterr().out
    assert "units_per_batch" in printed
    assert "live_bytes_max" in printed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--shuffle-budget", "1mb", "--shuffle-unit", "shard"], "it has to be"),
        (["--label", "missing"], "missing"),
        (["--label", "vector"], "holds no labels"),
        (["--batch-size", "3000"], "2000 samples do not fill a step of 3000"),
        (["--epoch", "-1"], "epoch is -1"),
    ],
)
def test_what_cannot_be_is_said(
    data: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(data), *arguments]) == 1
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "x", "-2"])
def test_numbers_are_checked(data: Path, number: str) -> None:
    with pytest.raises(SystemExit):
        main(["plan", str(data), f"--nodes={number}"])
