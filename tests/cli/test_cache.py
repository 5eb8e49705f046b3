"""Caches are listed, and tidied up without harm to what lies in them alone."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from arrowstream import StreamingDataset
from arrowstream.cli import main
from arrowstream.cli.main import COMMANDS, EXAMPLES
from tests.reading.datasets import assert_holds, ids, write_large_rows, write_samples


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["cache", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    remote = write_samples(tmp_path / "remote", 100)
    assert len(ids(StreamingDataset(remote=remote, local=tmp_path / "cache"))) == 100
    return tmp_path / "cache"


def test_shards_are_counted(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = report(capsys, "ls", cache)["caches"]
    shards = list(cache.glob("shard.*"))
    assert row["shards"] == len(shards) > 3
    assert row["removable"] == sum(path.stat().st_size for path in shards)
    assert row["bytes"] == sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    files = report(capsys, "ls", cache, "--files")["files"]
    assert {file["file"] for file in files if file["kind"] == "shard"} == set(map(str, shards))


def test_record_batches_and_what_the_dead_left_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remote = write_large_rows(tmp_path / "remote", 24)
    dataset = StreamingDataset(remote=remote, local=tmp_path / "cache", random_access="record_batch")
    assert dataset[9]["id"] == 9
    temporary = tmp_path / "cache" / ".arrowstream" / "tmp" / "dead.part"
    temporary.parent.mkdir(exist_ok=True)
    temporary.write_bytes(b"x" * 100)
    [row] = report(capsys, "ls", tmp_path / "cache")["caches"]
    assert (row["shards"], row["parts"], row["temporary"]) == (0, 2, 1)  # a footer and a record batch
    [row] = report(capsys, "gc", tmp_path / "cache", "--older-than", "0s")["caches"]
    assert (row["parts"], row["temporary"], row["deleted"], row["removable"]) == (0, 0, 3, 0)
    assert dataset[9]["id"] == 9
    again = StreamingDataset(remote=remote, local=tmp_path / "cache", random_access="record_batch")
    assert again[9]["id"] == 9


def test_the_least_recently_opened_goes_first(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = sorted(cache.glob("shard.*"))
    for age, path in enumerate(shards):
        os.utime(path, (time.time() - 100 * (1 + age), time.time() - 10_000))
    others = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file() and path not in shards)
    [row] = report(capsys, "gc", cache, "--limit", others + shards[0].stat().st_size)["caches"]
    assert list(cache.glob("shard.*")) == shards[:1]
    assert row["deleted"] == len(shards) - 1
    assert_holds(StreamingDataset(remote=cache.parent / "remote", local=cache), 100)


def test_what_was_not_opened_for_long_goes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, *others = sorted(cache.glob("shard.*"))
    os.utime(old, (time.time() - 8 * 86400, time.time()))
    report(capsys, "gc", cache, "--older-than", "7d")
    assert sorted(cache.glob("shard.*")) == others


def test_what_cannot_be_fetched_again_stays(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache / "notes.arrow").write_bytes(b"mine" * 1000)
    assert main(["cache", "gc", str(cache), "--older-than", "0s", "--limit", "1kb"]) == 1
    assert "cannot be deleted" in capsys.readouterr().err
    assert (cache / "notes.arrow").exists()
    assert (cache / "index.json").exists()


def test_a_dataset_that_lies_here_alone_is_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_samples(tmp_path / "data", 10)
    assert main(["cache", "gc", str(data), "--older-than", "0s"]) == 1
    assert "is no cache of arrowstream" in capsys.readouterr().err
    assert_holds(StreamingDataset(local=data), 10)


@pytest.mark.parametrize("arguments", [["ls", "--limit", "1gb"], ["gc", "--older-than", "7"], ["gc", "--limit", "x"]])
def test_wrong_arguments_are_refused(cache: Path, arguments: list[str]) -> None:
    assert main(["cache", arguments[0], str(cache), *arguments[1:]]) == 1
    assert_holds(StreamingDataset(local=cache), 100)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_help_shows_an_example(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    name = command.__name__.rpartition(".")[2]
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert all(example in capsys.readouterr().out for example in EXAMPLES[command][:1])
    assert EXAMPLES[command][0].startswith(f"arrowstream {name}")
