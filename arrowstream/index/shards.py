"""Shards as an index tells of them."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.index import version_2

INDEX_NAME = "index.json"
VERSION = 3
#: Everything arrowstream itself keeps beside the shards of a cache lies in this folder.
PRIVATE_FOLDER = ".arrowstream"

IntArray = npt.NDArray[np.int64]


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
        if version == version_2.VERSION:
            return version_2.to_json(self.groups)
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
