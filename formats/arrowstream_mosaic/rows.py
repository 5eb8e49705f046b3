"""Where the rows of a ``.mds`` file lie, and the values in them.

The file is, all numbers little-endian::

    uint32              number of rows
    uint32 x (rows + 1) where each row begins, and the last one ends, in the file
    JSON                how it was written; the index says it too, so nobody reads it
    rows                for each column of varying size its size, uint32; then the values of all columns
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from arrowstream.errors import CorruptShardError
from arrowstream_mosaic.cells import Cells, IntArray, refuse

_WORD = 4


class RowFile:
    """A mapped file, its offsets checked against its length and against each other.

    Args:
        path: The file.
        num_samples: Rows that it must have.

    Raises:
        CorruptShardError: It is not such a file.
    """

    def __init__(self, path: Path, num_samples: int) -> None:
        size = path.stat().st_size
        table_end = _WORD * (num_samples + 2)
        if size < table_end:
            raise CorruptShardError(f"{path}: is {size} bytes long, too short for {num_samples} rows and their offsets")
        with pa.memory_map(str(path)) as file:
            self.buffer: pa.Buffer = file.read_buffer()
        table = np.frombuffer(self.buffer, "<u4", count=num_samples + 2)
        if table[0] != num_samples:
            raise CorruptShardError(f"{path}: holds {table[0]} rows, the index says {num_samples}")
        self.offsets: IntArray = table[1:].astype(np.int64)  # (rows + 1,)
        if self.offsets[0] < table_end or self.offsets[-1] != size or (np.diff(self.offsets) < 0).any():
            raise CorruptShardError(
                f"{path}: the offsets of its rows do not rise from {table_end} or more to the file's {size} bytes"
            )

    def cells(self, first: int, stop: int, sizes: Mapping[str, int | None]) -> dict[str, Cells]:
        """Find the values of some rows.

        Args:
            first: The first row.
            stop: The row behind the last one.
            sizes: By column name, in the order in which the values lie in a row, the bytes of each value; None: they
                vary.

        Raises:
            BadValueError: The sizes of the values of a row are not what the row has room for.
        """
        rows = Cells(self.buffer, self.offsets[first:stop], self.offsets[first + 1 : stop + 1])
        num_varying = sum(size is None for size in sizes.values())
        varying = iter(rows.head(_WORD * num_varying).view("<u4").T.astype(np.int64))  # each (rows,)
        begin = rows.start + _WORD * num_varying
        cells = {}
        for name, size in sizes.items():
            end = begin + (next(varying) if size is None else size)
            cells[name] = Cells(self.buffer, begin, end)
            begin = end
        refuse(begin != rows.stop, "has values whose sizes do not add up to its own")
        return cells
