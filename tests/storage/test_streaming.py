"""A whole dataset, written to each kind of store and streamed from it; and the stores that can only be read."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.errors import RemoteAccessError, RemoteNotFoundError, StorageError
from arrowstream.storage import Storage
from tests.stores import run_hub, run_web

SAMPLES = [{"id": number, "text": hashlib.sha256(str(number).encode()).hexdigest()} for number in range(500)]
COLUMNS = {"id": "int", "text": "str"}
WRITABLE = ["s3-obstore", "s3-fsspec", "gcs-fsspec", "azure-obstore", "azure-fsspec", "sftp-fsspec", "oci-fsspec"]


def write_to(out: str, options: dict[str, object] | None = None) -> None:
    with MDSWriter(out=out, columns=COLUMNS, size_limit="8kb", compression="zstd", storage_options=options) as writer:
        for sample in SAMPLES:
            writer.write(sample)


@pytest.mark.parametrize("kind", WRITABLE)
def test_a_dataset_is_written_to_a_store_and_streamed_from_it(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    server, _, client = kind.partition("-")
    store = request.getfixturevalue(server)
    remote, options = store.new_prefix(), {**store.options, "client": client}
    write_to(remote, options)
    dataset = StreamingDataset(remote=remote, local=tmp_path, storage_options=options, batch_size=10)
    assert list(dataset) == SAMPLES
    assert len(Storage(remote, options=options).list()) > 5


@pytest.fixture(params=["http", "hf"])
def read_only(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    directory = tmp_path / "served"
    write_to(str(directory / "train"))
    (directory / "train" / "digits").write_bytes(b"0123456789")
    if request.param == "http":
        with run_web(directory) as url:
            yield Storage(f"{url}/train")
    else:
        with run_hub(directory) as url:
            yield Storage("hf://datasets/org/name/train", options={"endpoint": url})


def test_what_others_serve_is_read(read_only: Storage, tmp_path: Path) -> None:
    assert read_only.read("digits") == b"0123456789"
    assert read_only.read("digits", 3, 7) == b"3456"
    assert read_only.exists("digits")
    assert not read_only.exists("letters")
    assert {"digits", "index.json"} < set(read_only.list())
    read_only.download("digits", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"0123456789"
    with pytest.raises(StorageError, match="digits: holds 10 bytes, expected at least 12"):
        read_only.read("digits", 3, 12)
    with pytest.raises(RemoteNotFoundError, match=f"{read_only.url}/letters"):
        read_only.read("letters")
    with pytest.raises(RemoteNotFoundError, match=f"{read_only.url}/letters"):
        read_only.download("letters", tmp_path / "target", num_bytes=5)


def test_a_dataset_that_others_serve_is_streamed(read_only: Storage, tmp_path: Path) -> None:
    dataset = StreamingDataset(
        remote=read_only.url, local=tmp_path / "cache", storage_options=read_only.options, batch_size=10
    )
    assert list(dataset) == SAMPLES


@pytest.mark.parametrize("kind", ["azure-obstore", "azure-fsspec", "sftp-fsspec", "oci-fsspec"])
def test_credentials_that_do_not_fit_are_refused_by_each_store(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    server, _, client = kind.partition("-")
    store = request.getfixturevalue(server)
    storage = Storage(store.new_prefix(), options={**store.refused, "client": client})
    for act in (lambda: storage.read("key"), lambda: storage.write("key", b"1"), storage.list):
        with pytest.raises(RemoteAccessError, match=f"{storage.url}.* 1 attempt in .*give credentials"):
            act()
