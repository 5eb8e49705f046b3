"""Hashes of whole files, by the names that hashlib and xxhash give them."""

import hashlib
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import xxhash

#: What every shard is checked with when it arrives: as fast as memory, 64 bits.
DEFAULT_HASH = "xxh3_64"
_CHUNK = 1 << 20
_XXHASHES = {"xxh32": xxhash.xxh32, "xxh64": xxhash.xxh64, "xxh128": xxhash.xxh128}
_XXHASHES |= {"xxh3_64": xxhash.xxh3_64, "xxh3_128": xxhash.xxh3_128}
# SHAKE wants a length for its digest, so it is no name of one hash.
HASH_NAMES = frozenset(_XXHASHES) | {name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")}


class Hash(Protocol):
    """A hash of what it has been given so far."""

    def update(self, data: mmap.mmap | bytes | memoryview, /) -> None:
        """Go on with more bytes."""

    def hexdigest(self) -> str:
        """Give the hash in hex digits."""


def check_hash_names(names: Sequence[str]) -> None:
    """Refuse names of hashes that do not exist.

    Raises:
        ValueError: There is no such hash.
    """
    for name in names:
        if name not in HASH_NAMES:
            raise ValueError(f"no hash is named {name!r}; there are: {', '.join(sorted(HASH_NAMES))}")


def hash_file(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Hash a file, once for each name.

    Returns:
        Hex digests by name.
    """
    hashes = {name: new_hash(name) for name in names}
    if path.stat().st_size:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents:
            for each in hashes.values():
                each.update(contents)
    return {name: each.hexdigest() for name, each in hashes.items()}


def hash_stream(file: BinaryIO, names: Sequence[str]) -> dict[str, str]:
    """Hash a file from its beginning to its end, reading it once.

    Returns:
        Hex digests by name.
    """
    hashes = {name: new_hash(name) for name in names}
    file.seek(0)
    while chunk := file.read(_CHUNK):
        for each in hashes.values():
            each.update(chunk)
    return {name: each.hexdigest() for name, each in hashes.items()}


def new_hash(name: str) -> Hash:
    """Begin a hash."""
    return _XXHASHES[name]() if name in _XXHASHES else hashlib.new(name, usedforsecurity=False)
