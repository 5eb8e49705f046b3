"""Local directories: how they are named, and disks that are full or may not be written or read."""

import contextlib
import errno
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arrowstream.errors import RemoteAccessError, RemoteNotFoundError, StorageError, UnwritableError
from arrowstream.storage import Storage

Act = Callable[[Path], object]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system of its own; skips where that is not allowed."""
    mounts: list[Path] = []

    def mount(options: str) -> Path:
        target = tmp_path / f"mount{len(mounts)}"
        target.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", target], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.decode().strip()}")
        mounts.append(target)
        return target

    yield mount
    for target in mounts:
        subprocess.run(["umount", target], check=True)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_paths_and_file_urls_are_local(tmp_path: Path) -> None:
    assert Storage("data/train").local_path == Path("data/train")
    assert Storage(tmp_path).local_path == tmp_path
    assert Storage("file:///data/a%20b%25").local_path == Path("/data/a b%")
    assert Storage("file://localhost/data").local_path == Path("/data")
    assert Storage("s3://bucket/data").local_path is None
    assert Storage("memory://data").local_path is None


def test_a_file_url_of_another_host_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("file://nas/data: names the host 'nas', expected")):
        Storage("file://nas/data")


def test_urls_of_objects_name_them(tmp_path: Path) -> None:
    assert Storage("/data/").url_of("a b") == "/data/a b"
    assert Storage("s3://bucket/data/").url_of("a b#") == "s3://bucket/data/a b#"
    assert Storage("file:///data").url_of("a b%") == "file:///data/a%20b%25"


@pytest.mark.parametrize(("attempts", "timeout_s"), [(0, 60.0), (2, 0.0), (2, -1.0)])
def test_settings_that_cannot_work_are_refused(attempts: int, timeout_s: float) -> None:
    with pytest.raises(ValueError, match=r"is -?[0-9.]+, expected"):
        Storage("data", attempts=attempts, timeout_s=timeout_s)


def test_a_failed_upload_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(IsADirectoryError):
        Storage(tmp_path / "store").upload(tmp_path / "source", "a/key")
    (tmp_path / "store" / "taken" / "x").mkdir(parents=True)
    with pytest.raises(UnwritableError, match="taken: cannot be written"):
        Storage(tmp_path / "store").write("taken", b"1")
    assert [path.name for path in (tmp_path / "store").rglob("*")] == ["taken", "x"]


def test_unfinished_files_are_not_listed(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with storage._backend._new_file("a/key") as unfinished:  # type: ignore[union-attr]
        unfinished.write_bytes(b"12")
        assert storage.list() == []
    assert storage.list() == ["a/key"]


def test_a_directory_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RemoteNotFoundError, match="folder: is a directory, expected a file"):
        Storage(tmp_path).download("folder", tmp_path / "target")
    with pytest.raises(StorageError, match="folder: cannot be read: Is a directory"):
        Storage(tmp_path).read("folder")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RemoteNotFoundError, match="file/below: does not exist"):
        Storage(tmp_path).read("file/below")


def acts(storage: Path) -> dict[str, Act]:
    (storage / "source").write_bytes(bytes(4 << 20))
    return {
        "local download": lambda target: Storage(storage).download("source", target),
        "upload": lambda target: Storage(target.parent).upload(storage / "source", target.name),
        "write": lambda target: Storage(target.parent).write(target.name, bytes(4 << 20)),
    }


@pytest.mark.parametrize("act", ["local download", "upload", "write"])
def test_a_full_disk_is_named(tmp_path: Path, mounted: Callable[[str], Path], act: str) -> None:
    target = mounted("size=1m") / "target"
    with pytest.raises(
        UnwritableError, match=f"{target}: cannot be written .*No space left.*free some space"
    ) as caught:
        acts(tmp_path)[act](target)
    assert caught.value.errno == errno.ENOSPC
    if act != "local download":  # whose file is the caller's to delete
        assert list(target.parent.iterdir()) == []


def test_a_full_disk_is_named_when_a_remote_object_comes(memory: Storage) -> None:
    for size in (100, 20 << 20):
        memory.write("key", bytes(size))
        with pytest.raises(UnwritableError, match=r"/dev/full: cannot be written .*No space left") as caught:
            memory.download("key", Path("/dev/full"), num_bytes=size)
        assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("act", ["local download", "upload", "write"])
def test_a_read_only_disk_is_named(tmp_path: Path, mounted: Callable[[str], Path], act: str) -> None:
    target = mounted("ro") / "target"
    with pytest.raises(UnwritableError, match=f"{target}: cannot be written .*Read-only.*choose a directory") as caught:
        acts(tmp_path)[act](target)
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("act", ["local download", "upload", "write"])
def test_a_directory_without_permission_to_write_is_named(open_path: Path, act: str) -> None:
    run = acts(open_path)[act]
    closed = open_path / "closed"
    closed.mkdir(mode=0o555)
    with as_nobody(), pytest.raises(UnwritableError, match=r"closed/target: cannot be written .*Permission") as caught:
        run(closed / "target")
    assert caught.value.errno == errno.EACCES


def test_a_target_directory_that_is_missing_is_named(memory: Storage, tmp_path: Path) -> None:
    memory.write("key", b"1")
    with pytest.raises(UnwritableError, match="nowhere/target: cannot be written") as caught:
        memory.download("key", tmp_path / "nowhere" / "target")
    assert caught.value.errno == errno.ENOENT


def test_a_file_without_permission_to_read_is_named(open_path: Path) -> None:
    (open_path / "secret").write_bytes(b"1")
    (open_path / "secret").chmod(0)
    storage = Storage(open_path)
    for act in (lambda: storage.read("secret"), lambda: storage.download("secret", open_path / "target")):
        with as_nobody(), pytest.raises(RemoteAccessError, match="secret: may not be read"):
            act()


def test_a_directory_without_permission_to_read_is_not_taken_for_an_empty_one(open_path: Path) -> None:
    closed = open_path / "closed"
    closed.mkdir(mode=0)
    with as_nobody(), pytest.raises(RemoteAccessError, match="may not be read"):
        Storage(closed).list()
    with as_nobody(), pytest.raises(RemoteAccessError, match="may not be read"):
        Storage(closed).exists("key")
    closed.chmod(0o755)


@pytest.fixture
def open_path(tmp_path: Path) -> Iterator[Path]:
    """A directory that another user reaches."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture
def memory(tmp_path: Path) -> Storage:
    return Storage(f"memory://{tmp_path}")
