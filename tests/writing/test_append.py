"""A second writer adds shards and overwrites nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from arrowstream import StreamingDataset
from arrowstream.dataset import StreamingDataset as PlainDataset
from arrowstream.errors import DirectoryInUseError, IndexFormatError
from tests.reading.datasets import assert_holds, write_samples
from tests.servers import S3Server


def test_samples_are_added_behind_those_that_are_there(tmp_path: Path) -> None:
    write_samples(tmp_path, 60)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.arrow")}
    write_samples(tmp_path, 40, first=60, append=True)
    assert {path: path.read_bytes() for path in before} == before
    assert_holds(PlainDataset(local=tmp_path), 100)


def test_the_first_may_append_as_well(tmp_path: Path) -> None:
    write_samples(tmp_path / "new", 30, append=True)
    write_samples(tmp_path / "new", 0, append=True)
    write_samples(tmp_path / "new", 30, first=30, append=True, compression="zstd")
    assert_holds(PlainDataset(local=tmp_path / "new"), 60)


def test_a_writer_that_fails_adds_nothing(tmp_path: Path) -> None:
    write_samples(tmp_path, 60)
    index = (tmp_path / "index.json").read_bytes()
    with pytest.raises(TypeError):
        write_samples(tmp_path, "many", append=True)  # type: ignore[arg-type]
    assert (tmp_path / "index.json").read_bytes() == index


def test_a_dataset_in_a_bucket_grows(tmp_path: Path, s3: S3Server) -> None:
    remote = s3.new_prefix()
    for first in (0, 20, 40):
        write_samples(remote, 20, first=first, append=True, storage_options=s3.options)  # type: ignore[arg-type]
    assert_holds(PlainDataset(remote=remote, local=tmp_path, storage_options=s3.options), 60)


def test_many_processes_append_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.reading.datasets import write_samples;"
        "write_samples(Path(sys.argv[1]), 20, first=20 * int(sys.argv[2]), append=True)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(number)]) for number in range(6)]
    assert [writer.wait(60) for writer in writers] == [0] * 6
    dataset = StreamingDataset(local=tmp_path)
    assert sorted(sample["id"] for sample in dataset[:]) == list(range(120))


def test_a_damaged_index_is_not_written_over(tmp_path: Path) -> None:
    write_samples(tmp_path, 20)
    (tmp_path / "index.json").write_bytes(b"{")
    with pytest.raises(IndexFormatError, match=r"index.json"):
        write_samples(tmp_path, 20, append=True)
    assert (tmp_path / "index.json").read_bytes() == b"{"


def test_without_append_a_dataset_is_left_alone(tmp_path: Path) -> None:
    write_samples(tmp_path, 20)
    with pytest.raises(DirectoryInUseError):
        write_samples(tmp_path, 20)
    with pytest.raises(ValueError, match=r"choose one"):
        write_samples(tmp_path, 20, append=True, exist_ok=True)


def test_the_index_remembers_what_it_is_told(tmp_path: Path) -> None:
    write_samples(tmp_path, 20, metadata={"source": "made up", "version": 1})
    write_samples(tmp_path, 20, metadata={"version": 2}, append=True)
    assert json.loads((tmp_path / "index.json").read_bytes())["metadata"] == {"source": "made up", "version": 2}
    with pytest.raises(TypeError):
        write_samples(tmp_path / "other", 1, metadata={"no": object()})
    assert not (tmp_path / "other").exists()
