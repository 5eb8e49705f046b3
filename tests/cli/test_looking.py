"""Commands that look at a dataset and change nothing."""

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import MDSWriter, write_dataframe
from arrowstream.cli import main
from tests.reading.datasets import write_samples
from tests.servers import S3Server

Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with --json and give what it printed."""

    def run_json(*arguments: object, exit_code: int = 0) -> Any:
        assert main([*map(str, arguments), "--json"]) == exit_code
        return json.loads(capsys.readouterr().out)

    return run_json


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "dataset", 100, compression="zstd", hashes=["sha1"])


def test_inspect_tells_what_the_index_says(run: Run, directory: Path) -> None:
    found = run("inspect", directory)
    assert found["samples"] == 100
    assert found["shards"] == len(list(directory.glob("*.arrow")))
    assert {row["column"]: row["encoding"] for row in found["columns"]} == {
        "id": "int",
        "text": "str",
        "vector": "ndarray:float32:4",
    }
    [group] = found["groups"]
    assert (group["format"], group["compression"], group["samples"]) == ("mds", "zstd", 100)
    assert set(group["hashes"].split(", ")) == {"xxh3_64", "sha1"}


def test_inspect_reads_a_bucket(run: Run, s3: S3Server) -> None:
    remote = s3.new_prefix()
    write_samples(remote, 10, storage_options=s3.options)  # type: ignore[arg-type]
    assert run("inspect", remote, "--storage-options", json.dumps(s3.options))["samples"] == 10


def test_head_shows_samples(run: Run, directory: Path) -> None:
    samples = run("head", directory, "-n", 2)["samples"]
    assert [row["sample_id"] for row in samples] == [0, 1]
    assert [row["id"] for row in samples] == [0, 1]
    assert samples[1]["vector"].startswith("<float32 4: 1, 2, 3, 4")
    assert len(samples[0]["text"]) <= 60


def test_head_begins_where_it_is_told(run: Run, directory: Path) -> None:
    samples = run("head", directory, "-n", 10, "--start", 97, "--columns", "id")["samples"]
    assert samples == [{"sample_id": number, "id": number} for number in (97, 98, 99)]
    assert [row["id"] for row in run("head", directory, "--start", -2)["samples"]] == [98, 99]


def test_head_runs_no_pickle(run: Run, tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path / "x", columns={"p": "pkl"}) as writer:
        writer.write({"p": {"a": 1}})
    assert "bytes" in run("head", tmp_path / "x")["samples"][0]["p"]


def test_stats_summarise_each_kind_of_column(run: Run, tmp_path: Path) -> None:
    write_dataframe(
        pa.table(
            {
                "n": [3, 1, None],
                "x": [0.5, -0.5, 3.0],
                "text": ["", "éé", "abc"],
                "blob": [b"", b"12", None],
                "day": [date(2020, 1, 2), date(2019, 1, 2), None],
                "list": [[1], [], [1, 2, 3]],
                "flag": [True, False, True],
            }
        ),
        tmp_path / "x",
    )
    found = {row["column"]: row for row in run("stats", tmp_path / "x")["columns"]}
    assert [found["n"][name] for name in ("nulls", "least", "most", "mean")] == [1, 1, 3, 2.0]
    assert [found["x"][name] for name in ("least", "most", "mean")] == [-0.5, 3.0, 1.0]
    assert [found["text"][name] for name in ("of", "least", "most")] == ["characters", 0, 3]
    assert [found["blob"][name] for name in ("of", "nulls", "most")] == ["bytes", 1, 2]
    assert [found["day"][name] for name in ("least", "most")] == ["2019-01-02", "2020-01-02"]
    assert [found["list"][name] for name in ("of", "least", "most")] == ["elements", 0, 3]
    assert found["flag"]["mean"] == pytest.approx(2 / 3)


def test_stats_count_tensors_by_their_numbers_of_rows(run: Run, tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path / "x", columns={"t": "ndarray:int16:2,2"}) as writer:
        for _ in range(3):
            writer.write({"t": np.zeros((2, 2), np.int16)})
    assert run("stats", tmp_path / "x")["columns"][0]["nulls"] == 0


def test_verify_finds_nothing_wrong_with_what_was_written(run: Run, directory: Path) -> None:
    before = sorted(directory.rglob("*"))
    assert run("verify", directory)["faulty"] == 0
    assert run("verify", directory, "--quick")["faulty"] == 0
    assert sorted(directory.rglob("*")) == before


def test_verify_names_what_is_damaged(run: Run, directory: Path) -> None:
    flipped, missing, cut = sorted(directory.glob("*.arrow"))[:3]
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    faults = {row["shard"]: row["fault"] for row in run("verify", directory, exit_code=1)["faults"]}
    assert faults.keys() == {path.name for path in (flipped, missing, cut)}
    assert "xxh3_64" in faults[flipped.name]
    assert "does not exist" in faults[missing.name]
    quick = {row["shard"] for row in run("verify", directory, "--quick", exit_code=1)["faults"]}
    assert quick == {missing.name, cut.name}


def test_merge_makes_one_of_many(run: Run, tmp_path: Path) -> None:
    for part in ("a", "b"):
        write_samples(tmp_path / part, 10)
    assert run("merge", tmp_path)["samples"] == 20


@pytest.mark.parametrize("command", ["inspect", "head", "stats", "verify"])
def test_a_place_without_a_dataset_is_one_line_on_standard_error(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("arrowstream: ")
    assert str(tmp_path) in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("inspect", r"samples +1,000"),
        ("head", r" +4 +4  00004"),
        ("stats", r"id +int64 +0 +values +0 +999 +499\.5"),
        ("verify", r"faults: none"),
        ("merge", r"samples +1,000"),
    ],
)
def test_text_is_for_people(command: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_samples(tmp_path / "x", 1000)
    assert main([command, str(tmp_path / "x" if command != "merge" else tmp_path)]) == 0
    assert re.search(line, capsys.readouterr().out)


def test_an_unknown_column_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_samples(tmp_path / "x", 10)
    for command in ("head", "stats"):
        assert main([command, str(tmp_path / "x"), "--columns", "nope"]) == 1
        assert "there are: id, text, vector" in capsys.readouterr().err
