"""Record batches of shards that do not lie in the cache as a whole: each an Arrow IPC file of its own.

They are not written through to the disk: whoever opens one compares its checksum.
"""

import contextlib
from pathlib import Path

import pyarrow as pa

from arrowstream import ipc
from arrowstream.cache import names
from arrowstream.cache.directory import CacheDirectory, holds, mark_used, writable
from arrowstream.cache.ranges import Footer, read_batch, read_footer
from arrowstream.cache.room import Scratch
from arrowstream.cache.victims import Place
from arrowstream.errors import CorruptShardError
from arrowstream.index import Shard
from arrowstream.storage import Storage

# What a file of one record batch has beside its message and its schema: entries of its tables, and what fills them up.
_ENTRY_BYTES = 512
# Kept parsed by a process; each has some 200 bytes a record batch.
_MAX_FOOTERS = 1024


class RecordBatchCache(CacheDirectory):
    """The record batches of one remote directory that lie on this machine's disk, one by one.

    Args:
        storage: Where the shards are.
        directory: Where their record batches go.
        attempts: How often one whose bytes are wrong is fetched before it is an error.
        lock_timeout_s: How long to wait for another process that is fetching the same one, before fetching it too.
    """

    def __init__(self, storage: Storage, directory: Path, *, attempts: int, lock_timeout_s: float) -> None:
        super().__init__(directory, lock_timeout_s=lock_timeout_s)
        self.storage = storage
        self._attempts = attempts
        self._footers: dict[tuple[str, str], Footer | None] = {}  # by name and content, the oldest first

    def can_cut(self, shard: Shard) -> bool:
        """Tell whether a shard's record batches are to be had one by one, if its footer vouches for them."""
        return 0 < shard.rows_per_batch < shard.num_samples and names.has_ranges(shard.format, shard.compression)

    def fetch_footer(self, shard: Shard) -> Footer | None:
        """Read what a shard says of its record batches; kept for all processes that share the cache.

        Returns:
            None for a shard whose record batches cannot be read and checked one by one: it has to be fetched.

        Raises:
            StorageError: The remote failed.
            UnwritableError: The directory or the disk takes no file.
        """
        if not self.can_cut(shard):
            return None
        key = (shard.basename, shard.content)
        if key not in self._footers:
            footer = self._load_footer(shard)
            if len(self._footers) >= _MAX_FOOTERS:
                self._footers.pop(next(iter(self._footers)), None)
            self._footers[key] = footer
            return footer
        return self._footers[key]

    def _load_footer(self, shard: Shard) -> Footer | None:
        path = self.directory / names.footer_name(shard)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return Footer.parse(path.read_bytes(), shard)
        with writable(self.directory), self.claimed(names.footer_name(shard)):
            with contextlib.suppress(FileNotFoundError):
                return Footer.parse(path.read_bytes(), shard)
            text = read_footer(self.storage, shard)
            with self.room.scratch(self.directory, len(text)) as scratch:
                scratch.write(text, names.footer_name(shard))
            return Footer.parse(text, shard)

    def fetch_batch(self, shard: Shard, batch: int, number: int | None = None) -> Path:
        """Give one record batch of a shard, as an Arrow IPC file of its own, which is fetched unless it is there.

        Args:
            shard: What the index says of it.
            batch: Number of the record batch in the shard.
            number: Of the shard in the dataset.

        Raises:
            CorruptShardError: The remote does not hold what the shard's footer describes; or a shard was given that
                ``fetch_footer`` gives none for.
            StorageError: The remote failed.
            CacheLimitError: The cache may hold less than what is needed at once.
            UnwritableError: The directory or the disk takes no file.
        """
        return self._fetch_batch(shard, batch, number, ahead=False)

    def _fetch_batch(self, shard: Shard, batch: int, number: int | None, *, ahead: bool) -> Path:
        name = names.batch_name(shard, batch)
        path = self.directory / name
        if holds(path, shard):
            mark_used(path)
            return path
        footer = self.fetch_footer(shard)
        if footer is None:
            raise CorruptShardError(f"{self.storage.url_of(shard.basename)}: its record batches cannot be read alone")
        with writable(self.directory), self.claimed(name):
            if not holds(path, shard):
                most, place = _file_bytes(shard, footer, batch), (number, batch)
                self.fill(
                    most,
                    place,
                    lambda scratch: self._put_batch(shard, footer, batch, scratch, place),
                    ahead=ahead,
                )
        return path

    def _put_batch(self, shard: Shard, footer: Footer, batch: int, scratch: Scratch, place: Place) -> None:
        ready = scratch.file("ready")
        rows = self._read_batch(shard, footer, batch, self._attempts)
        ipc.write_file(ready, footer.schema, [rows], content=shard.content)
        scratch.grow(place)
        scratch.put(ready, names.batch_name(shard, batch))

    def _read_batch(self, shard: Shard, footer: Footer, batch: int, attempts: int) -> pa.RecordBatch:
        try:
            return read_batch(self.storage, shard, footer, batch)
        except CorruptShardError:
            if attempts == 1:
                raise
            return self._read_batch(shard, footer, batch, attempts - 1)


def _file_bytes(shard: Shard, footer: Footer, batch: int) -> int:
    """Tell how long the file of a record batch will be at most, as far as that can be told before it is read."""
    _, length, _ = footer.batches[batch]
    rows = shard.rows_per_batch
    # Of a compressed one nobody knows; most are about as long as the others of their shard.
    unpacked = shard.raw_bytes * rows // max(shard.num_samples, rows) if shard.compression else 0
    return ipc.file_bytes(footer.schema, []) + max(length, unpacked) + _ENTRY_BYTES
