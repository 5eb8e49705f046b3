"""fsspec's clients: one a process and settings, made when first needed, called with a deadline."""

import concurrent.futures
import difflib
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from arrowstream.errors import MissingDependencyError
from arrowstream.storage.urls import S3_PROTOCOLS, endpoint_url_of, protocol_of

T = TypeVar("T")

# Of this process and of its ancestors, and never dropped: a child that let go of its parent's file systems would have
# fsspec wait for threads that no fork copies. Equal options share one, however many streams there are.
_file_systems: dict[tuple[object, ...], Any] = {}
_inherited: list[object] = []


def _leave_to_parent() -> None:
    """Run in a forked child, whose parent's connections and threads are not its own."""
    _inherited.append(_file_systems.copy())
    _file_systems.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def file_system(url: str, options: Mapping[str, object], timeout_s: float) -> Any:
    """Get this process's file system for a URL, making it if need be."""
    kind = file_system_class(url)
    settings = {**kind._get_kwargs_from_urls(url), **options}
    if protocol_of(url) in S3_PROTOCOLS:
        settings = _s3_settings(settings, timeout_s)
    name = (kind, repr(sorted(settings.items())))
    if name not in _file_systems:
        made = in_thread(lambda: kind(skip_instance_cache=True, **settings)).result(timeout_s)
        if protocol_of(url) in S3_PROTOCOLS:
            made.retries = 1  # else each of our attempts is five of s3fs's, each of which was five of botocore's
        # Two threads may have made one each; both take the first, and the other has no connection yet.
        return _file_systems.setdefault(name, made)
    return _file_systems[name]


def file_system_class(url: str) -> Any:
    """Find fsspec's class for a URL.

    Raises:
        MissingDependencyError: Its package is not installed.
        ValueError: There is none.
    """
    import fsspec
    from fsspec.registry import known_implementations

    protocol = protocol_of(url)
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
    endpoint = endpoint_url_of(options)
    return {**options, "config_kwargs": config, **({"endpoint_url": endpoint} if endpoint else {})}


def call_method(
    files: Any, method: str, args: tuple[object, ...], kwargs: Mapping[str, object], timeout_s: float
) -> Any:
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
    return in_thread(lambda: getattr(files, method)(*args, **kwargs)).result(timeout_s)


def in_thread(call: Callable[[], T]) -> "concurrent.futures.Future[T]":
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
