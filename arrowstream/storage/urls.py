"""URLs and the keys below them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

S3_PROTOCOLS = ("s3", "s3a")


def protocol_of(url: str) -> str:
    """Give what stands before ``://``."""
    return url.partition("://")[0]


def is_encoded(url: str) -> bool:
    """Tell whether URLs of this kind are percent-encoded."""
    return protocol_of(url) in ("file", "http", "https")


def join_url(url: str, key: str) -> str:
    """Give the URL of an object."""
    return f"{url.rstrip('/')}/{quote(key) if is_encoded(url) else key}"


def local_path_of(url: str) -> Path | None:
    """Give the path that a path or a ``file://`` URL names; None for a remote."""
    if mounted := databricks_path_of(url):
        return Path(mounted)
    if "://" not in url and not url.startswith("dbfs:/"):
        return Path(url)
    if protocol_of(url) != "file":
        return None
    host, _, path = url.removeprefix("file://").partition("/")
    if host not in ("", "localhost"):
        raise ValueError(f"{url}: names the host {host!r}, expected a file of this one: file:///path")
    return Path(unquote(f"/{path}"))


def databricks_path_of(url: str) -> str | None:
    """Give the path at which Databricks mounts what a URL names; None for other URLs.

    ``dbfs:/Volumes/…`` is mounted at ``/Volumes/…``.

    Raises:
        ValueError: It is a volume, and this machine has none mounted: fsspec does not reach volumes.
    """
    path = "/" + url.removeprefix("dbfs:").lstrip("/")
    if not url.startswith("dbfs:") or not path.startswith("/Volumes/"):
        return None
    if not Path("/Volumes").is_dir():
        raise ValueError(f"{url}: /Volumes is not mounted here; run on Databricks, or use the bucket below the volume")
    return path


def check_key(key: str) -> None:
    """Refuse a key that would leave the directory."""
    if not key or "\0" in key or key.startswith("/") or key.endswith("/") or not {".", ".."}.isdisjoint(key.split("/")):
        raise ValueError(f"{key!r} is no key: expected a relative path below the storage's URL, without '.' and '..'")


def endpoint_url_of(options: Mapping[str, Any]) -> str | None:
    """Find the address of an S3 server: the options', else that of the variable that mosaicml-streaming reads."""
    named = options.get("endpoint_url") or (options.get("client_kwargs") or {}).get("endpoint_url")
    return named or os.environ.get("S3_ENDPOINT_URL") or None


def endpoint_note(url: str, options: Mapping[str, Any]) -> str:
    """Say where an S3 URL leads, for it does not say so itself."""
    endpoint = endpoint_url_of(options) if protocol_of(url) in S3_PROTOCOLS else None
    return f" (at {endpoint})" if endpoint else ""
