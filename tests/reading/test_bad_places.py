"""Remotes that are not there and disks that take nothing: a named error that says where, and what to do."""

import contextlib
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from arrowstream import StreamingDataset
from arrowstream.errors import ArrowStreamError, IndexFormatError, RemoteNotFoundError, StorageError, UnwritableError
from tests.reading.datasets import assert_holds, deliver, ids, temporaries, write_large_rows, write_samples

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def load(dataset: StreamingDataset) -> list[int]:
    return ids(deliver(DataLoader(dataset, batch_size=8, num_workers=2, multiprocessing_context="fork")))


# Remotes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["remote", "local"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_place_without_an_index_is_named(tmp_path: Path, way: str, exists: bool) -> None:
    place = tmp_path / "place"
    if exists:
        place.mkdir()
    arguments = {"local": place} if way == "local" else {"remote": place, "local": tmp_path / "cache"}
    with pytest.raises(RemoteNotFoundError) as caught:
        StreamingDataset(**arguments)[0]
    for part in (str(place / "index.json"), "does not exist", "its writer did not finish", "split="):
        assert part in str(caught.value)
    with pytest.raises(FileNotFoundError):
        load(StreamingDataset(**arguments, batch_size=8))
    assert not (tmp_path / "cache").exists()


def test_a_split_that_is_missing_is_named(tmp_path: Path) -> None:
    write_samples(tmp_path / "root" / "train")
    with pytest.raises(RemoteNotFoundError, match=r"root/index\.json: does not exist; .* a split= is missing"):
        len(StreamingDataset(remote=tmp_path / "root", local=tmp_path / "cache"))
    with pytest.raises(RemoteNotFoundError, match=r"root/val/index\.json: does not exist"):
        len(StreamingDataset(remote=tmp_path / "root", local=tmp_path / "cache", split="val"))


def test_a_damaged_index_is_named_and_not_kept(tmp_path: Path) -> None:
    data = write_samples(tmp_path / "data")
    (data / "index.json").write_bytes((data / "index.json").read_bytes()[:-10])
    dataset = StreamingDataset(remote=data, local=tmp_path / "cache", batch_size=8)
    with pytest.raises(IndexFormatError, match=f"{data / 'index.json'}: is not JSON"):
        len(dataset)
    with pytest.raises(IndexFormatError):
        load(dataset)
    assert not (tmp_path / "cache" / "index.json").exists()


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound, so that nobody else gets the port; but not listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        dataset = StreamingDataset(remote=url, local=tmp_path / "cache", download_retry=1, download_timeout=20)
        with pytest.raises(StorageError) as caught:
            len(dataset)
    assert f"{url}/index.json" in str(caught.value)
    assert "check that the store is reachable" in str(caught.value)
    assert isinstance(caught.value, OSError)


def test_a_protocol_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gopher"):
        len(StreamingDataset(remote="gopher://host/data", local=tmp_path / "cache"))


# Caches ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(directory: Path, options: str) -> Iterator[Path]:
    """Give a small file system of its own, where this process may mount one."""
    directory.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def assert_does_not_take(data: Path, cache: Path, *words: str) -> None:
    dataset = StreamingDataset(remote=data, local=cache, batch_size=8)
    for read in (list, load):
        with pytest.raises(UnwritableError) as caught:
            read(dataset)
        for word in words:
            assert word in str(caught.value)
        assert isinstance(caught.value, OSError)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    data = write_large_rows(tmp_path / "data")
    with mounted(tmp_path / "cache", "size=2m") as cache:
        assert_does_not_take(data, cache, str(cache), "No space left on device")
        # What could not be finished makes room again, and nobody takes it for a shard.
        assert temporaries(cache) == []
        assert list(cache.glob("shard.*")) == []
    assert ids(StreamingDataset(remote=data, local=tmp_path / "other")) == list(range(48))


def test_a_disk_that_is_full_to_the_last_byte_is_named(tmp_path: Path) -> None:
    data = write_samples(tmp_path / "data")
    with mounted(tmp_path / "cache", "size=64k,nr_inodes=3") as cache:
        assert_does_not_take(data, cache, str(cache), "give another directory as local=")


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    data = write_samples(tmp_path / "data")
    with mounted(tmp_path / "cache", "ro") as cache:
        assert_does_not_take(data, cache, str(cache), "Read-only file system", "give another directory as local=")


def test_a_read_only_cache_that_holds_everything_serves(tmp_path: Path) -> None:
    data = write_samples(tmp_path / "data")
    with mounted(tmp_path / "cache", "size=4m") as cache:
        assert ids(StreamingDataset(remote=data, local=cache)) == list(range(100))
        subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
        assert_holds(StreamingDataset(remote=data, local=cache), 100)
        (data / "shard.00000.arrow").unlink()
        assert load(StreamingDataset(remote=data, local=cache, batch_size=8)) == list(range(100))


def test_a_file_that_may_not_grow_is_named(tmp_path: Path) -> None:
    """A limit of the kernel on the size of files needs no root."""
    data = write_large_rows(tmp_path / "data")
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            try:
                list(StreamingDataset(remote=data, local=tmp_path / "cache"))
            except UnwritableError as error:
                code = 0 if "File too large" in str(error) and str(tmp_path / "cache") in str(error) else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert temporaries(tmp_path / "cache") == []


def test_a_cache_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the mounted file systems stand for it")
    (tmp_path / "cache").mkdir(mode=0o555)
    assert_does_not_take(write_samples(tmp_path / "data"), tmp_path / "cache", str(tmp_path / "cache"))


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_cache_that_is_a_file_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    assert_does_not_take(
        write_samples(tmp_path / "data"), tmp_path / place, str(tmp_path / place), "give another directory as local="
    )
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["shard.00000.arrow", ".arrowstream"])
def test_something_in_the_way_of_a_shard_is_named(tmp_path: Path, name: str) -> None:
    data = write_samples(tmp_path / "data")
    dataset = StreamingDataset(remote=data, local=tmp_path / "cache")
    assert len(dataset) == 100
    if name == ".arrowstream":
        shutil.rmtree(tmp_path / "cache" / name)
        (tmp_path / "cache" / name).write_bytes(b"mine")
    else:
        (tmp_path / "cache" / name / "mine").mkdir(parents=True)
    with pytest.raises(ArrowStreamError) as caught:
        dataset[0]
    assert str(tmp_path / "cache") in str(caught.value)
