"""Remotes that fail: each kind of failure has a class, a text that names the URL, and its own number of attempts."""

import concurrent.futures
import http.server
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arrowstream.errors import (
    MissingDependencyError,
    RemoteAccessError,
    RemoteNotFoundError,
    RemoteTimeoutError,
    StorageError,
)
from arrowstream.storage import Storage, fsspec_client
from arrowstream.storage import remote as module
from arrowstream.storage.remote import RANGE_BYTES
from tests.servers import S3Server, closed_port, run_http, run_silent

QUICK_S = 15.0  # far below what the clients' own retries take, far above what a slow machine needs


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACK_OFF_S", 0.01)


class Site:
    """An HTTP server with one object under any path; it fails as it is told and counts the requests."""

    def __init__(self) -> None:
        self.content = b"0123456789"
        self.statuses: list[int] = []  # of the next answers; 200 when they are used up
        self.code = "Unknown"  # what S3 would say with such a status
        self.cut = 0  # that many next answers end in the middle
        self.has_ranges = True
        self.requests: list[str] = []

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                pass

            def do_HEAD(self) -> None:
                self.answer(b"", len(site.content))

            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                site.requests.append(wanted or "all")
                status = site.statuses.pop(0) if site.statuses else 200
                if status != 200:
                    self.fail(status)
                    return
                data, size = site.content, len(site.content)
                if not wanted or not site.has_ranges:
                    self.answer(data, size)
                    return
                start, last = map(int, wanted.removeprefix("bytes=").split("-"))
                data = data[start : last + 1]
                self.answer(data, len(data), 206, f"bytes {start}-{start + len(data) - 1}/{size}")

            def fail(self, status: int) -> None:
                body = f"<Error><Code>{site.code}</Code><Message>not now</Message></Error>".encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def answer(self, data: bytes, length: int, status: int = 200, which: str | None = None) -> None:
                self.send_response(status)
                self.send_header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
                if which:
                    self.send_header("Content-Range", which)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if data and site.cut:
                    site.cut -= 1
                    data = data[: len(data) // 2]
                self.wfile.write(data)

        return Handler


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    with run_http(site.handler()) as url:
        yield f"{url}/data"


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_failures_that_pass_are_not_seen(site: Site, url: str, status: int) -> None:
    site.statuses = [status]
    assert Storage(url).read("key", 2, 5) == b"234"
    assert site.requests == ["bytes=2-4"] * 2


def test_an_answer_that_is_cut_off_is_asked_for_again(site: Site, url: str) -> None:
    site.cut = 1
    assert Storage(url).read("key", 0, 10) == b"0123456789"
    assert len(site.requests) == 2


@pytest.mark.parametrize("attempts", [1, 3])
def test_attempts_are_the_requests_in_all(site: Site, url: str, attempts: int) -> None:
    site.statuses = [500] * 10
    with pytest.raises(
        StorageError, match=rf"{url}/key: cannot read, {attempts} attempts? in [\d.]+ s: .*500"
    ) as caught:
        Storage(url, attempts=attempts).read("key")
    assert len(site.requests) == attempts
    assert caught.value.__cause__ is not None
    assert "raise attempts" in str(caught.value)


def test_a_store_that_asks_for_patience_gets_it(site: Site, url: str) -> None:
    site.statuses = [429] * 5
    assert Storage(url, attempts=1).read("key") == site.content
    site.statuses = [429] * 1000
    with pytest.raises(StorageError, match=r"429.*fewer requests"):
        Storage(url, attempts=1, timeout_s=0.3).read("key")


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "ServiceUnavailable")])
def test_no_client_multiplies_the_attempts(s3: S3Server, site: Site, url: str, status: int, code: str) -> None:
    site.code = code
    site.statuses = [status] * 100
    storage = Storage("s3://bucket/data", options={**s3.options, "endpoint_url": url}, attempts=3)
    with pytest.raises(StorageError, match=f"s3://bucket/data/key .* 3 attempts in .*{code}"):
        storage.read("key", 0, 5)
    assert len(site.requests) == 3


def test_s3_that_asks_for_patience_gets_it(s3: S3Server, site: Site, url: str) -> None:
    site.code = "SlowDown"
    site.statuses = [503] * 5
    storage = Storage("s3://bucket/data", options={**s3.options, "endpoint_url": url}, attempts=1)
    assert storage.read("key", 2, 5) == b"234"
    site.cut = 1
    with pytest.raises(StorageError, match="1 attempt in"):
        storage.read("key", 2, 8)
    assert storage.read("key", 2, 8) == b"234567"


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (404, RemoteNotFoundError, "the object does not exist"),
        (403, RemoteAccessError, "access refused .*403"),
        (401, RemoteAccessError, "give credentials"),
        (400, StorageError, "400"),
        (501, StorageError, "501"),
    ],
)
def test_failures_that_last_are_not_repeated(
    site: Site, url: str, status: int, kind: type[StorageError], text: str
) -> None:
    site.statuses = [status]
    with pytest.raises(kind, match=f"{url}/key: cannot read, 1 attempt in .*{text}"):
        Storage(url, attempts=5).read("key")
    assert len(site.requests) == 1


def test_an_unreachable_server_is_not_taken_for_a_missing_object() -> None:
    url = closed_port()
    with pytest.raises(StorageError, match=f"{url}/key: cannot look up, 2 attempts") as caught:
        Storage(url).exists("key")
    assert not isinstance(caught.value, RemoteNotFoundError)
    with pytest.raises(StorageError, match="ConnectionRefusedError"):
        Storage(url).list()


@pytest.mark.parametrize("size", [10, RANGE_BYTES, 3 * RANGE_BYTES + 7])
def test_a_server_that_ignores_ranges_is_understood(site: Site, url: str, tmp_path: Path, size: int) -> None:
    site.has_ranges = False
    site.content = bytes(range(256)) * (size // 256 + 1)
    site.content = site.content[:size]
    storage = Storage(url)
    assert storage.read("key", 2, 5) == site.content[2:5]
    for num_bytes in (size, None):
        storage.download("key", tmp_path / "target", num_bytes=num_bytes)
        assert (tmp_path / "target").read_bytes() == site.content
    with pytest.raises(StorageError, match=f"{url}/key: holds {size} bytes, expected {size - 5};"):
        storage.download("key", tmp_path / "target", num_bytes=size - 5)
    with pytest.raises(StorageError, match=f"{url}/key: holds {size} bytes, expected at least {size + 1};"):
        storage.read("key", 5, size + 1)


def test_a_large_object_comes_in_ranges(site: Site, url: str, tmp_path: Path) -> None:
    site.content = bytes(2 * RANGE_BYTES + 1)
    Storage(url).download("key", tmp_path / "target", num_bytes=len(site.content))
    first, second, third = RANGE_BYTES, 2 * RANGE_BYTES, len(site.content)
    assert sorted(site.requests) == [f"bytes=0-{first - 1}", f"bytes={second}-{third}", f"bytes={first}-{second - 1}"]


def test_what_a_protocol_cannot_do_is_said(url: str) -> None:
    with pytest.raises(StorageError, match=f"{url}/key: cannot write, 1 attempt in .*501"):
        Storage(url).write("key", b"1")
    with pytest.raises(StorageError, match=f"{url}/key: cannot delete, 1 attempt in .*NotImplementedError"):
        Storage(url).delete("key")


def hanging_acts(storage: Storage, path: Path) -> list[Callable[[], object]]:
    (path / "source").write_bytes(b"1")
    return [
        lambda: storage.read("key"),
        lambda: storage.read("key", 0, 5),
        lambda: storage.download("key", path / "target", num_bytes=3 * RANGE_BYTES),
        lambda: storage.exists("key"),
        lambda: storage.write("key", b"1"),
        lambda: storage.upload(path / "source", "key"),
        lambda: storage.delete("key"),
    ]


def test_a_server_that_never_answers_does_not_hang_us(s3: S3Server, tmp_path: Path) -> None:
    with run_silent() as url:
        options = {**s3.options, "endpoint_url": url}
        storage = Storage("s3://bucket/data", options=options, attempts=2, timeout_s=0.3)
        for act in hanging_acts(storage, tmp_path):
            begin = time.monotonic()
            with pytest.raises(
                RemoteTimeoutError, match=rf"s3://bucket/data/key \(at {url}\): cannot .*, 2 attempts in \d"
            ):
                act()
            assert time.monotonic() - begin < QUICK_S
        with pytest.raises(RemoteTimeoutError, match=r"http://127.*/key: cannot read, 1 attempt in .*raise timeout_s"):
            Storage(url, attempts=1, timeout_s=0.3).read("key")


def test_many_threads_reach_their_deadline_together() -> None:
    with run_silent() as url, concurrent.futures.ThreadPoolExecutor(16) as executor:
        storage = Storage(url, attempts=1, timeout_s=0.5)
        begin = time.monotonic()
        answers = [executor.submit(storage.read, f"key{number}") for number in range(16)]
        assert {type(answer.exception(QUICK_S)) for answer in answers} == {RemoteTimeoutError}
        assert time.monotonic() - begin < QUICK_S


def test_an_unreachable_store_is_named_quickly(s3: S3Server) -> None:
    endpoint = closed_port()
    storage = Storage("s3://bucket/data", options={**s3.options, "endpoint_url": endpoint})
    begin = time.monotonic()
    with pytest.raises(StorageError, match=rf"s3://bucket/data/key \(at {endpoint}\): cannot read, 2 attempts"):
        storage.read("key")
    assert time.monotonic() - begin < QUICK_S


def test_the_endpoint_may_stand_in_the_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    storage = Storage(s3.new_prefix())
    storage.write("key", b"1")
    assert storage.list() == ["key"]
    monkeypatch.setenv("S3_ENDPOINT_URL", closed_port())
    assert Storage(storage.url, options=s3.options).list() == ["key"]
    assert Storage(storage.url, options={"client_kwargs": {"endpoint_url": s3.endpoint}}).list() == ["key"]
    with pytest.raises(StorageError, match=r"cannot list, 2 attempts .*raise attempts"):
        Storage(storage.url).list()


@pytest.mark.parametrize(
    "wrong", [{"key": "unknown"}, {"secret": "wrong"}, {"key": None, "secret": None}], ids=["key", "secret", "none"]
)
def test_credentials_that_do_not_fit_are_refused(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: dict[str, object]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    storage = Storage(s3.new_prefix(), options={**s3.options, **wrong})
    text = rf"{storage.url}/key \(at {s3.endpoint}\): cannot \w+( \w+)?, 1 attempt in .*give credentials in options="
    for act in (lambda: storage.read("key"), lambda: storage.exists("key"), lambda: storage.write("key", b"1")):
        with pytest.raises(RemoteAccessError, match=text):
            act()
    with pytest.raises(RemoteAccessError, match=rf"{storage.url} \(at"):
        storage.list()


def test_a_missing_bucket_is_told_from_a_missing_object(s3: S3Server) -> None:
    storage = Storage("s3://no-such-bucket/data", options=s3.options)
    with pytest.raises(RemoteNotFoundError, match=r"s3://no-such-bucket/data/key .*1 attempt in .*the bucket does not"):
        storage.read("key")
    with pytest.raises(RemoteNotFoundError, match=r"s3://no-such-bucket/data .*the bucket does not exist"):
        storage.list()
    with pytest.raises(RemoteNotFoundError, match="the object does not exist"):
        Storage(s3.new_prefix(), options=s3.options).read("key")


def test_a_name_that_cannot_be_a_bucket_is_not_tried_twice(s3: S3Server) -> None:
    with pytest.raises(StorageError, match=r"1 attempt in .*Invalid bucket name"):
        Storage("s3://B_A_D!/data", options={**s3.options, "client": "fsspec"}).read("key")


def test_the_users_own_client_settings_stay(s3: S3Server) -> None:
    options = {**s3.options, "config_kwargs": {"retries": {"max_attempts": 7}, "read_timeout": 3}}
    settings = fsspec_client.s3_settings(options, 60.0)
    assert settings["config_kwargs"]["retries"] == {"max_attempts": 7}
    assert settings["config_kwargs"]["read_timeout"] == 3
    assert settings["config_kwargs"]["connect_timeout"] == 10.0


@pytest.mark.parametrize(
    ("url", "absent", "pip"),
    [
        ("s3://bucket/data", "s3fs", "pip install 'arrowstream[s3]'"),
        ("gs://bucket/data", "gcsfs", "pip install 'arrowstream[gcs]'"),
        ("az://bucket/data", "adlfs", "pip install 'arrowstream[azure]'"),
        ("oci://bucket@space/data", "ocifs", "pip install 'arrowstream[oci]'"),
        ("hf://datasets/org/name", "huggingface_hub", "pip install 'arrowstream[hf]'"),
        ("sftp://host/data", "sshfs", "pip install 'arrowstream[sftp]'"),
    ],
)
def test_a_protocol_whose_package_is_absent_names_it(
    monkeypatch: pytest.MonkeyPatch, url: str, absent: str, pip: str
) -> None:
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, url.partition(":")[0], raising=False)
    below = [name for name in sys.modules if name.startswith(f"{absent}.")]
    for name in (absent, f"{absent}.core", "paramiko", *below):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("fsspec.implementations.sftp", "huggingface_hub.hf_file_system"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingDependencyError, match=re.escape(f"{url}: ") + ".*" + re.escape(f"run: {pip}")):
        Storage(url).read("key")


def test_a_protocol_that_nobody_knows_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"s3x://bucket: .* s3x://; did you mean s3://\? expected .* gs, .* s3, "):
        Storage("s3x://bucket").list()
