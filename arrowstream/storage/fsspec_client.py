"""fsspec's file systems: one a process and settings, made when first needed, called with a deadline."""

import contextlib
import difflib
import importlib
import os
import secrets
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from arrowstream.errors import MissingDependencyError, RemoteNotFoundError
from arrowstream.storage.entry import Entry
from arrowstream.storage.failures import store_code, why
from arrowstream.storage.places import SFTP_PROTOCOLS, Place
from arrowstream.storage.threads import in_thread
from arrowstream.storage.urls import is_encoded

# A listing is as many requests as there are thousands of objects, and fsspec makes one call of them.
LISTING_DEADLINES = 10
# Where fsspec's file systems say when an object was written, the surest first.
VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime", "created")
BYTES_A_DEADLINE = 8 << 20
EXTRAS = {
    "s3fs": "s3",
    "gcsfs": "gcs",
    "adlfs": "azure",
    "ocifs": "oci",
    "huggingface_hub": "hf",
    "paramiko": "sftp",
    "sshfs": "sftp",
}

# Of this process and of its ancestors, and never dropped: a child that let go of its parent's file systems would have
# fsspec wait for threads that no fork copies. Equal options share one, however many streams there are.
_file_systems: dict[tuple[object, ...], Any] = {}
_inherited: list[object] = []


def _leave_to_parent() -> None:
    """Run in a forked child, whose parent's connections and threads are not its own."""
    _inherited.append(_file_systems.copy())
    _file_systems.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


@dataclass(frozen=True, slots=True)
class FsspecClient:
    """Objects are what fsspec finds under a URL."""

    place: Place
    timeout_s: float
    chosen_because: str

    @property
    def name(self) -> str:
        """What carries the bytes, and why it is not obstore."""
        package = file_system_class(self.place).__module__.partition(".")[0]
        return f"fsspec ({package}): {self.chosen_because}"

    def size(self, key: str) -> int | None:
        """Tell how many bytes an object has; None where the server does not say before it sends."""
        found = self._call("info", self._path(key))
        if found.get("type") == "directory":
            raise RemoteNotFoundError(f"{self.place.url}/{key}: is a directory, expected an object")
        return int(found["size"]) if found.get("size") is not None else None

    def read(self, key: str) -> bytes:
        """Read an object as a whole."""
        return bytes(self._call("cat_file", self._path(key)))

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Ask for a range; the answer is shorter at the object's end, and the whole object from some servers."""
        if self.place.protocol in SFTP_PROTOCOLS:  # sshfs would send the whole object, however long
            return self._seek_and_read(key, start, stop)
        try:
            return bytes(self._call("cat_file", self._path(key), start=start, end=stop))
        except Exception as error:
            if why(error) == "beyond":
                return b""
            raise

    def send_range(self, key: str, start: int, stop: int, take: Callable[[bytes], None]) -> bytes | None:
        """Hand a range to somebody, in one piece; or give the whole object, where the server sent that."""
        found = self.read_range(key, start, stop)
        if len(found) > stop - start:
            return found
        take(found)
        return None

    def _seek_and_read(self, key: str, start: int, stop: int) -> bytes:
        def read() -> bytes:
            with self._files().open(self._path(key), "rb") as file:
                file.seek(start)
                return bytes(file.read(stop - start))

        return in_thread(read).result(self.timeout_s)

    def upload(self, path: Path, key: str) -> None:
        """Store a file as an object, in several parts where it is large and the store has that."""
        # One call whatever the size, so the deadline grows with it.
        deadlines = max(1, -(-path.stat().st_size // BYTES_A_DEADLINE))
        with self._new_object(key) as name:
            self._call("put_file", str(path), name, deadlines=deadlines)

    def write(self, key: str, data: bytes) -> None:
        """Store bytes as an object."""
        with self._new_object(key) as name:
            self._call("pipe_file", name, data)

    @contextlib.contextmanager
    def _new_object(self, key: str) -> Iterator[str]:
        """Give the name to write to; over SFTP another one first, for there a half-written file can be seen."""
        path = self._path(key)
        if self.place.protocol not in SFTP_PROTOCOLS:
            yield path
            return
        directory = path.rpartition("/")[0]
        unfinished = f"{directory}/.{secrets.token_hex(8)}.tmp"
        self._call("makedirs", directory, exist_ok=True)
        yield unfinished
        self._call("mv", unfinished, path)

    def entries(self) -> list[Entry]:
        """Find all objects, in any order."""
        root = self._path("").rstrip("/")
        try:
            found = self._call("find", root, deadlines=LISTING_DEADLINES, detail=True)
            if not found:
                # Where fsspec walks directories, it takes one that it failed to list for an empty one.
                self._call("info", root)
        except Exception as error:
            if why(error) != "missing" or store_code(error) == "NoSuchBucket":
                raise
            return []
        # The root itself and names that end with a slash stand for directories in some stores.
        below = [name for name in found if name.startswith(root + "/") and name[-1] != "/"]
        if self.place.protocol in SFTP_PROTOCOLS:
            below = [name for name in below if not (name.rpartition("/")[2].startswith(".") and name.endswith(".tmp"))]
        return [self._entry(name.removeprefix(root + "/"), found[name]) for name in below]

    def _entry(self, key: str, said: Mapping[str, Any]) -> Entry:
        size = said.get("size")
        version = next((said[name] for name in VERSIONS if said.get(name)), "")
        return Entry(
            key=unquote(key) if is_encoded(self.place.url) else key,
            num_bytes=int(size) if size is not None else -1,
            version=str(version).strip('"'),
        )

    def delete(self, key: str) -> None:
        """Delete an object."""
        # ocifs has the one for trees alone.
        self._call("rm" if self.place.protocol == "oci" else "rm_file", self._path(key))

    def _path(self, key: str) -> str:
        """Name an object as fsspec's methods want it."""
        root = str(file_system_class(self.place)._strip_protocol(self.place.url)).rstrip("/")
        return f"{root}/{quote(key) if is_encoded(self.place.url) else key}"

    def _files(self) -> Any:
        return file_system(self.place, self.timeout_s)

    def _call(self, method: str, *args: object, deadlines: int = 1, **kwargs: object) -> Any:
        """Call a method of the file system and wait for it no longer than so many deadlines.

        Raises:
            TimeoutError: It took longer. Of an asynchronous file system the request is cancelled, of another it is left
                to itself.
        """
        import fsspec.asyn

        files, timeout_s = self._files(), self.timeout_s * deadlines
        if method in ("info", "find"):
            files.invalidate_cache()  # others write, too
        if files.async_impl:
            return fsspec.asyn.sync(files.loop, getattr(files, f"_{method}"), *args, timeout=timeout_s, **kwargs)
        return in_thread(lambda: getattr(files, method)(*args, **kwargs)).result(timeout_s)


def file_system(place: Place, timeout_s: float) -> Any:
    """Get this process's file system for a place, making it if need be."""
    kind = file_system_class(place)
    settings = {**kind._get_kwargs_from_urls(place.url), **place.options}
    name = (kind, repr(sorted(settings.items())), timeout_s)
    if place.protocol == "s3":
        settings = s3_settings(settings, timeout_s)
    if place.protocol == "oci":
        settings = _oci_settings(settings)
    if name not in _file_systems:
        made = in_thread(lambda: kind(skip_instance_cache=True, **settings)).result(timeout_s)
        _leave_retries_to_us(made, place.protocol)
        # Two threads may have made one each; both take the first, and the other has no connection yet.
        return _file_systems.setdefault(name, made)
    return _file_systems[name]


def file_system_class(place: Place) -> Any:
    """Find fsspec's class for a place.

    Raises:
        MissingDependencyError: Its package is not installed.
        ValueError: There is none.
    """
    import fsspec
    from fsspec.registry import known_implementations

    protocol = place.protocol
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package = str(known_implementations[protocol]["class"]).split(".")[0]
        if package == "fsspec":  # its own module, which needs a package of another name
            package = getattr(error.__cause__, "name", None) or f"fsspec[{protocol}]"
        wanted = f"'arrowstream[{EXTRAS[package]}]'" if package in EXTRAS else package
        raise MissingDependencyError(
            f"{place.url}: {protocol}:// needs a package, run: pip install {wanted}"
        ) from error
    except ValueError as error:
        known = fsspec.available_protocols()
        near = difflib.get_close_matches(protocol, known, n=1)
        meant = f"did you mean {near[0]}://? " if near else ""
        raise ValueError(
            f"{place.url}: no file system is known for {protocol}://; {meant}expected a path or one of "
            f"{', '.join(sorted(known))} (fsspec.register_implementation adds one)"
        ) from error
    if protocol == "gs" and "endpoint_url" in place.options:
        # The other class asks Google over gRPC what kind of bucket this is, for a minute where nobody answers.
        return importlib.import_module("gcsfs.core").GCSFileSystem
    return kind


def s3_settings(options: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """Add what makes S3's client keep our promises, where the user's options do not say otherwise."""
    config = {
        "connect_timeout": min(timeout_s, 10.0),
        "read_timeout": timeout_s,
        "retries": {"max_attempts": 0},  # we count the attempts
        "max_pool_connections": 64,  # ranges of several objects at once; 10 by default
        **(options.get("config_kwargs") or {}),
    }
    return {**options, "config_kwargs": config}


def _oci_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    from oci.retry import NoneRetryStrategy

    return {
        **options,
        "config_kwargs": {"retry_strategy": NoneRetryStrategy(), **(options.get("config_kwargs") or {})},
    }


def _leave_retries_to_us(files: Any, protocol: str) -> None:
    """Switch off a client's own attempts, else each of ours is several of theirs."""
    if protocol == "s3":
        files.retries = 1
    elif protocol == "gs":
        request = getattr(type(files)._request, "__wrapped__", None)  # below its decorator, which asks six times
        if request is not None:
            files._request = types.MethodType(request, files)
    elif protocol == "az":
        files.service_client._config.retry_policy.total_retries = 0
