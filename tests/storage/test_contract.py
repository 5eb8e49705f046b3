"""What every storage does, near or far: on a path, in memory, and on real servers by each of their clients."""

import concurrent.futures
import os
import pickle
import uuid
from pathlib import Path

import pytest

from arrowstream.errors import RemoteNotFoundError, StorageError
from arrowstream.storage import Storage, remote

PIECE = 1 << 16  # of a download; larger outside these tests
SIZES = [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 5 * PIECE - 1, 5 * PIECE + 1]


STORES = [
    *("path", "file", "memory", "s3-obstore", "s3-fsspec", "gcs-fsspec", "azure-obstore", "azure-fsspec"),
    *("sftp-fsspec", "oci-fsspec"),
]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RANGE_BYTES", PIECE)


@pytest.fixture(params=STORES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    root = tmp_path / "a store"
    match request.param:
        case "path":
            return Storage(root)
        case "file":
            return Storage(root.as_uri())
        case "memory":
            return Storage(f"memory://{uuid.uuid4().hex}/a store")
    server, _, client = request.param.partition("-")
    store = request.getfixturevalue(server)
    return Storage(store.new_prefix(), options={**store.options, "client": client})


def test_what_is_written_is_read_back(storage: Storage) -> None:
    storage.write("train/index.json", b"{}")
    assert storage.read("train/index.json") == b"{}"
    storage.write("train/index.json", b"")
    assert storage.read("train/index.json") == b""


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 10), (3, 7), (3, None), (None, 7), (9, 10), (4, 4), (10, 10), (10, None)]
)
def test_a_range_is_a_slice(storage: Storage, start: int | None, stop: int | None) -> None:
    storage.write("digits", b"0123456789")
    assert storage.read("digits", start, stop) == b"0123456789"[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(5, 11), (10, 11), (20, 30)])
def test_a_range_past_the_end_is_refused(storage: Storage, start: int, stop: int) -> None:
    storage.write("digits", b"0123456789")
    with pytest.raises(StorageError, match=f"digits.*: holds 10 bytes, expected at least {stop}"):
        storage.read("digits", start, stop)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 2), (0, -1)])
def test_an_impossible_range_is_refused(storage: Storage, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=r"digits.*expected 0 <= start <= stop"):
        storage.read("digits", start, stop)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_files_of_any_length_come_back_as_they_were(storage: Storage, tmp_path: Path, size: int, told: bool) -> None:
    content = os.urandom(size)
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "target").write_bytes(b"a longer file that was here before" * 10)
    storage.upload(tmp_path / "source", "train/shard.00000.arrow")
    storage.download("train/shard.00000.arrow", tmp_path / "target", num_bytes=size if told else None)
    assert (tmp_path / "target").read_bytes() == content


@pytest.mark.parametrize("size", [10, 3 * PIECE])
@pytest.mark.parametrize("off_by", [-10, -1, 1, PIECE + 1])
def test_an_object_of_another_length_is_refused(storage: Storage, tmp_path: Path, size: int, off_by: int) -> None:
    storage.write("shard", bytes(size))
    with pytest.raises(StorageError, match=f"shard: holds {size} bytes, expected {size + off_by};"):
        storage.download("shard", tmp_path / "target", num_bytes=size + off_by)


def test_all_objects_below_are_listed_in_order(storage: Storage) -> None:
    assert storage.list() == []
    keys = ["b", "a/b/c", "a b", "a/ü#?%20.txt", "a.b"]
    for key in keys:
        storage.write(key, key.encode())
    assert storage.list() == sorted(keys)
    assert [storage.read(key).decode() for key in keys] == keys


def test_below_an_object_there_is_nothing(storage: Storage) -> None:
    storage.write("file", b"")
    assert Storage(storage.url_of("file"), options=storage.options).list() == []


def test_neighbours_are_not_listed(storage: Storage) -> None:
    storage.write("train/a", b"")
    storage.write("train2/a", b"")
    below = Storage(storage.url_of("train"), options=storage.options)
    assert below.list() == ["a"]
    assert Storage(storage.url_of("trai"), options=storage.options).list() == []
    assert below.read("a") == b""


def test_an_object_exists_from_writing_to_deleting(storage: Storage) -> None:
    assert not storage.exists("a/b")
    storage.write("a/b", b"1")
    assert storage.exists("a/b")
    assert not storage.exists("a")
    storage.delete("a/b")
    assert not storage.exists("a/b")
    storage.delete("a/b")


def test_what_others_write_meanwhile_is_seen(storage: Storage) -> None:
    other = Storage(storage.url, options=storage.options, timeout_s=59)
    storage.write("a/1", b"")
    assert (other.list(), other.exists("a/2")) == (["a/1"], False)
    storage.write("a/2", b"")
    assert (other.list(), other.exists("a/2")) == (["a/1", "a/2"], True)


def test_what_is_missing_is_named(storage: Storage, tmp_path: Path) -> None:
    def missing() -> pytest.RaisesExc[RemoteNotFoundError]:
        return pytest.raises(RemoteNotFoundError, match=r"a store/no|[0-9a-f]{32}/no")

    with missing():
        storage.read("no")
    with missing():
        storage.read("no", 1, 2)
    with missing():
        storage.download("no", tmp_path / "target")
    with missing():
        storage.download("no", tmp_path / "target", num_bytes=5)
    with missing():
        storage.download("no", tmp_path / "target", num_bytes=3 * PIECE)


def test_a_file_to_upload_that_is_missing_is_the_callers_error(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing") as caught:
        storage.upload(tmp_path / "nothing", "key")
    assert not isinstance(caught.value, StorageError)
    assert storage.list() == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "..", "../up", "a/../../up", "a/./b", "./a", "a/", "a\0b"])
def test_keys_that_leave_the_directory_are_refused(storage: Storage, tmp_path: Path, key: str) -> None:
    for call in (storage.read, storage.exists, storage.delete, storage.url_of):
        with pytest.raises(ValueError, match="is no key: expected a relative path"):
            call(key)
    with pytest.raises(ValueError, match="is no key"):
        storage.write(key, b"")
    with pytest.raises(ValueError, match="is no key"):
        storage.download(key, tmp_path / "target")
    with pytest.raises(ValueError, match="is no key"):
        storage.upload(tmp_path, key)


def test_a_storage_pickles_small(storage: Storage) -> None:
    storage.write("key", b"1")
    sent = pickle.dumps(storage)
    assert len(sent) < 1000
    assert pickle.loads(sent).read("key") == b"1"


def test_threads_may_share_a_storage(storage: Storage, tmp_path: Path) -> None:
    contents = {f"shard.{number}": os.urandom(2 * PIECE + number) for number in range(6)}

    def round_trip(key: str) -> bytes:
        storage.write(key, contents[key])
        storage.download(key, tmp_path / key)
        assert storage.read(key, 5, 10) == contents[key][5:10]
        return (tmp_path / key).read_bytes()

    with concurrent.futures.ThreadPoolExecutor(6) as executor:
        assert list(executor.map(round_trip, contents)) == list(contents.values())


def test_options_stay_out_of_the_text(storage: Storage) -> None:
    assert repr(storage) == f"Storage({storage.url!r})"
