"""A dataset that lies on this machine as a whole, by index alone: no epochs, no plan, no workers to agree with."""

import os
from collections.abc import Sequence

from arrowstream.by_id import SamplesById
from arrowstream.decode import Sample
from arrowstream.stream import DEFAULTS, Stream


class LocalDataset(SamplesById):
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
        stream = Stream(local=local, split=split)
        stream.apply_default(DEFAULTS)
        super().__init__([stream], allow_unsafe_types=allow_unsafe_types, columns=columns)

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.local!r}, split={self.split!r}: {self.size:,} samples)"

    def __getitems__(self, ids: Sequence[int]) -> list[Sample]:
        """Read a batch of samples, as PyTorch's loader asks for them."""
        return [self[sample_id] for sample_id in ids]
