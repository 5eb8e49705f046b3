"""A peer's process: it lives through all rounds of a run, and answers one request at a time."""

import contextlib
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from types import TracebackType

from benchmarks.peers import Peer
from benchmarks.request import Request

_ROOT = Path(__file__).parent.parent
#: Seconds that a process may take to end by itself.
_PATIENCE_S = 5.0


class PeerError(RuntimeError):
    """A peer failed, died, or passed its deadline."""


class PeerProcess:
    """Runs requests in the environment of a peer, in a process that starts with the first of them.

    Args:
        peer: Whose it is.
        python: The interpreter.
        timeout_s: Seconds that a request may take.
        log: File for what the process complains of.
    """

    def __init__(self, peer: Peer, python: Path, timeout_s: float, log: Path) -> None:
        self._peer = peer
        self._python = python
        self._timeout_s = timeout_s
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, request: Request) -> dict[str, object]:
        """Have one request carried out; the next one goes to a fresh process if this one fails.

        Raises:
            PeerError: It failed.
        """
        try:
            answer = self._ask(request)
        except BaseException:
            self._end()
            raise
        if "error" in answer:
            self._end()
            raise PeerError(str(answer["error"]))
        return answer

    def _ask(self, request: Request) -> dict[str, object]:
        process = self._process or self._start()
        if process.stdin is None:
            raise PeerError("the process takes no requests")
        try:
            process.stdin.write(request.to_json().encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._complaint()) from None
        text = b""
        while not text.endswith(b"\n"):
            if not select.select([self._answers], [], [], self._timeout_s)[0]:
                raise PeerError(f"no answer within {self._timeout_s:g} s (--timeout)")
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise PeerError(self._complaint())
            text += piece
        return json.loads(text)

    def _start(self) -> "subprocess.Popen[bytes]":
        keep = {name for name in os.environ if name != "PYTHONPATH" or not self._peer.own_environment}
        self._answers, answers = os.pipe()
        command = [str(self._python), "-m", "benchmarks.peers", self._peer.name, str(answers)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=_ROOT, env={name: os.environ[name] for name in keep}, start_new_session=True,
                pass_fds=[answers], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        os.close(answers)
        return self._process

    def _complaint(self) -> str:
        process = self._process
        status = process.wait(self._timeout_s) if process is not None else None
        said = self._log.read_text(errors="replace").strip().splitlines()
        return said[-1] if said else f"exit status {status}"

    def _end(self) -> None:
        """End the process and the workers that it started; it leads a process group of its own."""
        process, self._process = self._process, None
        if process is None:
            return
        os.close(self._answers)
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            process.communicate(timeout=_PATIENCE_S)  # its input ends: what it shares with others is then tidied up
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError), process:
            pass
