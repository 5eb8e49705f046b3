"""Datasets that are written to a real store: in parallel, in parts, the index last, and none where an upload failed."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.errors import RemoteNotFoundError, StorageError
from arrowstream.storage import Storage, remote
from tests.faults import Kind, Proxy, run_proxy
from tests.servers import S3Server

ROWS = [os.urandom(10_000) for _ in range(200)]
CLIENTS = ("obstore", "fsspec")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACK_OFF_S", 0.01)


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[Proxy]:
    with run_proxy(s3.endpoint) as proxy:
        yield proxy


def write(
    s3: S3Server, proxy: Proxy, out: str, client: str, *, fail_at: int | None = None, kind: Kind = "reset"
) -> None:
    options = {**s3.options, "endpoint_url": proxy.url, "client": client}
    with MDSWriter(
        out=out, columns={"noise": "bytes"}, size_limit="100kb", storage_options=options, max_workers=4
    ) as writer:
        for number, row in enumerate(ROWS):
            if number == fail_at:
                proxy.fail(kind, 1000)
            writer.write({"noise": row})


def put_keys(proxy: Proxy) -> list[str]:
    """Name what was put, in the order of the requests."""
    return [line.split()[1].partition("?")[0].rpartition("/")[2] for line in proxy.requests if line.startswith("PUT ")]


@pytest.mark.parametrize("client", CLIENTS)
def test_shards_are_uploaded_in_parallel_and_the_index_goes_last(
    s3: S3Server, proxy: Proxy, tmp_path: Path, client: str
) -> None:
    proxy.latency_s = 0.05
    out = s3.new_prefix()
    write(s3, proxy, out, client)
    keys = put_keys(proxy)
    assert keys[-1] == "index.json"
    assert keys.count("index.json") == 1
    assert sorted(keys[:-1]) == [f"shard.{number:05}.arrow" for number in range(len(keys) - 1)]
    assert 1 < proxy.most_at_once <= 4
    dataset = StreamingDataset(remote=out, local=tmp_path, storage_options=s3.options)
    assert [sample["noise"] for sample in dataset] == ROWS


@pytest.mark.parametrize("kind", ["reset", "status"])
@pytest.mark.parametrize("client", CLIENTS)
def test_an_upload_that_fails_half_way_leaves_no_index(
    s3: S3Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str, kind: Kind
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = s3.new_prefix()
    with pytest.raises(StorageError, match=rf"{out}/shard\.\d+\.arrow .*: cannot upload, \d attempts"):
        write(s3, proxy, out, client, fail_at=100, kind=kind)
    assert list(tmp_path.iterdir()) == []
    proxy.faults.clear()
    found = Storage(out, options=s3.options).list()
    assert "index.json" not in found
    assert 0 < len(found) < len(ROWS) // 10
    with pytest.raises(RemoteNotFoundError, match="its writer did not finish"):
        len(StreamingDataset(remote=out, local=tmp_path / "cache", storage_options=s3.options))


@pytest.mark.parametrize("keep_local", [False, True])
def test_what_could_not_be_uploaded_is_kept_where_the_user_named_a_directory(
    s3: S3Server, proxy: Proxy, tmp_path: Path, keep_local: bool
) -> None:
    local, out = tmp_path / "local", s3.new_prefix()
    options = {**s3.options, "endpoint_url": proxy.url}
    columns = {"noise": "bytes"}

    def write_all(fail_at: int | None, exist_ok: bool) -> None:
        with MDSWriter(
            out=(local, out),
            columns=columns,
            size_limit="100kb",
            storage_options=options,
            max_workers=1,
            keep_local=keep_local,
            exist_ok=exist_ok,
        ) as writer:
            for number, row in enumerate(ROWS):
                if number == fail_at:
                    proxy.fail("reset", 1000)
                writer.write({"noise": row})

    with pytest.raises(StorageError, match=rf"{out}/shard\.\d+\.arrow .*: cannot upload, 2 attempts") as caught:
        write_all(100, exist_ok=False)
    proxy.faults.clear()
    lost = re.search(r"shard\.\d+\.arrow", str(caught.value))[0]
    assert (local / lost).stat().st_size > 90_000
    assert caught.value.__notes__ == [f"{local / lost}: is kept, and so are the other files that were not uploaded"]
    uploaded = Storage(out, options=s3.options).list()
    assert lost not in uploaded
    assert "index.json" not in uploaded
    assert [name for name in uploaded if (local / name).exists()] == (uploaded if keep_local else [])
    write_all(None, exist_ok=True)
    assert local.exists() == keep_local
    assert "index.json" in Storage(out, options=s3.options).list()


def test_a_large_shard_is_uploaded_in_parts(s3: S3Server, proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(bytes(20 << 20))
    storage = Storage(s3.new_prefix(), options={**s3.options, "endpoint_url": proxy.url, "client": "obstore"})
    storage.upload(tmp_path / "shard", "shard")
    parts = {re.search(r"partNumber=(\d+)", line)[1] for line in proxy.requests if "partNumber=" in line}
    assert len(parts) > 1
    assert storage.size("shard") == 20 << 20
    proxy.requests.clear()
    proxy.fail("reset", every=3)
    storage.upload(tmp_path / "shard", "again")
    assert storage.size("again") == 20 << 20
