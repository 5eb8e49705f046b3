"""What lies in a directory of a cache, for those who tidy up: jobs keep to their limits by themselves."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from arrowstream.cache import names
from arrowstream.cache.room import Room
from arrowstream.errors import MissingShardError
from arrowstream.index import INDEX_NAME, PRIVATE_FOLDER, Index


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile:
    """A file in a cache.

    Attributes:
        name: Below the directory.
        kind: ``shard``, ``part`` (a record batch or a footer of a shard that is not there as a whole), ``compressed``
            (kept as it was transported), ``temporary``, ``own`` (indexes, lists and locks) or ``other``.
        num_bytes: Its length.
        used_s: When it was last opened, in seconds since 1970, as far as the file system keeps account of it.
        removable: Whether it can be fetched again.
    """

    name: str
    kind: str
    num_bytes: int
    used_s: float
    removable: bool


def list_cache(directory: Path) -> list[CachedFile]:
    """List the files of a cache, sorted by name; those of another cache inside of it are not among them.

    Raises:
        MissingShardError: The directory is no cache.
    """
    room = _room(directory, None)
    return [
        CachedFile(
            name=name,
            kind=_kind(name, removable=removable),
            num_bytes=status.st_size,
            used_s=status.st_atime_ns / 1e9,
            removable=removable,
        )
        for name, status, removable in sorted(room.listing(directory), key=lambda each: each[0])
    ]


def collect(directory: Path, *, limit: int | None = None, unused_s: float | None = None) -> None:
    """Delete what can be fetched again, and what killed processes left.

    Jobs that use the cache go on: what they have open stays readable, and the rest they fetch again.

    Args:
        directory: Of the cache.
        limit: Bytes that may stay; what was opened least recently goes first. None: no limit.
        unused_s: What was not opened for so many seconds goes. None: it may stay.

    Raises:
        CacheLimitError: What cannot be fetched again is larger than the limit; nothing went for its sake.
        MissingShardError: The directory is no cache.
    """
    room = _room(directory, limit)
    room.sweep(directory)
    if unused_s is not None:
        room.expire(directory, before_ns=time.time_ns() - int(unused_s * 1e9))
    room.keep_limit(directory)
    for folder, _, _ in os.walk(directory / names.BATCHES, topdown=False):
        _remove_if_empty(Path(folder))


def _room(directory: Path, limit: int | None) -> Room:
    if not (directory / PRIVATE_FOLDER).is_dir():
        raise MissingShardError(f"{directory}: is no cache of arrowstream ({PRIVATE_FOLDER} is not in it)")
    room = Room(limit)
    room.add(directory, Index(groups=()), 0)
    return room


def _kind(name: str, *, removable: bool) -> str:
    for folder, kind in ((names.TEMPORARY, "temporary"), (names.BATCHES, "part"), (names.TRANSPORT, "compressed")):
        if name.startswith(f"{folder}/"):
            return kind
    if name == INDEX_NAME or name.startswith(f"{PRIVATE_FOLDER}/"):
        return "own"
    if not removable:
        return "other"
    return "shard" if name.endswith(".arrow") else "compressed"


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # something lies in it, or was put there just now
