"""An index for files that exist already: Parquet, Arrow, CSV, JSON Lines, as they lie in a directory or bucket.

The files are not touched. Of those with a footer only the footer is read, a range of each; the others are read once.

* :mod:`arrowstream.indexing.files`: which files there are.
* :mod:`arrowstream.indexing.describing`: what is in each.
* :mod:`arrowstream.indexing.columns`: what all have in common.
* :mod:`arrowstream.indexing.indexing`: from these to an index.
"""

from arrowstream.indexing.indexing import index_files

__all__ = ["index_files"]
