"""A dataset that lies on this machine as a whole, by index alone: no epochs, no plan, no workers to agree with."""

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from arrowstream.dataset import StreamingDataset
from arrowstream.decode import Sample


class LocalDataset:
    """Samples of a local directory by their ids: a map-style dataset.

    Args:
        local: The directory that holds ``index.json`` and the shards.
        split: Subdirectory of it.
        allow_unsafe_types: Whether ``pkl`` columns are read, which run code that came with the data.
        columns: The columns that samples have, in their order; None: all that their shard has.

    Raises:
        ValueError: ``local`` is empty.
    """

    def __init__(
        self,
        local: str | os.PathLike[str],
        split: str | None = None,
        *,
        allow_unsafe_types: bool = False,
        columns: Sequence[str] | None = None,
    ) -> None:
        self.local = os.fspath(local)
        self.split = split
        self._samples = StreamingDataset(
            local=local, split=split, allow_unsafe_types=allow_unsafe_types, columns=columns
        )

    @property
    def size(self) -> int:
        """Number of samples: the bound of an id."""
        return self._samples.size

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the first shard."""
        return self._samples.schema

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.local!r}, split={self.split!r}: {self.size:,} samples)"

    def __getitem__(self, key: Any) -> Any:
        """Read samples as NumPy would index an array of them; an integer goes through ``get_item``.

        Raises:
            IndexError: As NumPy raises it.
        """
        if isinstance(key, int):
            return self.get_item(key)
        return self._samples[key]

    def __getitems__(self, ids: Sequence[int]) -> list[Sample]:
        """Read a batch of samples, as PyTorch's loader asks for them."""
        return [self[sample_id] for sample_id in ids]

    def get_item(self, sample_id: int) -> Sample:
        """Read one sample; subclasses may override it.

        Raises:
            IndexError: The id is out of bounds.
            ShardError: Its shard is missing or corrupt.
        """
        return self._samples.get_item(sample_id)

    def take(self, ids: Any, columns: Sequence[str] | None = None) -> pa.Table:
        """Read many samples at once, as Arrow; see :meth:`StreamingDataset.take`."""
        return self._samples.take(ids, columns)
