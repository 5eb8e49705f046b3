"""arrowstream: streaming training data on Apache Arrow.

Write shards from DataFrames, stream them into training, query them with any Arrow tool. The names below are loaded when
they are first used: ``import arrowstream`` costs nothing and imports neither torch nor Polars.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arrowstream.frames import write_dataframe
    from arrowstream.indexing import index_files
    from arrowstream.scan import scan, to_arrow_dataset
    from arrowstream.stream import Stream
    from arrowstream.torch import StreamingDataset
    from arrowstream.writer import MDSWriter, ParquetWriter

__all__ = [
    "MDSWriter",
    "ParquetWriter",
    "Stream",
    "StreamingDataset",
    "index_files",
    "scan",
    "to_arrow_dataset",
    "write_dataframe",
]

_HOMES = {
    "MDSWriter": "arrowstream.writer",
    "ParquetWriter": "arrowstream.writer",
    "Stream": "arrowstream.stream",
    "index_files": "arrowstream.indexing",
    "scan": "arrowstream.scan",
    "to_arrow_dataset": "arrowstream.scan",
    "write_dataframe": "arrowstream.frames",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("arrowstream")
    if name == "StreamingDataset":
        # Without torch the dataset is the same, but no IterableDataset.
        home = "arrowstream.torch" if find_spec("torch") else "arrowstream.dataset"
    elif name in _HOMES:
        home = _HOMES[name]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
