"""The index of a dataset: which shards it has, and what each of them holds.

Version 3 is columnar, so that a million shards load in about a second. A *group* is a run of shards that share format,
columns and compression; merging datasets is concatenating groups. Version 2, mosaicml-streaming's, is read as it is.
Nothing here touches a file.

* :mod:`arrowstream.index.shards`: the frozen values.
* :mod:`arrowstream.index.parsing`: JSON to these values, checked.
* :mod:`arrowstream.index.names`: names that no shard may have.
* :mod:`arrowstream.index.version_2`: mosaicml-streaming's index.
"""

from arrowstream.index.parsing import parse_index
from arrowstream.index.shards import INDEX_NAME, PRIVATE_FOLDER, VERSION, Index, IntArray, Shard, ShardGroup

__all__ = ["INDEX_NAME", "PRIVATE_FOLDER", "VERSION", "Index", "IntArray", "Shard", "ShardGroup", "parse_index"]
