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
    from arrowstream.loader import StreamingDataLoader
    from arrowstream.merging import merge_index
    from arrowstream.scanning import scan, to_arrow_dataset
    from arrowstream.sequences import pack_sequences
    from arrowstream.stream import Stream
    from arrowstream.torch import LocalDataset, SequenceDataset, StreamingDataset
    from arrowstream.writer import (
        CSVWriter,
        JSONWriter,
        MDSWriter,
        MosaicWriter,
        ParquetWriter,
        TSVWriter,
        XSVWriter,
    )

__all__ = [
    "CSVWriter",
    "JSONWriter",
    "LocalDataset",
    "MDSWriter",
    "MosaicWriter",
    "ParquetWriter",
    "SequenceDataset",
    "Stream",
    "StreamingDataLoader",
    "StreamingDataset",
    "TSVWriter",
    "XSVWriter",
    "index_files",
    "merge_index",
    "pack_sequences",
    "scan",
    "to_arrow_dataset",
    "write_dataframe",
]

#: Without torch these are the same, but not known to its loaders as IterableDataset and Dataset.
_FOR_TORCH = {
    "LocalDataset": "arrowstream.local",
    "SequenceDataset": "arrowstream.sequences",
    "StreamingDataset": "arrowstream.dataset",
}
_HOMES = {
    "CSVWriter": "arrowstream.writer",
    "JSONWriter": "arrowstream.writer",
    "MDSWriter": "arrowstream.writer",
    "MosaicWriter": "arrowstream.writer",
    "ParquetWriter": "arrowstream.writer",
    "Stream": "arrowstream.stream",
    "StreamingDataLoader": "arrowstream.loader",
    "TSVWriter": "arrowstream.writer",
    "XSVWriter": "arrowstream.writer",
    "index_files": "arrowstream.indexing",
    "merge_index": "arrowstream.merging",
    "pack_sequences": "arrowstream.sequences",
    "scan": "arrowstream.scanning",
    "to_arrow_dataset": "arrowstream.scanning",
    "write_dataframe": "arrowstream.frames",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("arrowstream")
    if name in _FOR_TORCH:
        home = "arrowstream.torch" if find_spec("torch") else _FOR_TORCH[name]
    elif name in _HOMES:
        home = _HOMES[name]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
