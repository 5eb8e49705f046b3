"""From the record batches of a shard to its file: threads compress, hash and upload while the caller goes on."""

import errno
import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.compression import compress_file, parse_compression
from arrowstream.errors import ArrowStreamError, UnwritableError
from arrowstream.format import Format
from arrowstream.hashing import hash_file
from arrowstream.index import Shard, ShardGroup
from arrowstream.progress import Progress
from arrowstream.writer.output import Output

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENOENT}


class Pipeline:
    """The shards of one dataset that are being written.

    Args:
        format: How a shard becomes a file.
        output: Where the files go.
        compression: As the user gave it.
        hashes: Names of the hashes to take of each file.
        options: What the format has to know of its files.
        max_workers: Shards under way at a time; each holds its rows in memory.
        progress: Told the bytes of each shard that is done.
    """

    def __init__(
        self,
        format: Format,  # noqa: A002 - the field's term
        output: Output,
        *,
        compression: str | None,
        hashes: Sequence[str],
        options: Mapping[str, Any],
        max_workers: int | None,
        progress: Progress,
    ) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers is {max_workers}; expected at least 1")
        self._format = format
        self._output = output
        self._compression_text = compression or None
        self._compression = parse_compression(compression)
        self._inside = self._compression is not None and self._compression.codec in format.codecs
        self._hashes = hashes
        self._options = options
        self._progress = progress
        workers = max_workers or min(4, (os.cpu_count() or 1) + 1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="arrowstream-write")
        self._room = threading.BoundedSemaphore(workers)
        self._shards: list[Future[Shard]] = []
        self._failure: BaseException | None = None

    def basename(self, number: int) -> str:
        """Name the file of a shard."""
        wrapped = self._compression is not None and not self._inside
        suffix = f".{self._compression.codec}" if self._compression is not None and wrapped else ""
        return f"shard.{number:05d}{self._format.suffix}{suffix}"

    def start(self, schema: pa.Schema, batches: list[pa.RecordBatch]) -> None:
        """Begin to write the next shard; waits while too many are under way."""
        # Each of them ends: what they wait for, an upload, has deadlines.
        self._room.acquire()
        shard = self._pool.submit(self._write, self.basename(len(self._shards)), schema, batches)
        shard.add_done_callback(self._done)
        self._shards.append(shard)

    def _done(self, shard: Future[Shard]) -> None:
        self._room.release()
        if not shard.cancelled() and self._failure is None:
            self._failure = shard.exception()

    def check(self) -> None:
        """Raise what went wrong in the background, if anything did."""
        if self._failure is not None:
            raise self._failure

    def finish(self) -> list[Shard]:
        """Wait for all shards.

        Raises:
            Exception: What went wrong with one of them, as itself.
        """
        return [shard.result() for shard in self._shards]

    def close(self) -> None:
        """Begin no other shard, and wait for those under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _write(self, name: str, schema: pa.Schema, batches: list[pa.RecordBatch]) -> Shard:
        temporary = self._output.directory / f".{name}.{uuid.uuid4().hex}.tmp"
        try:
            shard = self._write_file(temporary, name, schema, batches)
            self._output.publish(temporary, name)
        except OSError as error:
            if error.errno not in _DISK_ERRORS or isinstance(error, ArrowStreamError):
                raise
            raise UnwritableError(
                error.errno, f"{error.strerror}; make room or give another directory as out=", str(temporary.parent)
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._progress.advance(shard.raw_bytes)
        return shard

    def _write_file(self, path: Path, name: str, schema: pa.Schema, batches: list[pa.RecordBatch]) -> Shard:
        compression = self._compression
        inner = compression if self._inside else None
        written = self._format.write(
            path,
            schema,
            batches,
            codec=inner.codec if inner is not None else None,
            level=inner.level if inner is not None else None,
            options=self._options,
        )
        if compression is not None and inner is None:
            wrapped = path.with_suffix(".wrapped")
            try:
                compress_file(path, wrapped, compression)
                wrapped.replace(path)
            finally:
                wrapped.unlink(missing_ok=True)
        return Shard(
            basename=name,
            num_samples=sum(batch.num_rows for batch in batches),
            raw_bytes=written.raw_bytes,
            file_bytes=path.stat().st_size,
            content=written.content,
            hashes=hash_file(path, self._hashes),
            format=self._format.name,
            compression=self._compression_text,
            rows_per_batch=batches[0].num_rows if batches else 0,
        )


def group_of(shards: Sequence[Shard], **settings: object) -> ShardGroup:
    """Put shards into columns."""
    names = shards[0].hashes if shards else ()
    return ShardGroup(
        **settings,  # type: ignore[arg-type]
        basename=[shard.basename for shard in shards],
        num_samples=np.array([shard.num_samples for shard in shards], np.int64),
        raw_bytes=np.array([shard.raw_bytes for shard in shards], np.int64),
        file_bytes=np.array([shard.file_bytes for shard in shards], np.int64),
        content=[shard.content for shard in shards],
        rows_per_batch=np.array([shard.rows_per_batch for shard in shards], np.int64),
        hashes={name: [shard.hashes[name] for shard in shards] for name in names},
    )
