"""Several datasets become one: their indexes are put together, and no shard is touched."""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, overload

from arrowstream.errors import IndexFormatError, RemoteNotFoundError
from arrowstream.index import INDEX_NAME, PRIVATE_FOLDER, VERSION, Index, ShardGroup, parse_index
from arrowstream.progress import Progress
from arrowstream.storage import Storage

Place = str | os.PathLike[str]
#: Indexes that are read at a time: small objects, so what counts is the requests under way.
_AT_ONCE = 16


@overload
def merge_index(
    out: Place | tuple[Place, Place],
    /,
    *,
    keep_local: bool = ...,
    download_timeout: float = ...,
    progress_bar: bool = ...,
    storage_options: Mapping[str, Any] | None = ...,
) -> Index: ...
@overload
def merge_index(
    index_file_urls: Sequence[Place | tuple[Place, Place]],
    out: Place | tuple[Place, Place],
    /,
    *,
    keep_local: bool = ...,
    download_timeout: float = ...,
    progress_bar: bool = ...,
    storage_options: Mapping[str, Any] | None = ...,
) -> Index: ...
def merge_index(
    *places: Any,
    keep_local: bool = True,
    download_timeout: float = 60.0,
    progress_bar: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Index:
    """Make one dataset of many that lie below one directory: ``merge_index(out)`` or ``merge_index(indexes, out)``.

    Only indexes are read and one is written; running it again is harmless. Samples are counted in the order of the
    parts: as given, or sorted by their paths as text.

    Args:
        places: ``out`` alone: a directory or URL, or both as ``(local, remote)``; every ``index.json`` below it is a
            part, but those whose shards another part has already. Or first the parts: paths or URLs of their
            ``index.json`` files (or ``(local, remote)`` of one), which must lie below ``out``.
        keep_local: Whether the local directory gets the index too, when ``out`` is ``(local, remote)``.
        download_timeout: Seconds that a request may take.
        progress_bar: Whether to show how many parts have been read.
        storage_options: Passed to the storage's client as they are.

    Returns:
        The index that was written.

    Raises:
        RemoteNotFoundError: There are no parts, or one of them does not exist.
        IndexFormatError: A part is damaged, or two parts name the same shard.
        ValueError: A part lies elsewhere.
    """
    *parts, out = places if 1 <= len(places) <= 2 else _refuse(places)
    local, remote = out if isinstance(out, tuple) else (None, out)
    root = Storage(os.fspath(remote), options=storage_options, timeout_s=download_timeout)
    if parts:
        keys = [_key_below(root, local, part) for part in parts[0]]
    else:
        keys = [key for key in root.list() if _is_part(key)]
    if not keys:
        raise RemoteNotFoundError(f"{root.url}: no {INDEX_NAME} lies below it; write the parts first")
    with (
        Progress("merging", total=len(keys), unit="parts", shown=progress_bar) as progress,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="arrowstream-merge") as pool,
    ):
        indexes = []
        for key, index in zip(keys, pool.map(lambda key: _read(root, key), keys), strict=True):
            progress.advance(1)
            indexes.append((key, index))
    merged = merged_index(indexes if parts else _outermost(indexes))
    # What mosaicml-streaming wrote, it can still read afterwards.
    versions = {index.version for _, index in indexes}
    text = merged.to_json(versions.pop() if len(versions) == 1 else VERSION)
    parse_index(text, root.url_of(INDEX_NAME))  # two parts may claim one shard
    root.write(INDEX_NAME, text)
    if local is not None and keep_local:
        Storage(os.fspath(local)).write(INDEX_NAME, text)
    return merged


def merged_index(parts: Iterable[tuple[str, Index]]) -> Index:
    """Put indexes together.

    Args:
        parts: The key of each part's ``index.json`` below the common directory, and the index.

    Returns:
        An index whose shards are named below the common directory; metadata that all parts agree on is kept.
    """
    groups: list[ShardGroup] = []
    metadata: dict[str, Any] | None = None
    for key, index in parts:
        folder = PurePosixPath(key).parent
        groups += [
            replace(group, basename=[str(folder / name) for name in group.basename])
            for group in index.groups
            if len(group)
        ]
        mine = dict(index.metadata)
        metadata = (
            mine if metadata is None else {name: mine[name] for name in metadata if mine.get(name) == metadata[name]}
        )
    return Index(groups=tuple(groups), metadata=metadata or {})


def _refuse(places: Sequence[Any]) -> Sequence[Any]:
    raise ValueError(f"merge_index takes out, or indexes and out; got {len(places)} arguments")


def _is_part(key: str) -> bool:
    path = PurePosixPath(key)
    return path.name == INDEX_NAME and len(path.parts) > 1 and PRIVATE_FOLDER not in path.parts


def _key_below(root: Storage, local: Place | None, part: Place | tuple[Place, Place]) -> str:
    """Name a part's index below the common directory."""
    url = os.fspath(part[1] if isinstance(part, tuple) else part)
    for base in [root.url, *([os.fspath(local)] if local is not None else [])]:
        with contextlib.suppress(ValueError):
            key = _relative(url, base)
            return key if PurePosixPath(key).name == INDEX_NAME else f"{key}/{INDEX_NAME}"
    raise ValueError(f"{url}: lies outside of {root.url}; the parts of a dataset lie below it")


def _relative(url: str, base: str) -> str:
    source, target = Storage(url).local_path, Storage(base).local_path
    if source is not None and target is not None:
        return source.resolve().relative_to(target.resolve()).as_posix()
    prefix = base.rstrip("/") + "/"
    if not url.startswith(prefix):
        raise ValueError(url)
    return url.removeprefix(prefix)


def _read(root: Storage, key: str) -> Index:
    return parse_index(root.read(key), root.url_of(key))


def _outermost(parts: list[tuple[str, Index]]) -> list[tuple[str, Index]]:
    """Leave out parts whose shards a part above them has: a tree may have been merged branch by branch."""
    claimed: set[str] = set()
    kept = set()
    for key, index in sorted(parts, key=lambda part: part[0].count("/")):
        folder = PurePosixPath(key).parent
        names = {str(folder / name) for group in index.groups for name in group.basename}
        if names and names <= claimed:
            continue
        if names & claimed:
            twice = min(names & claimed)
            raise IndexFormatError(
                f"{key}: names the shard {twice!r}, which another part has already, and others beside it"
            )
        claimed |= names
        kept.add(key)
    return [(key, index) for key, index in parts if key in kept]
