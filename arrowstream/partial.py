"""Shards that are not in the cache as a whole: read by their record batches."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa

from arrowstream import ipc
from arrowstream.cache import ShardCache
from arrowstream.cache.ranges import Footer
from arrowstream.errors import CorruptShardError, MissingShardError
from arrowstream.index import Shard
from arrowstream.shard import BatchMemory, Bind, ReadRow, file_number, is_gone

#: What a request costs beside its bytes, in bytes: what a store sends in the 20 ms or so that it takes to answer.
REQUEST_BYTES = 2 << 20
# One that others delete each time before it is opened is an error in the end.
_OPENINGS = 5


class PartialShard:
    """A shard of which some record batches lie in the cache, each in a file of its own.

    It is read as an :class:`arrowstream.shard.OpenShard` is.

    Args:
        cache: Where they are fetched to.
        shard: What the index says of it.
        number: Of the shard in the dataset.
        footer: Where its record batches are.
        make_bind: Gives, for the schema, what turns a record batch into a function of its rows.
        memory: Counts the record batches that are open.

    Attributes:
        rows_per_batch: Rows of every record batch but the last.
        reads: Of each record batch that is open, the function of a row that gives its sample.
        schema: Of the rows.
    """

    __slots__ = (
        "_bind",
        "_cache",
        "_files",
        "_footer",
        "_memory",
        "_number",
        "_seen",
        "_shard",
        "reads",
        "rows_per_batch",
        "schema",
    )

    def __init__(
        self,
        cache: ShardCache,
        shard: Shard,
        number: int,
        footer: Footer,
        *,
        make_bind: Callable[[pa.Schema], Bind],
        memory: BatchMemory,
    ) -> None:
        self._cache = cache
        self._shard = shard
        self._number = number
        self._footer = footer
        self._bind = make_bind(footer.schema)
        self._memory = memory
        self._seen: set[int] = set()
        self._files: dict[int, tuple[Path, int | None]] = {}  # of the record batches that were opened
        self.schema: pa.Schema = footer.schema
        self.rows_per_batch = shard.rows_per_batch
        self.reads: list[ReadRow | None] = [None] * len(footer.batches)

    def would_cost(self, batches: Iterable[int]) -> int:
        """Tell what this and some more record batches cost, in bytes, requests included."""
        wanted = self._seen.union(batches)
        return sum(self._footer.batches[number][1] + REQUEST_BYTES for number in wanted) + REQUEST_BYTES

    def batch(self, number: int) -> pa.RecordBatch:
        """Give one record batch, which is fetched unless it is there: views of a mapped file.

        Raises:
            CorruptShardError: It is not what the index describes.
            StorageError: The remote failed.
        """
        self._seen.add(number)
        for _ in range(_OPENINGS):
            path = self._cache.fetch_batch(self._shard, number, self._number)
            try:
                reader = ipc.open_file(path)
                ipc.check_batch(path, reader.schema, 0)
                batch: pa.RecordBatch = reader.get_batch(0)
            except (MissingShardError, CorruptShardError, pa.ArrowException, OSError) as error:
                # Anything in a cache may be deleted or damaged at any moment; what is mapped already is safe.
                path.unlink(missing_ok=True)
                failure = error
            else:
                break
        else:
            raise CorruptShardError(f"{path}: cannot be opened, {_OPENINGS} times ({failure})") from failure
        self._files[number] = (path, file_number(path))
        rows = min(self.rows_per_batch, self._shard.num_samples - number * self.rows_per_batch)
        if batch.num_rows != rows:
            raise CorruptShardError(f"{path}: holds {batch.num_rows} rows, the index says {rows}")
        return batch

    def open_batch(self, number: int) -> ReadRow:
        """Make the function that reads the rows of one record batch, and keep it in ``reads``."""
        batch = self.batch(number)
        read = self.reads[number] = self._bind(batch)
        self._memory.add(self.reads, number, 1)
        return read

    def is_deleted(self, number: int) -> bool:
        """Tell whether the file of a record batch is gone or was replaced, so that only maps keep its space."""
        path, file = self._files.get(number, (None, None))
        return path is None or is_gone(path, file)

    def drop_deleted(self) -> int:
        """Let go of record batches whose files are gone.

        Returns:
            How many are left.
        """
        for number in list(self._files):
            if self.reads[number] is None or self.is_deleted(number):
                self.reads[number] = None
                del self._files[number]
        return len(self._files)


def costs_more_than_shard(shard: Shard, num_batches: int) -> bool:
    """Guess, before anything of a shard is known, whether some record batches cost more than all of it."""
    all_batches = -(-shard.num_samples // shard.rows_per_batch)
    by_range = shard.file_bytes * num_batches // all_batches + (num_batches + 1) * REQUEST_BYTES
    return by_range >= shard.file_bytes + REQUEST_BYTES
