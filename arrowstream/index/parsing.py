"""The text of an ``index.json``, read by people who may mean harm."""

import json
from typing import Any

import numpy as np
import xxhash

from arrowstream.errors import IndexFormatError
from arrowstream.index import version_2
from arrowstream.index.names import check_names
from arrowstream.index.shards import VERSION, Index, IntArray, ShardGroup


def parse_index(text: bytes, source: str) -> Index:
    """Read the text of an ``index.json``.

    Args:
        text: The JSON.
        source: Where it came from; errors name it.

    Raises:
        IndexFormatError: It is no JSON, lacks a field, contradicts itself, names a file outside its directory or is of
            a version that this release does not know.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IndexFormatError(f"{source}: is not JSON ({error}); it was cut off or is not an index") from error
    version = tree.get("version") if isinstance(tree, dict) else None
    if version == version_2.VERSION:
        tree = version_2.upgraded(tree, source)
    elif version != VERSION:
        raise IndexFormatError(f"{source}: is an index of version {version!r}; this release reads versions 2 and 3")
    groups = tuple(
        _parse_group(group, f"{source}: group {number}")
        for number, group in enumerate(_field(tree, "groups", list, source))
    )
    if sum(int(group.num_samples.sum()) for group in groups) >= 2**63:
        raise IndexFormatError(f"{source}: samples of all groups sum to more than 64 bits")
    check_names([name for group in groups for name in group.basename], source)
    metadata = tree.get("metadata", {})
    if not isinstance(metadata, dict):
        raise IndexFormatError(f"{source}: metadata is {type(metadata).__name__}, expected an object")
    return Index(groups=groups, metadata=metadata, fingerprint=xxhash.xxh3_128_hexdigest(text), version=version)


def _parse_group(group: Any, source: str) -> ShardGroup:
    if not isinstance(group, dict):
        raise IndexFormatError(f"{source}: is {type(group).__name__}, expected an object")
    shards = _field(group, "shards", dict, source)
    basename = _strings(_field(shards, "basename", list, source), "basename", len(shards["basename"]), source)
    count = len(basename)
    columns = _field(group, "columns", dict, source)
    _strings(list(columns.values()), "columns", len(columns), source)
    for name in columns:
        if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
            raise IndexFormatError(f"{source}: names the column {name!r}, which is no text that UTF-8 can hold")
    rows_per_batch = shards.get("rows_per_batch")
    return ShardGroup(
        format=_field(group, "format", str, source),
        columns=columns,
        compression=_field(group, "compression", str | None, source),
        size_limit=_field(group, "size_limit", int | None, source),
        basename=basename,
        num_samples=_counts(_field(shards, "samples", list, source), "samples", count, source),
        raw_bytes=_counts(_field(shards, "raw_bytes", list, source), "raw_bytes", count, source),
        file_bytes=_counts(_field(shards, "file_bytes", list, source), "file_bytes", count, source),
        content=_strings(_field(shards, "content", list, source), "content", count, source),
        hashes=_hashes(shards, "hashes", count, source),
        options=_field(group, "options", dict, source) if "options" in group else {},
        rows_per_batch=(
            _counts(_field(shards, "rows_per_batch", list, source), "rows_per_batch", count, source)
            if rows_per_batch is not None
            else None
        ),
        raw_hashes=_hashes(shards, "raw_hashes", count, source) if "raw_hashes" in shards else {},
    )


def _hashes(shards: dict[str, Any], name: str, count: int, source: str) -> dict[str, list[str]]:
    digests = _field(shards, name, dict, source)
    return {hash_name: _strings(digests[hash_name], f"{name}.{hash_name}", count, source) for hash_name in digests}


def _field(tree: dict[str, Any], name: str, kind: Any, source: str) -> Any:
    if name not in tree:
        raise IndexFormatError(f"{source}: has no {name!r}")
    if not isinstance(tree[name], kind) or isinstance(tree[name], bool):
        expected = getattr(kind, "__name__", str(kind))
        raise IndexFormatError(f"{source}: {name} is {type(tree[name]).__name__}, expected {expected}")
    return tree[name]


def _strings(values: Any, name: str, count: int, source: str) -> list[str]:
    if not isinstance(values, list) or len(values) != count:
        raise IndexFormatError(f"{source}: {name} is not a list of {count} strings, one a shard")
    if not set(map(type, values)) <= {str}:
        raise IndexFormatError(f"{source}: {name} holds something else than strings")
    return values


def _counts(values: list[Any], name: str, count: int, source: str) -> IntArray:
    if len(values) != count:
        raise IndexFormatError(f"{source}: {name} has {len(values)} values for {count} shards")
    if not set(map(type, values)) <= {int}:
        raise IndexFormatError(f"{source}: {name} holds something else than whole numbers")
    try:
        counts = np.array(values, dtype=np.int64)
        total = sum(values)
    except OverflowError as error:
        raise IndexFormatError(f"{source}: {name} holds a number beyond 64 bits") from error
    if total >= 2**63 or (count and counts.min() < 0):
        raise IndexFormatError(f"{source}: {name} holds a negative number, or sums to more than 64 bits")
    return counts
