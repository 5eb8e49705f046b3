"""Samples by their ids, whatever shards they lie in and wherever those are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from arrowstream.decode import Sample
from arrowstream.locate import resolve_ids
from arrowstream.opening import RANDOM_ACCESS
from arrowstream.reader import Reader
from arrowstream.storage import Cost
from arrowstream.stream import Stream

IntArray = npt.NDArray[np.int64]


class SamplesById:
    """Reads what streams hold by global ids.

    Args:
        streams: Sources of samples, one behind the other.
        allow_unsafe_types: Whether ``pkl`` columns are read.
        columns: The columns that samples have, in their order; None: all that their shard has.
        cache_limit: Bytes that the caches of all streams may take on the disk together; None: no limit.
        random_access: ``record_batch``, ``shard`` or ``auto``: what is fetched for a sample.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        allow_unsafe_types: bool,
        columns: Sequence[str] | None,
        cache_limit: int | None = None,
        random_access: str = "auto",
    ) -> None:
        if random_access not in RANDOM_ACCESS:
            raise ValueError(f"random_access is {random_access!r}, expected one of {', '.join(RANDOM_ACCESS)}")
        if cache_limit == 0:
            raise ValueError("cache_limit is 0; a shard has to lie somewhere: give more, or None for no limit")
        self.streams = list(streams)
        self.allow_unsafe_types = allow_unsafe_types
        self.columns = _checked_names(columns)
        self.cache_limit = cache_limit
        self.random_access = random_access
        self._reader: Reader | None = None

    @property
    def num_samples(self) -> int:
        """Number of samples in all streams."""
        return (self._reader or self._load()).num_samples

    @property
    def size(self) -> int:
        """Number of samples in all streams: the bound of an id."""
        return self.num_samples

    @property
    def num_shards(self) -> int:
        """Number of shards in all streams."""
        return len(self.samples_per_shard)

    @property
    def samples_per_shard(self) -> IntArray:
        """Number of samples of each shard, int64 of shape (shards,)."""
        return (self._reader or self._load()).samples_per_shard

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the first shard, which is fetched for it."""
        return (self._reader or self._load()).schema

    def shard_paths(self, *, fetch: bool = False) -> list[tuple[int, Path]]:
        """Name the shards that lie on this machine.

        Args:
            fetch: Whether to fetch those that do not.

        Returns:
            Id of the first sample, and path of the Arrow IPC file, of each shard in the order of the ids.
        """
        return (self._reader or self._load()).paths(fetch=fetch)

    def cost(self) -> Cost:
        """Tell how many requests this process has made of the remotes, and how many bytes they came to."""
        return (self._reader or self._load()).cost

    def __getitem__(self, key: Any) -> Any:
        """Read samples as NumPy would index an array of them.

        Args:
            key: An integer (also negative, also NumPy's), a slice, ``...``, a list or array of integers of any shape,
                or a boolean mask of one element a sample.

        Returns:
            A sample for an integer; for all else lists of samples, nested as the array of ids is.

        Raises:
            IndexError: As NumPy raises it.
        """
        if type(key) is int:
            return self.get_item(key)
        if isinstance(key, np.integer):
            return self.get_item(int(key))  # a np.int8 would overflow on the way to its row
        ids = resolve_ids(key, self.size)
        return self.get_item(int(ids)) if ids.ndim == 0 else self._nested(ids)

    def get_item(self, sample_id: int) -> Sample:
        """Read one sample. Subclasses may override this, or ``__getitem__``; an iteration calls what they made of it.

        Args:
            sample_id: In [-size, size).

        Returns:
            Values by column: Python, NumPy or PIL, owned by the caller.

        Raises:
            IndexError: The id is out of bounds.
            ShardError: Its shard is missing or corrupt.
            StorageError: Its shard could not be fetched.
        """
        return (self._reader or self._load()).read(sample_id)

    def _nested(self, ids: IntArray) -> list[Any]:
        if ids.ndim == 1:
            return [self.get_item(sample_id) for sample_id in ids.tolist()]
        return [self._nested(part) for part in ids]

    def take(self, ids: Any, columns: Sequence[str] | None = None) -> pa.Table:
        """Read many samples at once, as Arrow.

        Args:
            ids: What ``dataset[ids]`` takes; more than one dimension is flattened.
            columns: The columns to read; None: all.

        Returns:
            A table with one row an id, in the order of the ids; its memory is its own.

        Raises:
            IndexError: As NumPy raises it.
            MissingColumnError: There is no such column.
        """
        return (self._reader or self._load()).take(resolve_ids(ids, self.size).reshape(-1), columns)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    def _load(self) -> Reader:
        self._reader = Reader(
            self.streams,
            allow_unsafe_types=self.allow_unsafe_types,
            cache_limit=self.cache_limit,
            random_access=self.random_access,
            columns=self.columns,
        )
        return self._reader


def _checked_names(columns: Sequence[str] | None) -> tuple[str, ...] | None:
    if columns is None:
        return None
    if isinstance(columns, str) or not columns or len(set(columns)) < len(columns):
        raise ValueError(f"columns is {columns!r}; expected a list of different names, or None for all")
    return tuple(columns)
