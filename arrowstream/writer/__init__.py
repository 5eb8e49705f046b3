"""Writing shards: samples and record batches in, a directory of shards with an index out.

* :mod:`arrowstream.writer.shards`: the writers that people use.
* :mod:`arrowstream.writer.text`: those of text.
* :mod:`arrowstream.writer.by_name`: the writer of a format.
* :mod:`arrowstream.writer.schema`: which encoding each column has.
* :mod:`arrowstream.writer.cutter`: where one shard ends and the next begins.
* :mod:`arrowstream.writer.pipeline`: from the rows of a shard to its file, in the background.
* :mod:`arrowstream.writer.output`: the directory and the remote that files go to.
"""

from arrowstream.writer.by_name import check_options, writer_of
from arrowstream.writer.schema import Columns
from arrowstream.writer.shards import DEFAULT_SIZE_LIMIT, MDSWriter, MosaicWriter, ParquetWriter, ShardWriter
from arrowstream.writer.text import CSVWriter, JSONWriter, TSVWriter, XSVWriter

__all__ = [
    "DEFAULT_SIZE_LIMIT",
    "CSVWriter",
    "Columns",
    "JSONWriter",
    "MDSWriter",
    "MosaicWriter",
    "ParquetWriter",
    "ShardWriter",
    "TSVWriter",
    "XSVWriter",
    "check_options",
    "writer_of",
]
