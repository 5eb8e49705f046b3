"""A real HTTP server for a directory, that tells what it was asked for and can stop in the middle of an answer."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path


class Server:
    """Serves the files of a directory, ranges included.

    Attributes:
        url: Where it listens.
        asked: Names of the files that were asked for, in the order of the requests.
        ranges: The names, and what was asked for of each: "" for all of it.
        gate: Closed (cleared), it holds every answer that has sent the first half of a shard.
        stuck: Set once an answer waits at the gate.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[str] = []
        self.ranges: list[tuple[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.stuck = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *parts: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.lstrip("/")
        self.asked.append(name)
        self.ranges.append((name, request.headers.get("Range") or ""))
        path = self.directory / name
        if not path.is_file():
            request.send_error(404)
            return
        contents = path.read_bytes()
        asked = request.headers.get("Range")
        first, last = 0, len(contents) - 1
        if asked:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        part = contents[first : last + 1]
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(len(part)))
        if asked:
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(contents)}")
        request.end_headers()
        with contextlib.suppress(ConnectionError):
            request.wfile.write(part[: len(part) // 2])
            request.wfile.flush()
            if name.startswith("shard.") and not self.gate.is_set():
                self.stuck.set()
                self.gate.wait(60)
            request.wfile.write(part[len(part) // 2 :])


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[Server]:
    server = Server(directory)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()
