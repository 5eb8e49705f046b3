"""Bytes of objects, near or far: the one module that knows fsspec.

A :class:`Storage` is a URL and four settings, so it pickles as it is. What a process needs to reach a remote (a file
system with its connections) belongs to the process and is made at the first request; a forked child makes its own.

Three promises hold for every request to a remote: it ends within its deadline, it is repeated only where repeating may
help, and what it raises is one of the classes in :mod:`arrowstream.errors` and names the URL.
"""

import collections
import concurrent.futures
import contextlib
import difflib
import errno
import os
import random
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote, unquote

from arrowstream.errors import (
    MissingDependencyError,
    RemoteAccessError,
    RemoteNotFoundError,
    RemoteTimeoutError,
    StorageError,
    UnwritableError,
)

RANGE_BYTES = 8 << 20
RANGES_AT_ONCE = 4
BACK_OFF_S = 0.5
# A listing is as many requests as there are thousands of objects, and fsspec makes one call of them.
LISTING_DEADLINES = 10

T = TypeVar("T")
Cause = Literal["missing", "refused", "late", "throttled", "beyond", "passing", "lasting"]
MAY_PASS: tuple[Cause, ...] = ("late", "throttled", "passing")
S3_PROTOCOLS = ("s3", "s3a")
THROTTLED_CODES = ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests")
CREDENTIAL_ERRORS = {  # botocore, Google, Azure
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"),
    *("DefaultCredentialsError", "RefreshError", "ClientAuthenticationError"),
}
LASTING_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, NotImplementedError, ImportError),
    *(IsADirectoryError, NotADirectoryError, FileExistsError),
)
LASTING_NAMES = {"ParamValidationError"}  # botocore, on the name of a bucket


class Storage:
    """A directory of objects, near or far: everything under one URL.

    Keys are relative POSIX paths (``train/shard.00000.arrow``); a key that would leave the directory is refused with
    ValueError. All methods may be called from several threads, before and after a fork.

    Every method raises RemoteNotFoundError for what does not exist, RemoteAccessError for what may not be read,
    RemoteTimeoutError where no answer came in time, StorageError for any other failure, ValueError for a URL whose
    protocol nobody knows and MissingDependencyError where the protocol's package is not installed.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        options: Mapping[str, object] | None = None,
        attempts: int = 2,
        timeout_s: float = 60.0,
    ) -> None:
        """Remember where the objects are; nothing is contacted yet.

        Args:
            url: A path, a ``file://`` URL, or a URL of any protocol that fsspec knows.
            options: Handed to fsspec's file system as they are: credentials, endpoint, region.
            attempts: How often a request is made in all. Answers that ask for patience (429, ``SlowDown``) do not
                count until ``timeout_s`` has passed.
            timeout_s: Deadline of one request. A large object is many requests, one for each 8 MiB.

        Raises:
            ValueError: ``attempts`` or ``timeout_s`` is not positive.
        """
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}, expected at least 1")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is {timeout_s}, expected a number of seconds above 0")
        self.url = os.fspath(url)
        self.options = dict(options or {})
        self.attempts = attempts
        self.timeout_s = timeout_s
        self.local_path = _local_path(self.url)

    def __repr__(self) -> str:
        return f"Storage({self.url!r})"  # without the options, which hold secrets

    @property
    def _backend(self) -> "_Directory | _Remote":
        if self.local_path is not None:
            return _Directory(self.local_path)
        return _Remote(self.url, self.options, self.attempts, self.timeout_s)

    def url_of(self, key: str) -> str:
        """Name one object, percent-encoded where the protocol wants it (``file``, ``http``, ``https``)."""
        _check_key(key)
        return _join(self.url, key)

    def read(self, key: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Read an object, or its bytes from ``start`` up to and without ``stop``.

        Raises:
            StorageError: The object ends before ``stop``.
            ValueError: The range is negative.
        """
        _check_key(key)
        if start is None and stop is None:
            return self._backend.read(key)
        start = start or 0
        if start < 0 or (stop is not None and stop < start):
            raise ValueError(f"{self.url_of(key)}: no range from {start} to {stop}, expected 0 <= start <= stop")
        if stop is None:
            stop = max(start, self._backend.size(key))
        return self._backend.read_range(key, start, stop) if start < stop else b""

    def download(self, key: str, path: Path, *, num_bytes: int | None = None) -> None:
        """Copy an object into a file, which is created or truncated and is incomplete until this returns.

        Args:
            key: The object.
            path: The file. To make it appear at once, give a temporary name and rename it.
            num_bytes: How long the object has to be; it saves a request to say so.

        Raises:
            StorageError: The object is not ``num_bytes`` long.
            UnwritableError: The file cannot be written; ``errno`` says why.
        """
        _check_key(key)
        self._backend.download(key, path, num_bytes)

    def upload(self, path: Path, key: str) -> None:
        """Store a file as an object, which appears complete or not at all.

        Raises:
            UnwritableError: The storage is local and does not take it.
        """
        _check_key(key)
        self._backend.upload(path, key)

    def write(self, key: str, data: bytes) -> None:
        """Store a small object, which appears complete or not at all.

        Raises:
            UnwritableError: The storage is local and does not take it.
        """
        _check_key(key)
        self._backend.write(key, data)

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object; a directory is none."""
        _check_key(key)
        try:
            self._backend.size(key)
        except RemoteNotFoundError:
            return False
        return True

    def list(self) -> list[str]:
        """Find the keys of all objects below, sorted; none where the directory does not exist.

        Unfinished files of a local ``write`` or ``upload`` (``.*.tmp``) are no objects.
        """
        return sorted(self._backend.keys())

    def delete(self, key: str) -> None:
        """Delete an object; one that is gone already is as good."""
        _check_key(key)
        with contextlib.suppress(RemoteNotFoundError):
            self._backend.delete(key)


@dataclass(frozen=True, slots=True)
class _Directory:
    """Objects are the files below a local directory."""

    root: Path

    def size(self, key: str) -> int:
        path = self.root / key
        with _reading(path):
            if path.is_dir():
                raise RemoteNotFoundError(f"{path}: is a directory, expected a file")
            return path.stat().st_size

    def read(self, key: str) -> bytes:
        with _reading(self.root / key):
            return (self.root / key).read_bytes()

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        path = self.root / key
        with _reading(path), path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        if len(data) != stop - start:
            raise _wrong_length(str(path), self.size(key), f"at least {stop}")
        return data

    def download(self, key: str, path: Path, num_bytes: int | None) -> None:
        source = self.root / key
        size = self.size(key)
        if num_bytes is not None and size != num_bytes:
            raise _wrong_length(str(source), size, str(num_bytes))
        with _reading(source):
            _must_be_readable(source)  # from here on, what fails is the other side
        with _writing(path):
            shutil.copyfile(source, path)

    def upload(self, path: Path, key: str) -> None:
        _must_be_readable(path)
        with self._new_file(key) as unfinished:
            shutil.copyfile(path, unfinished)

    def write(self, key: str, data: bytes) -> None:
        with self._new_file(key) as unfinished:
            unfinished.write_bytes(data)

    @contextlib.contextmanager
    def _new_file(self, key: str) -> Iterator[Path]:
        """Give a temporary name beside the final one; it gets the final one if the block succeeds."""
        path = self.root / key
        unfinished = path.with_name(f".{secrets.token_hex(8)}.tmp")
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield unfinished
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)

    def keys(self) -> Iterator[str]:
        def fail(error: OSError) -> None:
            # What is no directory (any more) holds no objects; one that we may not read may hold some.
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise error

        with _reading(self.root):
            for folder, _, names in os.walk(self.root, onerror=fail):
                for name in names:
                    if not (name.startswith(".") and name.endswith(".tmp")):
                        yield (Path(folder) / name).relative_to(self.root).as_posix()

    def delete(self, key: str) -> None:
        path = self.root / key
        try:
            path.unlink()
        except FileNotFoundError as error:
            raise RemoteNotFoundError(f"{path}: does not exist") from error
        except OSError as error:
            raise _unwritable(path, error) from error


@dataclass(frozen=True, slots=True)
class _Remote:
    """Objects are what fsspec finds under a URL."""

    url: str
    options: Mapping[str, object]
    attempts: int
    timeout_s: float

    def size(self, key: str) -> int:
        info = self._request("look up", key, "info", self._path(key))
        if info.get("type") == "directory":
            raise RemoteNotFoundError(f"{_join(self.url, key)}: is a directory, expected an object")
        # Some HTTP servers tell no length before they send.
        return int(info["size"]) if info.get("size") is not None else len(self.read(key))

    def read(self, key: str) -> bytes:
        return bytes(self._request("read", key, "cat_file", self._path(key)))

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        data = self._get(key, start, stop)
        if len(data) > stop - start:
            data = data[start:stop]
        if len(data) != stop - start:
            raise _wrong_length(_join(self.url, key), self.size(key), f"at least {stop}")
        return data

    def download(self, key: str, path: Path, num_bytes: int | None) -> None:
        size = self.size(key) if num_bytes is None else num_bytes
        with _writing(path), path.open("wb", buffering=0) as file:
            # No store answers a range of an empty object.
            whole = self._get_all(key, size, file.fileno()) if size else self.read(key)
            if whole is not None:
                if len(whole) != size:
                    raise _wrong_length(_join(self.url, key), len(whole), str(size))
                _write_at(file.fileno(), whole, 0)

    def _get_all(self, key: str, size: int, file: int) -> bytes | None:
        """Write an object into a file, range by range, a few at a time.

        Returns:
            Nothing; or the whole object, if the server sent that in place of a range.
        """
        starts = collections.deque(range(0, size, RANGE_BYTES))
        enough = threading.Event()

        def work() -> bytes | None:
            while not enough.is_set():
                try:
                    start = starts.popleft()
                except IndexError:
                    return None
                stop = min(start + RANGE_BYTES, size)
                # The last range asks for one byte too many: an object that has it is longer than expected.
                asked = stop + (stop == size)
                data = self._get(key, start, asked)
                if len(data) > asked - start:
                    enough.set()
                    return data
                if len(data) != stop - start:
                    raise _wrong_length(_join(self.url, key), self.size(key), str(size))
                _write_at(file, data, start)
            return None

        workers = [_in_thread(work) for _ in range(min(RANGES_AT_ONCE, len(starts)))]
        try:
            concurrent.futures.wait(workers, return_when=concurrent.futures.FIRST_EXCEPTION)
        finally:
            # None may write on once the file is closed, for its number is soon that of another file.
            enough.set()
            concurrent.futures.wait(workers)
        return next((whole for whole in [worker.result() for worker in workers] if whole is not None), None)

    def _get(self, key: str, start: int, stop: int) -> bytes:
        """Ask for a range; the answer is shorter at the object's end, and the whole object from some servers."""
        try:
            return bytes(self._request("read", key, "cat_file", self._path(key), start=start, end=stop))
        except StorageError as error:
            if error.__cause__ is not None and _why(error.__cause__) == "beyond":
                return b""
            raise

    def upload(self, path: Path, key: str) -> None:
        _must_be_readable(path)
        # One call whatever the size, so the deadline grows with it.
        deadlines = max(1, -(-path.stat().st_size // RANGE_BYTES))
        self._request("upload", key, "put_file", str(path), self._path(key), deadlines=deadlines)

    def write(self, key: str, data: bytes) -> None:
        self._request("write", key, "pipe_file", self._path(key), data)

    def keys(self) -> Iterator[str]:
        root = self._path("").rstrip("/")
        try:
            names = self._request("list", "", "find", root, deadlines=LISTING_DEADLINES)
            if not names:
                # Where fsspec walks directories, it takes one that it failed to list for an empty one.
                self._request("list", "", "info", root)
        except RemoteNotFoundError as error:
            if _store_code(error) == "NoSuchBucket":
                raise
            return
        for name in names:
            # The root itself and names that end with a slash stand for directories in some stores.
            if name.startswith(root + "/") and not name.endswith("/"):
                key = name.removeprefix(root + "/")
                yield unquote(key) if _is_encoded(self.url) else key

    def delete(self, key: str) -> None:
        self._request("delete", key, "rm_file", self._path(key))

    def _path(self, key: str) -> str:
        """Name an object as fsspec's methods want it."""
        root = str(_file_system_class(self.url)._strip_protocol(self.url)).rstrip("/")
        return f"{root}/{quote(key) if _is_encoded(self.url) else key}"

    def _request(self, verb: str, key: str, method: str, *args: object, deadlines: int = 1, **kwargs: object) -> Any:
        """Call a method of the file system until it succeeds, fails for good, or ``attempts`` are used up.

        Args:
            verb: What is being done, for the error's text.
            key: The object, for the error's text; "" for the directory.
            method: The method's name.
            args: Its arguments.
            deadlines: How many times ``timeout_s`` it may take.
            kwargs: Its keyword arguments.
        """
        begin = time.monotonic()
        attempt = counted = 0
        while True:
            attempt += 1
            try:
                files = _file_system(self.url, self.options, self.timeout_s)
                return _call(files, method, args, kwargs, self.timeout_s * deadlines)
            except Exception as error:
                cause = _why(error)
                elapsed_s = time.monotonic() - begin
                counted += cause != "throttled" or elapsed_s >= self.timeout_s
                if counted >= self.attempts or cause not in MAY_PASS:
                    where = _join(self.url, key) if key else self.url
                    where += _endpoint(self.url, self.options)
                    tried = f"{attempt} attempt{'s' if attempt > 1 else ''} in {elapsed_s:.1f} s"
                    raise _translated(error, cause, f"{where}: cannot {verb}, {tried}") from error
            time.sleep(BACK_OFF_S * (2 ** min(attempt - 1, 5) + random.random()))  # noqa: S311


# --- fsspec ---

# Of this process and of its ancestors, and never dropped: a child that let go of its parent's file systems would have
# fsspec wait for threads that no fork copies. Equal options share one, however many streams there are.
_file_systems: dict[tuple[object, ...], Any] = {}
_inherited: list[object] = []


def _leave_to_parent() -> None:
    """Run in a forked child, whose parent's connections and threads are not its own."""
    _inherited.append(_file_systems.copy())
    _file_systems.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def _file_system(url: str, options: Mapping[str, object], timeout_s: float) -> Any:
    """Get this process's file system for a URL, making it if need be."""
    kind = _file_system_class(url)
    settings = {**kind._get_kwargs_from_urls(url), **options}
    if _protocol(url) in S3_PROTOCOLS:
        settings = _s3_settings(settings, timeout_s)
    name = (kind, repr(sorted(settings.items())))
    if name not in _file_systems:
        made = _in_thread(lambda: kind(skip_instance_cache=True, **settings)).result(timeout_s)
        if _protocol(url) in S3_PROTOCOLS:
            made.retries = 1  # else each of our attempts is five of s3fs's, each of which was five of botocore's
        # Two threads may have made one each; both take the first, and the other has no connection yet.
        return _file_systems.setdefault(name, made)
    return _file_systems[name]


def _file_system_class(url: str) -> Any:
    """Find fsspec's class for a URL.

    Raises:
        MissingDependencyError: Its package is not installed.
        ValueError: There is none.
    """
    import fsspec
    from fsspec.registry import known_implementations

    protocol = _protocol(url)
    try:
        return fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package = str(known_implementations[protocol]["class"]).split(".")[0]
        if package == "fsspec":  # its own module, which needs a package of another name
            package = getattr(error.__cause__, "name", None) or f"fsspec[{protocol}]"
        wanted = "'arrowstream[s3]'" if package == "s3fs" else package
        raise MissingDependencyError(f"{url}: {protocol}:// needs a package, run: pip install {wanted}") from error
    except ValueError as error:
        known = fsspec.available_protocols()
        near = difflib.get_close_matches(protocol, known, n=1)
        meant = f"did you mean {near[0]}://? " if near else ""
        raise ValueError(
            f"{url}: no file system is known for {protocol}://; {meant}expected a path or one of "
            f"{', '.join(sorted(known))} (fsspec.register_implementation adds one)"
        ) from error


def _s3_settings(options: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """Add what makes S3's client keep our promises, where the user's options do not say otherwise."""
    config = {
        "connect_timeout": min(timeout_s, 10.0),
        "read_timeout": timeout_s,
        "retries": {"max_attempts": 0},  # we count the attempts
        "max_pool_connections": 64,  # ranges of several objects at once; 10 by default
        **(options.get("config_kwargs") or {}),
    }
    endpoint = _endpoint_url(options)
    return {**options, "config_kwargs": config, **({"endpoint_url": endpoint} if endpoint else {})}


def _call(files: Any, method: str, args: tuple[object, ...], kwargs: Mapping[str, object], timeout_s: float) -> Any:
    """Call a method of a file system and wait for it no longer than this.

    Raises:
        TimeoutError: It took longer. Of an asynchronous file system the request is cancelled, of another it is left to
            itself.
    """
    import fsspec.asyn

    if method in ("info", "find"):
        files.invalidate_cache()  # others write, too
    if files.async_impl:
        return fsspec.asyn.sync(files.loop, getattr(files, f"_{method}"), *args, timeout=timeout_s, **kwargs)
    return _in_thread(lambda: getattr(files, method)(*args, **kwargs)).result(timeout_s)


def _in_thread(call: Callable[[], T]) -> "concurrent.futures.Future[T]":
    """Call in a thread of its own; unlike an executor's, one that hangs does not hold up the interpreter's exit."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 (handed to who waits)
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="arrowstream-storage", daemon=True).start()
    return future


# --- URLs ---


def _protocol(url: str) -> str:
    return url.partition("://")[0]


def _is_encoded(url: str) -> bool:
    return _protocol(url) in ("file", "http", "https")


def _join(url: str, key: str) -> str:
    return f"{url.rstrip('/')}/{quote(key) if _is_encoded(url) else key}"


def _local_path(url: str) -> Path | None:
    if "://" not in url:
        return Path(url)
    if _protocol(url) != "file":
        return None
    host, _, path = url.removeprefix("file://").partition("/")
    if host not in ("", "localhost"):
        raise ValueError(f"{url}: names the host {host!r}, expected a file of this one: file:///path")
    return Path(unquote(f"/{path}"))


def _check_key(key: str) -> None:
    if not key or "\0" in key or key.startswith("/") or key.endswith("/") or not {".", ".."}.isdisjoint(key.split("/")):
        raise ValueError(f"{key!r} is no key: expected a relative path below the storage's URL, without '.' and '..'")


def _endpoint_url(options: Mapping[str, Any]) -> str | None:
    """Find the address of an S3 server: the options', else that of the variable that mosaicml-streaming reads."""
    named = options.get("endpoint_url") or (options.get("client_kwargs") or {}).get("endpoint_url")
    return named or os.environ.get("S3_ENDPOINT_URL") or None


def _endpoint(url: str, options: Mapping[str, Any]) -> str:
    """Say where an S3 URL leads, for it does not say so itself."""
    endpoint = _endpoint_url(options) if _protocol(url) in S3_PROTOCOLS else None
    return f" (at {endpoint})" if endpoint else ""


# --- errors ---


def _why(error: BaseException) -> Cause:
    """Find out why a request failed, from the error and what caused it; clients hide one behind the other."""
    chain = list(_chain(error))
    status = next((status for status in map(_http_status, chain) if status is not None), None)
    names = {type(each).__name__ for each in chain}
    if "ClientPayloadError" in names:  # aiohttp's, of an answer cut short; it counts as status 400 there
        return "passing"
    if status == 429 or _store_code(error) in THROTTLED_CODES:
        return "throttled"
    if status in (408, 504) or any(
        isinstance(each, TimeoutError) or type(each).__name__.endswith(("TimeoutError", "Timeout")) for each in chain
    ):
        return "late"
    if (
        status in (401, 403, 407)
        or names & CREDENTIAL_ERRORS
        or any(isinstance(each, PermissionError) for each in chain)
    ):
        return "refused"
    if status is not None:
        known: dict[int, Cause] = {404: "missing", 410: "missing", 416: "beyond", 501: "lasting"}
        return known.get(status, "passing" if status >= 500 else "lasting")
    root = chain[-1]
    is_network = type(root).__module__.startswith("aiohttp") or (
        isinstance(root, OSError) and not isinstance(root, FileNotFoundError)
    )
    # fsspec says "not found" over HTTP also where it did not get as far as asking.
    if not is_network and any(isinstance(each, FileNotFoundError) for each in chain):
        return "missing"
    return "lasting" if isinstance(root, LASTING_ERRORS) or names & LASTING_NAMES else "passing"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _http_status(error: BaseException) -> int | None:
    """Read the status of the answer that an error stands for, whichever client raised it."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:  # aiohttp, Google, Azure, then what wraps a response
        names = ("status", "code", "status_code")
        found = next(
            (v for each in (error, response) for n in names if isinstance(v := getattr(each, n, None), int)), None
        )
    return found if isinstance(found, int) and 300 <= found < 600 else None


def _store_code(error: BaseException | None) -> str | None:
    """Read S3's own word for what is wrong."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, Mapping):
            return str(response.get("Error", {}).get("Code", ""))
    return None


def _translated(error: Exception, cause: Cause, what: str) -> Exception:
    """Say it in our words: one class a cause, with the way out."""
    if isinstance(error, StorageError):
        return error
    root = list(_chain(error))[-1]
    said = f"{type(root).__name__}: {' '.join(str(root).split())}".removesuffix(": ")
    if cause == "missing":
        missing = "bucket" if _store_code(error) == "NoSuchBucket" else "object"
        return RemoteNotFoundError(f"{what}: the {missing} does not exist; check the URL")
    if cause == "refused":
        return RemoteAccessError(
            f"{what}: access refused ({said}); give credentials in options= or in the environment, check that they "
            "allow this, and that the clock is right"
        )
    if cause == "late":
        return RemoteTimeoutError(
            f"{what}: no answer in time ({said}); check that the store is reachable, or raise timeout_s"
        )
    hints = {
        "throttled": "; the store asks for fewer requests, use fewer workers or fetch less ahead",
        "passing": "; check that the store is reachable, or raise attempts",
    }
    return StorageError(f"{what}: {said}{hints.get(cause, '')}")


def _wrong_length(url: str, size: int, expected: str) -> StorageError:
    return StorageError(
        f"{url}: holds {size} bytes, expected {expected}; it was replaced or not uploaded completely: upload it again"
    )


def _unwritable(path: Path, error: OSError) -> UnwritableError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    way_out = "free some space or choose another disk" if full else "choose a directory that may be written"
    return UnwritableError(error.errno, f"{path}: cannot be written ({error.strerror or error}); {way_out}")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Translate what goes wrong when a file is read."""
    try:
        yield
    except StorageError:
        raise  # an OSError too, and says it already
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RemoteNotFoundError(f"{path}: does not exist; check the path") from error
    except PermissionError as error:
        raise RemoteAccessError(f"{path}: may not be read ({error.strerror}); change its permissions") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Translate what goes wrong when a file is written."""
    try:
        yield
    except (StorageError, UnwritableError):
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


def _must_be_readable(path: Path) -> None:
    """Raise the builtin error for a source that cannot be read, before a target is touched or blamed."""
    with path.open("rb"):
        pass


def _write_at(file: int, data: bytes, start: int) -> None:
    rest = memoryview(data)
    while rest:  # a write may be cut short, by a disk that is almost full or a signal
        written = os.pwrite(file, rest, start)
        rest, start = rest[written:], start + written
