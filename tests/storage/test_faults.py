"""Every fault of a network, between each S3 client and a real server: what is asked for comes, or the named error."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.errors import (
    CorruptShardError,
    RemoteAccessError,
    RemoteNotFoundError,
    RemoteThrottledError,
    RemoteTimeoutError,
    StorageError,
)
from arrowstream.storage import Storage, remote
from tests.faults import Kind, Proxy, run_proxy
from tests.servers import S3Server

PIECE = 1 << 20
CONTENT = os.urandom(3 * PIECE + 5)  # four ranges
QUICK_S = 20.0  # far above what is waited for, far below for ever


@pytest.fixture(autouse=True)
def small_and_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACK_OFF_S", 0.01)
    monkeypatch.setattr(remote, "RANGE_BYTES", PIECE)


@pytest.fixture(scope="module")
def proxy(s3: S3Server) -> Iterator[Proxy]:
    with run_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture(params=["obstore", "fsspec"])
def storage(request: pytest.FixtureRequest, s3: S3Server, proxy: Proxy) -> Iterator[Storage]:
    options = {**s3.options, "endpoint_url": proxy.url, "client": request.param}
    storage = Storage(s3.new_prefix(), options=options, attempts=3, timeout_s=0.8)
    assert storage.client.startswith(request.param)
    proxy.faults.clear()
    yield storage
    proxy.faults.clear()


@pytest.mark.parametrize("kind", ["reset", "cut", "cut-reset", "stall", "silent"])
def test_a_connection_that_breaks_is_not_seen(storage: Storage, proxy: Proxy, tmp_path: Path, kind: Kind) -> None:
    storage.write("shard", CONTENT)
    proxy.fail(kind, 2)
    storage.download("shard", tmp_path / "target", num_bytes=len(CONTENT))
    assert (tmp_path / "target").read_bytes() == CONTENT
    proxy.fail(kind)
    assert storage.read("shard", 5, 2000) == CONTENT[5:2000]
    proxy.fail(kind)
    assert storage.read("shard") == CONTENT
    assert not proxy.faults


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_status_that_passes_is_not_seen(storage: Storage, proxy: Proxy, tmp_path: Path, status: int) -> None:
    storage.write("shard", CONTENT)
    proxy.fail("status", 2, status=status)
    storage.download("shard", tmp_path / "target", num_bytes=len(CONTENT))
    assert (tmp_path / "target").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "NoSuchKey", RemoteNotFoundError),
        (403, "AccessDenied", RemoteAccessError),
        (400, "BadRequest", StorageError),
        (503, "SlowDown", RemoteThrottledError),
        (500, "InternalError", StorageError),
    ],
)
def test_a_status_that_stays_has_its_error(
    storage: Storage, proxy: Proxy, tmp_path: Path, status: int, code: str, error: type[StorageError]
) -> None:
    storage.write("shard", CONTENT)
    proxy.fail("status", 100, status=status, code=code)
    begin = time.monotonic()
    with pytest.raises(
        error, match=rf"{storage.url}/shard \(at {proxy.url}\): cannot read, \d+ attempts? in "
    ) as caught:
        storage.download("shard", tmp_path / "target", num_bytes=len(CONTENT))
    assert type(caught.value) is error
    assert "Debug source" not in str(caught.value)
    assert time.monotonic() - begin < QUICK_S


@pytest.mark.parametrize(
    ("kind", "error"), [("reset", StorageError), ("cut", StorageError), ("stall", RemoteTimeoutError)]
)
def test_a_connection_that_goes_on_breaking_has_its_error(
    storage: Storage, proxy: Proxy, tmp_path: Path, kind: Kind, error: type[StorageError]
) -> None:
    storage.write("shard", CONTENT)
    proxy.fail(kind, 100)
    begin = time.monotonic()
    with pytest.raises(error, match=r"shard .*: cannot read, 3 attempts in \d"):
        storage.download("shard", tmp_path / "target", num_bytes=len(CONTENT))
    assert time.monotonic() - begin < QUICK_S


@pytest.mark.parametrize("kind", ["reset", "silent"])
def test_an_upload_that_breaks_is_begun_again(storage: Storage, proxy: Proxy, tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    proxy.fail(kind)
    storage.upload(tmp_path / "source", "shard")
    assert storage.read("shard") == CONTENT


def test_a_large_upload_in_parts_arrives_whole(storage: Storage, tmp_path: Path) -> None:
    content = os.urandom((20 << 20) + 3)
    (tmp_path / "source").write_bytes(content)
    storage.upload(tmp_path / "source", "shard")
    assert storage.read("shard") == content


def test_a_store_that_names_a_time_is_left_alone_until_then(
    s3: S3Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", pauses.append)
    options = {**s3.options, "endpoint_url": proxy.url, "client": "fsspec"}
    storage = Storage(s3.new_prefix(), options=options, attempts=1, timeout_s=30)
    storage.write("key", b"1")
    proxy.fail("status", 2, status=503, code="SlowDown", retry_after="7")
    proxy.fail("status", status=429, retry_after="3")
    assert storage.read("key") == b"1"
    assert pauses == [7.0, 7.0, 3.0]
    proxy.fail("status", status=429, retry_after="3600")
    with pytest.raises(RemoteThrottledError, match=r"1 attempt in .*raise timeout_s"):
        storage.read("key")
    assert pauses == [7.0, 7.0, 3.0]


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_a_flipped_byte_is_never_streamed(s3: S3Server, proxy: Proxy, tmp_path: Path, client: str) -> None:
    options = {**s3.options, "endpoint_url": proxy.url, "client": client}
    out = s3.new_prefix()
    samples = [{"text": f"{number:01000}"} for number in range(100)]
    with MDSWriter(out=out, columns={"text": "str"}, size_limit="40kb", storage_options=s3.options) as writer:
        for sample in samples:
            writer.write(sample)
    dataset = StreamingDataset(remote=out, local=tmp_path / "a", storage_options=options, batch_size=10)
    assert dataset.num_samples == 100  # the index has arrived
    proxy.fail("flip")
    assert list(dataset) == samples
    proxy.fail("flip", 100)
    again = StreamingDataset(remote=out, local=tmp_path / "b", storage_options=options, batch_size=10)
    with pytest.raises((CorruptShardError, ValueError)):
        list(again)
    proxy.faults.clear()


def test_a_slow_store_is_waited_for(storage: Storage, proxy: Proxy, tmp_path: Path) -> None:
    storage.write("shard", CONTENT)
    proxy.latency_s = 0.02
    try:
        storage.download("shard", tmp_path / "target", num_bytes=len(CONTENT))
    finally:
        proxy.latency_s = 0.0
    assert (tmp_path / "target").read_bytes() == CONTENT
