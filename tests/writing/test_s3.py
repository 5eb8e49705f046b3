"""From a DataFrame to a real S3 server and back."""

import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import s3fs
import torch.utils.data

from arrowstream import MDSWriter, StreamingDataset, scan, write_dataframe
from arrowstream.errors import (
    CorruptShardError,
    DirectoryInUseError,
    MissingShardError,
    RemoteNotFoundError,
    StorageError,
)
from tests.servers import S3Server, closed_port
from tests.writing.directories import listing, read_rows, run_until_killed

ROWS = [
    {"id": number, "text": f"row {number} " * 5, "score": None if number % 9 == 0 else number / 3}
    for number in range(1000)
]
FRAME = pl.DataFrame(ROWS)


def _files(s3: S3Server) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, **s3.options)


def _names(s3: S3Server, prefix: str) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in _files(s3).find(prefix))


@pytest.fixture(params=["zstd:3", "gz"])
def remote(request: pytest.FixtureRequest, s3: S3Server) -> Iterator[str]:
    prefix = s3.new_prefix()
    write_dataframe(FRAME, prefix, compression=request.param, size_limit="16kb", storage_options=s3.options)
    yield prefix
    _files(s3).rm(prefix, recursive=True)


def _dataset(remote: str, local: Path, s3: S3Server, **arguments: object) -> StreamingDataset:
    return StreamingDataset(remote=remote, local=local, storage_options=s3.options, **arguments)


def test_what_was_written_is_streamed_by_two_workers(remote: str, s3: S3Server, tmp_path: Path) -> None:
    dataset = _dataset(remote, tmp_path, s3, batch_size=10, shuffle=True)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=10, num_workers=2, multiprocessing_context="fork", collate_fn=list
    )
    for _ in range(2):
        rows = [row for batch in loader for row in batch]
        assert [row["id"] for row in rows] != list(range(1000))
        assert sorted(rows, key=lambda row: row["id"]) == ROWS


def test_what_was_written_is_taken_and_scanned(remote: str, s3: S3Server, tmp_path: Path) -> None:
    dataset = _dataset(remote, tmp_path, s3)
    ids = random.Random(0).choices(range(1000), k=200)
    assert dataset.take(ids).to_pylist() == [ROWS[number] for number in ids]
    assert dataset[ids[0]] == ROWS[ids[0]]
    assert scan(dataset, fetch=True).filter(pl.col("score").is_null()).collect().to_dicts() == ROWS[::9]


def test_a_url_is_scanned(remote: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    assert scan(remote).collect().to_dicts() == ROWS


def test_a_shard_that_was_deleted_is_named_by_its_url(remote: str, s3: S3Server, tmp_path: Path) -> None:
    dataset = _dataset(remote, tmp_path, s3)
    assert dataset[0] == ROWS[0]
    name = next(name for name in _names(s3, remote) if name.startswith("shard.00001"))
    _files(s3).rm_file(f"{remote}/{name}")
    first = dataset.samples_per_shard[0]
    with pytest.raises(MissingShardError, match=f"{remote}/{name}: does not exist, but the index names it"):
        dataset[first]
    assert dataset[first - 1] == ROWS[first - 1]
    with pytest.raises(MissingShardError, match=name):
        list(_dataset(remote, tmp_path / "other", s3))


def test_a_shard_with_a_flipped_bit_is_refused_and_mended_by_the_right_one(
    remote: str, s3: S3Server, tmp_path: Path
) -> None:
    dataset = _dataset(remote, tmp_path, s3)
    name = next(name for name in _names(s3, remote) if name.startswith("shard.00000"))
    right = _files(s3).cat_file(f"{remote}/{name}")
    wrong = bytearray(right)
    wrong[len(wrong) // 2] ^= 1
    _files(s3).pipe_file(f"{remote}/{name}", bytes(wrong))
    with pytest.raises(
        CorruptShardError, match=f"{remote}/{name}: its xxh3_64 is .*, the index says .*; fetched 2 times"
    ):
        dataset[0]
    assert not list(tmp_path.rglob("shard*"))
    _files(s3).pipe_file(f"{remote}/{name}", right)
    assert dataset[0] == ROWS[0]


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"1", lambda data: b""])
def test_a_shard_of_another_length_is_refused(s3: S3Server, tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    remote = s3.new_prefix()
    write_dataframe(FRAME, remote, storage_options=s3.options)
    path = f"{remote}/shard.00000.arrow"
    _files(s3).pipe_file(path, change(_files(s3).cat_file(path)))
    with pytest.raises((CorruptShardError, StorageError), match=r"shard.00000.arrow"):
        _dataset(remote, tmp_path, s3)[0]
    assert not list(tmp_path.rglob("shard*"))


def test_an_unreachable_endpoint_is_named(tmp_path: Path) -> None:
    options = {"key": "k", "secret": "s", "endpoint_url": closed_port()}
    dataset = StreamingDataset(remote="s3://bucket/x", local=tmp_path, storage_options=options, download_retry=1)
    with pytest.raises(StorageError, match=f"s3://bucket/x/index.json .at {options['endpoint_url']}.: cannot read"):
        len(dataset)


def test_a_remote_in_use_is_refused_and_left_alone(remote: str, s3: S3Server, tmp_path: Path) -> None:
    before = {path: _files(s3).cat_file(path) for path in _files(s3).find(remote)}
    with pytest.raises(DirectoryInUseError, match=f"{remote}/index.json: exists already"):
        write_dataframe(FRAME, remote, storage_options=s3.options)
    with pytest.raises(FileExistsError, match=f"{remote}/index.json"):
        MDSWriter(columns={"id": "int"}, out=(tmp_path / "local", remote), storage_options=s3.options)
    assert {path: _files(s3).cat_file(path) for path in _files(s3).find(remote)} == before
    assert listing(tmp_path) == []


def test_a_remote_may_be_written_again_on_request(remote: str, s3: S3Server, tmp_path: Path) -> None:
    write_dataframe(FRAME[:10], remote, storage_options=s3.options, exist_ok=True)
    assert list(_dataset(remote, tmp_path, s3)) == ROWS[:10]


@pytest.mark.parametrize("keep_local", [True, False])
def test_shards_stay_on_this_machine_on_request(s3: S3Server, tmp_path: Path, keep_local: bool) -> None:
    remote, local = s3.new_prefix(), tmp_path / "local"
    write_dataframe(FRAME, (local, remote), keep_local=keep_local, size_limit="16kb", storage_options=s3.options)
    assert local.exists() == keep_local
    if keep_local:
        assert listing(local) == _names(s3, remote)
        assert read_rows(local) == ROWS
        sums = [zlib.crc32((local / name).read_bytes()) for name in listing(local)]
        assert sums == [zlib.crc32(_files(s3).cat_file(f"{remote}/{name}")) for name in listing(local)]


def test_an_exception_in_the_block_leaves_no_index(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    remote = s3.new_prefix()
    with (  # noqa: PT012
        pytest.raises(ZeroDivisionError),
        MDSWriter(columns={"id": "int"}, out=remote, size_limit="4kb", storage_options=s3.options) as writer,
    ):
        for number in range(1000):
            writer.write_batch({"id": range(1000)})
            _ = 1 / (10 - number)
    assert listing(tmp_path) == []
    assert "index.json" not in _names(s3, remote)
    with pytest.raises(RemoteNotFoundError, match="its writer did not finish"):
        len(_dataset(remote, tmp_path / "cache", s3))


KILLED = """
import json, os, signal, sys
from arrowstream import MDSWriter
from arrowstream.storage import Storage
remote, options = sys.argv[1], json.loads(sys.argv[2])
writer = MDSWriter(columns={"data": "bytes"}, out=remote, size_limit="64kb", storage_options=options)
storage = Storage(remote, options=options)
for number in range(100_000):
    writer.write({"data": os.urandom(10_000)})
    if number % 30 == 0 and storage.exists("shard.00002.arrow"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_nothing_that_looks_like_a_dataset(s3: S3Server, tmp_path: Path) -> None:
    remote = s3.new_prefix()
    run_until_killed(KILLED, remote, json.dumps(s3.options))
    assert "shard.00002.arrow" in _names(s3, remote)
    with pytest.raises(RemoteNotFoundError, match="its writer did not finish"):
        len(_dataset(remote, tmp_path, s3))
    with pytest.raises(FileExistsError, match=r"shard.00000.arrow: exists already"):
        write_dataframe(FRAME, remote, storage_options=s3.options)
    write_dataframe(FRAME, remote, storage_options=s3.options, exist_ok=True)
    assert list(_dataset(remote, tmp_path, s3)) == ROWS
