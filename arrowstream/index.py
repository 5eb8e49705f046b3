"""The index of a dataset: which shards it has, and what each of them holds.

Version 3 is columnar, so that a million shards load in about a second. A *group* is a run of shards that share format,
columns and compression; merging datasets is concatenating groups. Version 2, mosaicml-streaming's, is read as it is.
Nothing here touches a file.
"""

import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arrowstream import index_v2
from arrowstream.errors import IndexFormatError

INDEX_NAME = "index.json"
VERSION = 3
#: Everything arrowstream itself keeps beside the shards of a cache lies in this folder.
PRIVATE_FOLDER = ".arrowstream"

IntArray = npt.NDArray[np.int64]

# What a shard's name may not be: empty, absolute, with a way out (`..`), a Windows separator, a control character, half
# a surrogate pair (no file system takes it), the index itself, or anything in the private folder. One pass over all
# names at once: a Python call a name takes seconds.
_HOSTILE_NAME = re.compile(
    r"^$|^/|//|/$|\\|[\x00-\x09\x0b-\x1f\ud800-\udfff]|^[A-Za-z]:"
    r"|(?:^|/)\.\.?(?:/|$)|^index\.json$|(?:^|/)\.arrowstream(?:/|$)",
    re.MULTILINE,
)
# Something of this stands in every hostile name, and is found ten times faster.
_SUSPECT_PARTS = ("\n\n", "\n/", "/\n", "//", "\n.", "/.", "\nindex.json\n")
_LONGEST_PART = 255  # of a path, on every file system that we know
_SUSPECT_CHARACTER = re.compile(r"[\\:\x00-\x09\x0b-\x1f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard as the index describes it.

    Attributes:
        basename: The file's path below the dataset's directory, with its transport suffix (``a/shard.00000.arrow.gz``).
        num_samples: Rows in it.
        raw_bytes: Length of the Arrow IPC file without compression; exact when the file is wrapped as a whole.
        file_bytes: Length of the file as it is transported.
        content: What identifies the rows: equal for the transported and for the cached file. Empty when unknown.
        hashes: Hex digests of the transported file by algorithm.
        format: The plugin that reads it.
        compression: ``"zstd:3"``, ``"gz"``, … or None.
        columns: Encodings by column name, as the index declares them.
        options: What the format has to know of its files (a separator, say); JSON values.
        rows_per_batch: Rows of every record batch but the last; 0 when unknown.
        raw_hashes: Hex digests of the file without its wrapping, where they are known.
    """

    basename: str
    num_samples: int
    raw_bytes: int
    file_bytes: int
    content: str
    hashes: Mapping[str, str]
    format: str
    compression: str | None
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    rows_per_batch: int = 0
    raw_hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardGroup:
    """Shards of one format, schema and compression; element ``i`` of each column speaks of shard ``i``."""

    format: str
    columns: Mapping[str, str]
    compression: str | None
    size_limit: int | None
    basename: Sequence[str]
    num_samples: IntArray
    raw_bytes: IntArray
    file_bytes: IntArray
    content: Sequence[str]
    hashes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    rows_per_batch: IntArray | None = None
    raw_hashes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.basename)

    def shard(self, number: int) -> Shard:
        """Give one shard of the group by its number in it."""
        return Shard(
            basename=self.basename[number],
            num_samples=int(self.num_samples[number]),
            raw_bytes=int(self.raw_bytes[number]),
            file_bytes=int(self.file_bytes[number]),
            content=self.content[number],
            hashes={name: digests[number] for name, digests in self.hashes.items()},
            format=self.format,
            compression=self.compression,
            columns=self.columns,
            options=self.options,
            rows_per_batch=int(self.rows_per_batch[number]) if self.rows_per_batch is not None else 0,
            raw_hashes={name: digests[number] for name, digests in self.raw_hashes.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Index:
    """The shards of a dataset in their order.

    Attributes:
        groups: Runs of like shards.
        metadata: What the writer's user wanted to be remembered; any JSON.
        fingerprint: Hash of the JSON text that it was read from.
        version: Of the JSON text that it was read from.
    """

    groups: tuple[ShardGroup, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    version: int = VERSION

    @cached_property
    def samples_per_shard(self) -> IntArray:
        """Number of samples of each shard, int64 of shape (shards,)."""
        return np.concatenate([np.empty(0, np.int64), *(group.num_samples for group in self.groups)])

    @cached_property
    def raw_bytes(self) -> IntArray:
        """Length of each shard without compression, int64 of shape (shards,)."""
        return np.concatenate([np.empty(0, np.int64), *(group.raw_bytes for group in self.groups)])

    @cached_property
    def rows_per_batch(self) -> IntArray:
        """Rows of every record batch of a shard but the last, int64 of shape (shards,); 0 where unknown."""
        known = [
            np.zeros(len(group), np.int64) if group.rows_per_batch is None else group.rows_per_batch
            for group in self.groups
        ]
        return np.concatenate([np.empty(0, np.int64), *known])

    @property
    def num_shards(self) -> int:
        """Number of shards in all groups."""
        return sum(len(group) for group in self.groups)

    @cached_property
    def num_samples(self) -> int:
        """Number of samples in all shards."""
        return int(self.samples_per_shard.sum())

    @cached_property
    def _group_starts(self) -> list[int]:
        return list(accumulate((len(group) for group in self.groups), initial=0))

    def shard(self, number: int) -> Shard:
        """Give one shard by its number in the dataset.

        Raises:
            IndexError: There is no such shard.
        """
        if not 0 <= number < self.num_shards:
            raise IndexError(f"shard {number} of {self.num_shards}")
        group = bisect_right(self._group_starts, number) - 1
        return self.groups[group].shard(number - self._group_starts[group])

    def to_json(self, version: int = VERSION) -> bytes:
        """Write the index as the text of ``index.json``.

        Args:
            version: 3, or 2 for mosaicml-streaming.

        Raises:
            ValueError: An index of version 2 is asked for, and a shard is not of mosaicml-streaming's format.
        """
        if version == index_v2.VERSION:
            return index_v2.to_json(self.groups)
        groups = [
            {
                "format": group.format,
                "columns": dict(group.columns),
                "compression": group.compression,
                "size_limit": group.size_limit,
                **({"options": dict(group.options)} if group.options else {}),
                "shards": {
                    "basename": list(group.basename),
                    "samples": group.num_samples.tolist(),
                    "raw_bytes": group.raw_bytes.tolist(),
                    "file_bytes": group.file_bytes.tolist(),
                    **({} if group.rows_per_batch is None else {"rows_per_batch": group.rows_per_batch.tolist()}),
                    "content": list(group.content),
                    "hashes": {name: list(digests) for name, digests in group.hashes.items()},
                    **({"raw_hashes": {k: list(v) for k, v in group.raw_hashes.items()}} if group.raw_hashes else {}),
                },
            }
            for group in self.groups
        ]
        return json.dumps({"version": VERSION, "groups": groups, "metadata": dict(self.metadata)}).encode()


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
    if version == index_v2.VERSION:
        tree = index_v2.upgraded(tree, source)
    elif version != VERSION:
        raise IndexFormatError(f"{source}: is an index of version {version!r}; this release reads versions 2 and 3")
    groups = tuple(
        _parse_group(group, f"{source}: group {number}")
        for number, group in enumerate(_field(tree, "groups", list, source))
    )
    if sum(int(group.num_samples.sum()) for group in groups) >= 2**63:
        raise IndexFormatError(f"{source}: samples of all groups sum to more than 64 bits")
    _check_names([name for group in groups for name in group.basename], source)
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


def _check_names(names: list[str], source: str) -> None:
    text = "\n".join(["", *names, ""])
    if (
        any(part in text for part in _SUSPECT_PARTS)
        or _SUSPECT_CHARACTER.search(text) is not None
        or text.count("\n") > len(names) + 1
    ):
        found = next((name for name in names if "\n" in name or _HOSTILE_NAME.search(name) is not None), None)
        if found is not None:
            raise IndexFormatError(
                f"{source}: names the shard {found!r}; a shard is a relative path inside the dataset's directory"
            )
    if (
        names
        and len(longest := max(names, key=len)) > _LONGEST_PART
        and max(map(len, longest.split("/"))) > _LONGEST_PART
    ):
        raise IndexFormatError(f"{source}: names the shard {longest[:80]!r}…, longer than a file's name may be")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise IndexFormatError(f"{source}: names the shard {twice!r} twice")
