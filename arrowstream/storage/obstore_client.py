"""obstore's stores: one a process and container, called with a deadline."""

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from arrowstream.errors import UnwritableError
from arrowstream.storage import obstore_library
from arrowstream.storage.entry import Entry
from arrowstream.storage.failures import AnswerError
from arrowstream.storage.obstore_options import Settings, botocore_credentials
from arrowstream.storage.places import Place
from arrowstream.storage.threads import in_thread

T = TypeVar("T")

LISTED_AT_ONCE = 1000
PART_BYTES = 8 << 20
PARTS_AT_ONCE = 4
# Small enough to be hashed and written while it is still near the processor. Hashed and written in pieces of 1 or
# 2 MiB, or as one of 8 MiB, it took 7 to 13 % longer; large ones cost up to five times the page faults besides.
PIECE_BYTES = 256 << 10
GRACE_S = 2.0  # obstore keeps the deadline itself, and closes what it opened; ours is for what it does not count
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")

_stores: dict[str, Any] = {}
_inherited: list[object] = []
_making = [threading.Lock()]


def _leave_to_parent() -> None:
    """Run in a forked child. Kept, for to drop a store is to ask a runtime that is gone."""
    _inherited.append(_stores.copy())
    _stores.clear()
    _making[0] = threading.Lock()


os.register_at_fork(after_in_child=_leave_to_parent)


@dataclass(frozen=True, slots=True)
class ObstoreClient:
    """Objects are what obstore finds in a container."""

    place: Place
    settings: Settings
    timeout_s: float

    @property
    def name(self) -> str:
        """What carries the bytes."""
        return "obstore"

    def size(self, key: str) -> int:
        """Tell how many bytes an object has."""
        return int(self._call(lambda library, store: library.head(store, self._path(key)))["size"])

    def read(self, key: str) -> memoryview:
        """Read an object as a whole."""
        return memoryview(self._call(lambda library, store: library.get(store, self._path(key)).bytes()))

    def read_range(self, key: str, start: int, stop: int) -> memoryview | bytes:
        """Ask for a range; the answer is shorter at the object's end, and the whole object from some servers."""
        path = self._path(key)
        try:
            return memoryview(self._call(lambda library, store: library.get_range(store, path, start=start, end=stop)))
        except AnswerError as error:
            whole = self._instead_of_range(key, error)
            return whole if whole is not None else b""

    def send_range(self, key: str, start: int, stop: int, take: Callable[[memoryview], None]) -> memoryview | None:
        """Hand a range to somebody as it arrives; or give the whole object, where the server sent that."""

        def send(library: Any, store: Any) -> None:
            answer = library.get(store, self._path(key), options={"range": (start, stop)})
            for piece in answer.stream(min_chunk_size=PIECE_BYTES):
                take(memoryview(piece))

        try:
            self._call(send)
        except AnswerError as error:
            return self._instead_of_range(key, error)
        return None

    def _instead_of_range(self, key: str, error: AnswerError) -> memoryview | None:
        """Give the whole object where a server knows no ranges; nothing where the range begins behind its end."""
        if error.status == 416:
            return None
        if "non-partial response" in str(error):
            return self.read(key)
        raise error

    def upload(self, path: Path, key: str) -> None:
        """Store a file as an object, in several parts where it is large."""
        # One call whatever the size, so the deadline grows with it.
        parts = max(1, -(-path.stat().st_size // PART_BYTES))
        self._call(
            lambda library, store: library.put(
                store, self._path(key), path, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            ),
            self.timeout_s * parts,
        )

    def write(self, key: str, data: bytes) -> None:
        """Store bytes as an object."""
        self._call(lambda library, store: library.put(store, self._path(key), data, use_multipart=False))

    def entries(self) -> list[Entry]:
        """Find all objects, in any order."""
        above = f"{self.place.prefix}/" if self.place.prefix else ""
        pages = self._call(
            lambda library, store: iter(library.list(store, self.place.prefix or None, chunk_size=LISTED_AT_ONCE))
        )
        entries: list[Entry] = []
        while page := self._call(lambda *_: next(pages, None)):
            entries.extend(
                Entry(
                    key=str(found["path"]).removeprefix(above),
                    num_bytes=int(found["size"]),
                    version=str(found["e_tag"] or found["last_modified"]).strip('"'),
                )
                for found in page
            )
        return entries

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._call(lambda library, store: library.delete(store, self._path(key)))

    def _path(self, key: str) -> str:
        return f"{self.place.prefix}/{key}" if self.place.prefix else key

    def _call(self, act: Callable[[Any, Any], T], timeout_s: float | None = None) -> T:
        """Call obstore and wait for it no longer than a deadline.

        Raises:
            AnswerError: Whatever obstore says.
            TimeoutError: It says nothing in time.
            UnwritableError: What came cannot be written.
        """

        def call() -> T:
            return act(obstore_library.load(), self._store())

        try:
            return in_thread(call).result((timeout_s or self.timeout_s) + GRACE_S)
        except (TimeoutError, UnwritableError):
            raise
        except Exception as error:
            raise _answer(error) from error

    def _store(self) -> Any:
        """Get this process's store, making it if need be."""
        name = repr((self.place.container, self.settings, self.timeout_s))
        with _making[0]:
            if name not in _stores:
                _stores[name] = self._make_store()
        return _stores[name]

    def _make_store(self) -> Any:
        keywords = dict(self.settings.keywords)
        if self.settings.asks_botocore:
            keywords["credential_provider"] = botocore_credentials(self.settings.profile)
        limit = timedelta(seconds=self.timeout_s)
        return getattr(obstore_library.load()._store, self.settings.kind)(
            self.place.container,
            client_options={
                "allow_http": True,
                "timeout": limit,
                "connect_timeout": min(limit, timedelta(seconds=10)),
            },
            retry_config={"max_retries": 0, "retry_timeout": limit},  # we count the attempts
            **keywords,
        )


def _answer(error: Exception) -> Exception:
    """Read what an error of obstore says; its type says little, its text ends with a dump of Rust's values."""
    text, _, dump = str(error).partition("\n\nDebug source")
    kind = type(error).__name__
    status = _STATUS.search(text)
    code = _CODE.search(text)
    known = {"FileNotFoundError": 404, "PermissionDeniedError": 403, "UnauthenticatedError": 401}
    if "but object was only" in text:  # the range begins behind the end, and the server sent the whole object
        return AnswerError(text, status=416, code="")
    if status or kind in known:
        found = int(status[1]) if status else known[kind]
        return AnswerError(" ".join(text.split()), status=found, code=code[1] if code else "")
    if "kind: Timeout" in dump or "TimedOut" in dump or "timed out" in text:
        return TimeoutError(text)
    if "NoCredentialsError" in text or "Invalid Access Key" in text:
        return PermissionError(" ".join(text.split()))
    if kind in ("InvalidPathError", "NotSupportedError", "UnknownConfigurationKeyError"):
        return AnswerError(text, status=501 if kind != "NotSupportedError" else 400, code="")
    return ConnectionError(f"{kind}: {' '.join(text.split())}")
