"""One dataset becomes another, however often it is interrupted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from arrowstream.cli import main
from arrowstream.dataset import StreamingDataset
from tests.reading.datasets import assert_holds, write_samples
from tests.servers import S3Server
from tests.waiting import wait_until


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_samples_keep_their_order_and_values(tmp_path: Path, jobs: str) -> None:
    source = write_samples(tmp_path / "in", 200, compression="gz")
    out = str(tmp_path / "out")
    arguments = ["convert", str(source), out, "--compression", "zstd", "--part-bytes", "20kb", "--jobs", jobs, "--json"]
    assert main(arguments) == 0
    assert len(list((tmp_path / "out").glob("part-*"))) > 2
    assert_holds(StreamingDataset(local=out), 200)


def test_columns_may_be_left_out(tmp_path: Path) -> None:
    source = write_samples(tmp_path / "in", 20)
    assert main(["convert", str(source), str(tmp_path / "out"), "--columns", "vector", "id"]) == 0
    assert list(StreamingDataset(local=tmp_path / "out")[3]) == ["vector", "id"]
    assert main(["convert", str(source), str(tmp_path / "other"), "--columns", "nope"]) == 1


def test_parts_end_where_columns_change(tmp_path: Path) -> None:
    from arrowstream import MDSWriter, merge_index

    write_samples(tmp_path / "in" / "a", 10)
    with MDSWriter(out=tmp_path / "in" / "b", columns={"other": "int"}) as writer:
        writer.write({"other": 7})
    merge_index(tmp_path / "in")
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    dataset = StreamingDataset(local=tmp_path / "out")
    assert dataset[10] == {"other": 7}
    assert dataset[9]["id"] == 9


def test_an_empty_dataset_becomes_an_empty_dataset(tmp_path: Path) -> None:
    source = write_samples(tmp_path / "in", 0)
    assert main(["convert", str(source), str(tmp_path / "out")]) == 0
    assert StreamingDataset(local=tmp_path / "out").size == 0


def test_from_bucket_to_bucket(tmp_path: Path, s3: S3Server) -> None:
    source, out = s3.new_prefix(), s3.new_prefix()
    write_samples(source, 30, storage_options=s3.options)  # type: ignore[arg-type]
    options = json.dumps(s3.options)
    assert main(["convert", source, out, "--storage-options", options, "--out-storage-options", options]) == 0
    assert_holds(StreamingDataset(remote=out, local=tmp_path / "cache", storage_options=s3.options), 30)


def test_another_conversion_in_the_same_place_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_samples(tmp_path / "in", 20)
    assert main(["convert", str(source), str(tmp_path / "out")]) == 0
    assert main(["convert", str(source), str(tmp_path / "out"), "--compression", "lz4"]) == 1
    assert "holds a part of another conversion" in capsys.readouterr().err
    assert_holds(StreamingDataset(local=tmp_path / "out"), 20)


def test_what_was_killed_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    source = write_samples(tmp_path / "in", 2000)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "arrowstream", "convert", str(source), str(out), "--jobs", "1"]
    command += ["--part-bytes", "20kb", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    assert wait_until(lambda: len(list(out.glob("part-*/index.json"))) >= 3, within_s=60, every_s=0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("part-*/index.json")}
    assert len(finished) >= 3
    assert not (out / "index.json").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert_holds(StreamingDataset(local=out), 2000)
