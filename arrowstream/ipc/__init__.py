"""The one kind of file in a cache: an Arrow IPC file (Feather V2) that any Arrow tool opens and maps."""

from arrowstream.ipc.cutting import BATCH_BYTES, recut, write_batches
from arrowstream.ipc.marks import (
    BATCHES,
    CONTENT,
    ROWS_PER_BATCH,
    batch_table,
    content_of,
    rows_per_batch_of,
    without_marks,
)
from arrowstream.ipc.reading import check_batch, open_file, validate
from arrowstream.ipc.writing import file_bytes, has_dictionary, identity, uncompress, write_file

__all__ = [
    "BATCHES",
    "BATCH_BYTES",
    "CONTENT",
    "ROWS_PER_BATCH",
    "batch_table",
    "check_batch",
    "content_of",
    "file_bytes",
    "has_dictionary",
    "identity",
    "open_file",
    "recut",
    "rows_per_batch_of",
    "uncompress",
    "validate",
    "without_marks",
    "write_batches",
    "write_file",
]
