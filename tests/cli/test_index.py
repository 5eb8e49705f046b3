"""``arrowstream index`` as it is typed."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arrowstream import StreamingDataset
from arrowstream.cli import main


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for number in range(2):
        pq.write_table(pa.table({"id": [number] * 3, "text": ["a"] * 3}), tmp_path / f"{number}.parquet")
    return tmp_path


def test_it_writes_the_index_and_says_of_what(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(files)]) == 0
    told = capsys.readouterr()
    assert "parquet (2)" in told.out
    assert "text    str" in told.out
    assert told.err == ""
    assert len(StreamingDataset(remote=files)) == 6


def test_it_says_so_in_json(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["index", str(files), "--columns", "id", "--pattern", "1*", "--hash", "md5", "--hash", "xxh3_64"]
    assert main([*command, "--out", str(tmp_path / "out"), "--jobs", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["files"], report["samples"]) == (1, 3)
    assert report["bytes"] == (files / "1.parquet").stat().st_size
    assert report["columns"] == [{"column": "id", "type": "int64"}]
    [group] = json.loads(Path(report["index"]).read_text())["groups"]
    assert set(group["shards"]["hashes"]) == {"md5", "xxh3_64"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "holds no files"),
        ([".", "--hash", "md6"], "no hash is named 'md6'"),
        ([".", "--option", "separator"], "expected NAME=VALUE"),
        ([".", "--format", "parket"], "no installed format is named 'parket'"),
        ([".", "--columns", "nope"], "has no column 'nope'"),
    ],
)
def test_what_goes_wrong_is_one_line(
    files: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    assert main(["index", *arguments]) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not (files / "index.json").exists()


def test_an_index_that_is_there_stays_without_rebuild(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(files)]) == 0
    assert main(["index", str(files), "--columns", "id"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["index", str(files), "--columns", "id", "--rebuild"]) == 0
    assert StreamingDataset(remote=files)[0] == {"id": 0}
