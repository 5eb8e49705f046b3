"""Shards that are open for reading: mapped once per process, their record batches bound when first touched."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from arrowstream import ipc
from arrowstream.errors import CorruptShardError
from arrowstream.index import Shard

ReadRow = Callable[[int], dict[str, Any]]
Bind = Callable[[pa.RecordBatch], ReadRow]

#: A shard that is open costs some 200 KB beside its map, and a process may have 65,530 maps.
MAX_OPEN_SHARDS = 1024
#: Record batches that were fetched one by one have a map each.
MAX_OPEN_BATCHES = 8192
#: Record batches of shards that are read in place although they are compressed lie in memory.
MAX_UNCOMPRESSED_BYTES = 256 << 20


class OpenShard:
    """A mapped shard.

    Args:
        path: An Arrow IPC file.
        shard: What the index says of it.
        make_bind: Gives, for the file's schema, what turns a record batch into a function of its rows.
        trusted: Whether the file was validated when it came into the cache; if not, each record batch is compared with
            its checksum and validated when it is first touched.
        memory: Counts the bytes of record batches that had to be decompressed.

    Attributes:
        rows_per_batch: Rows of every record batch but the last.
        reads: Of each record batch that was touched, the function of a row that gives its sample.
        schema: Of the file.

    Raises:
        MissingShardError: There is no such file.
        CorruptShardError: It is not what the index describes.
    """

    __slots__ = (
        *("_bind", "_checked", "_file", "_memory", "_path", "_reader", "_trusted"),
        *("reads", "rows_per_batch", "schema"),
    )

    def __init__(
        self, path: Path, shard: Shard, make_bind: Callable[[pa.Schema], Bind], *, trusted: bool, memory: "BatchMemory"
    ) -> None:
        self._path = path
        self._reader = ipc.open_file(path)
        self._file = file_number(path)
        self.schema: pa.Schema = self._reader.schema
        self._trusted = trusted
        self._checked: set[int] = set()
        self._memory = memory
        self._bind = make_bind(self.schema)
        num_batches = self._reader.num_record_batches
        self.reads: list[ReadRow | None] = [None] * num_batches
        if shard.content and ipc.content_of(self.schema) != shard.content:
            raise CorruptShardError(
                f"{path}: holds the content {ipc.content_of(self.schema)!r}, the index says {shard.content!r}; "
                f"the file or the index was replaced"
            )
        self.rows_per_batch = 0
        self.rows_per_batch = self.batch(0).num_rows if num_batches else 1
        last_rows = self.batch(num_batches - 1).num_rows if num_batches else 0
        num_samples = (num_batches - 1) * self.rows_per_batch + last_rows if num_batches else 0
        if self.rows_per_batch < last_rows:
            raise CorruptShardError(f"{path}: its record batches are not of one size")
        if num_samples != shard.num_samples:
            raise CorruptShardError(f"{path}: holds {num_samples} rows, the index says {shard.num_samples}")

    def is_deleted(self, number: int = 0) -> bool:
        """Tell whether the file is gone or was replaced, so that only maps keep its space on the disk.

        Args:
            number: Of a record batch; all are in the same file.
        """
        del number
        return is_gone(self._path, self._file)

    def batch(self, number: int) -> pa.RecordBatch:
        """Give one record batch: views of the map, or memory of its own where the file is compressed.

        Raises:
            CorruptShardError: Its bytes are not a record batch.
        """
        try:
            batch = self._reader.get_batch(number)
            if not self._trusted and number not in self._checked:
                ipc.check_batch(self._path, self.schema, number)
                batch.validate(full=True)
                self._checked.add(number)
        except (pa.ArrowException, OSError) as error:
            raise CorruptShardError(f"{self._path}: record batch {number} is corrupt ({error})") from error
        if self.rows_per_batch and batch.num_rows != self.rows_per_batch and number < len(self.reads) - 1:
            raise CorruptShardError(f"{self._path}: its record batches are not of one size")
        return batch

    def open_batch(self, number: int) -> ReadRow:
        """Make the function that reads the rows of one record batch, and keep it in ``reads``."""
        allocated = pa.total_allocated_bytes()
        batch = self.batch(number)
        allocated = pa.total_allocated_bytes() - allocated
        read = self.reads[number] = self._bind(batch)
        if allocated > 0:
            self._memory.add(self.reads, number, allocated)
        return read


def file_number(path: Path) -> int | None:
    """Tell which file has a name; None: none has."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def is_gone(path: Path, number: int | None) -> bool:
    """Tell whether a file lost its name since ``number`` was read; None: it had lost it by then."""
    return number is None or file_number(path) != number


class BatchMemory:
    """Forgets record batches, the oldest first, when they take too many bytes, or whatever they are counted in."""

    def __init__(self, max_bytes: int = MAX_UNCOMPRESSED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._held: deque[tuple[list[ReadRow | None], int, int]] = deque()

    def add(self, rows: list[ReadRow | None], number: int, num_bytes: int) -> None:
        """Count what the record batch that ``rows[number]`` reads takes, and forget others to make room for it."""
        self._held.append((rows, number, num_bytes))
        self._num_bytes += num_bytes
        while self._num_bytes > self._max_bytes and len(self._held) > 1:
            oldest, position, freed = self._held.popleft()
            oldest[position] = None
            self._num_bytes -= freed
