"""The shards of one remote directory that lie on this machine's disk, each of which is whole or not there.

A shard arrives under a temporary name, is checked (length, hash, every record batch), written to the disk and renamed.
So a process may be killed at any moment, any file may be deleted at any moment, and several jobs may share a directory.
A lock saves them from fetching the same shard twice; nothing but time is lost when it fails.
"""

import contextlib
import shutil
from pathlib import Path

from arrowstream import ipc
from arrowstream.cache import names
from arrowstream.cache.directory import declining, flush, holds, mark_used, writable
from arrowstream.cache.names import cached_name, cached_names, transport_name, wrapping
from arrowstream.cache.record_batches import RecordBatchCache
from arrowstream.cache.room import Scratch
from arrowstream.compression import decompress_file
from arrowstream.errors import CorruptShardError, MissingShardError, RemoteNotFoundError
from arrowstream.hashing import DEFAULT_HASH, hash_file, new_hash
from arrowstream.index import INDEX_NAME, Index, Shard
from arrowstream.registry import load_format
from arrowstream.storage import Storage


class ShardCache(RecordBatchCache):
    """The shards of one remote directory that lie on this machine's disk.

    Args:
        storage: Where the shards come from.
        directory: Where they go.
        validate_hash: The hash to check them with; None: the one that every writer stores.
        keep_zip: Whether what was compressed for transport is kept beside its shard.
        attempts: How often a shard whose bytes are wrong is fetched before it is an error.
        lock_timeout_s: How long to wait for another process that is fetching the same shard, before fetching it too.

    Attributes:
        room: What the directory may hold; shared with other caches of a dataset.
    """

    def __init__(
        self,
        storage: Storage,
        directory: Path,
        *,
        validate_hash: str | None = None,
        keep_zip: bool = False,
        attempts: int = 2,
        lock_timeout_s: float = 300.0,
    ) -> None:
        super().__init__(storage, directory, attempts=attempts, lock_timeout_s=lock_timeout_s)
        self._validate_hash = validate_hash
        self._keep_zip = keep_zip

    def path(self, shard: Shard) -> Path:
        """Name the place of a shard, whether it is there or not."""
        return self.directory / cached_name(shard)

    def has(self, shard: Shard) -> bool:
        """Tell whether the shard lies in the cache, with the content that the index asks for."""
        return holds(self.path(shard), shard)

    def keep_index(self, text: bytes, index: Index) -> None:
        """Put the index beside the shards, so that the directory is a dataset of its own.

        Raises:
            UnwritableError: The directory or the disk does not take it.
        """
        path = self.directory / INDEX_NAME
        with writable(self.directory), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if path.read_bytes() == text:
                return
        # What it names may be fetched again, and deleted by whoever needs the room.
        both = (name for pair in cached_names(index) for name in pair)
        listed = "\n".join(dict.fromkeys(both)).encode()
        with writable(self.directory), self.room.scratch(self.directory, len(text) + len(listed)) as scratch:
            (self.directory / names.NAMES).mkdir(parents=True, exist_ok=True)
            scratch.write(listed, f"{names.NAMES}/{index.fingerprint}")
            scratch.write(text, INDEX_NAME)

    def peak_bytes(self, shard: Shard) -> int:
        """Tell how many bytes lie on the disk at most while a shard is fetched and unpacked."""
        if not shard.compression and load_format(shard.format).in_place:
            return shard.file_bytes
        # Of a format that is transcoded nobody knows the length; most values take less room in Arrow than as text.
        transcoded = 0 if load_format(shard.format).in_place else shard.raw_bytes
        copied = shard.file_bytes if self._keep_zip and wrapping(shard) is None else 0
        return shard.file_bytes + shard.raw_bytes + transcoded + copied

    def fetch(self, shard: Shard, number: int | None = None) -> Path:
        """Give the shard's file, which is fetched unless it is there.

        Args:
            shard: What the index says of it.
            number: Of the shard in the dataset.

        Raises:
            StorageError: The remote failed.
            CorruptShardError: What the remote holds is not what the index describes.
            CacheLimitError: The cache may hold less than what is needed at once.
            UnwritableError: The directory or the disk takes no file.
        """
        return self._fetch(shard, number, ahead=False)

    def fetch_ahead(self, shard: Shard, number: int | None = None) -> Path | None:
        """Fetch a shard that is not needed yet: None where something that is needed sooner would have to go for it."""
        with declining():
            return self._fetch(shard, number, ahead=True)
        return None

    def fetch_batch_ahead(self, shard: Shard, batch: int, number: int | None = None) -> Path | None:
        """Fetch a record batch that is not needed yet, or its shard where it cannot be had alone.

        Returns:
            None where something that is needed sooner would have to go for it.
        """
        if self.has(shard):
            return self.path(shard)
        with declining():
            if self.fetch_footer(shard) is None:
                return self._fetch(shard, number, ahead=True)
            return self._fetch_batch(shard, batch, number, ahead=True)
        return None

    def _fetch(self, shard: Shard, number: int | None, *, ahead: bool) -> Path:
        path = self.path(shard)
        if self.has(shard):
            mark_used(path)
            return path
        with writable(self.directory), self.claimed(cached_name(shard)):
            if not self.has(shard):
                self.fill(
                    self.peak_bytes(shard),
                    (number, None),
                    lambda scratch: self._fetch_claimed(shard, path, scratch, number),
                    ahead=ahead,
                )
        return path

    def _fetch_claimed(self, shard: Shard, path: Path, scratch: Scratch, number: int | None) -> None:
        arrived, plain, ready = (scratch.file(step) for step in ("arrived", "plain", "ready"))
        for attempt in range(1, self._attempts + 1):
            try:
                self._arrive(shard, arrived, plain, ready)
                break
            except CorruptShardError as error:
                if attempt == self._attempts:
                    raise CorruptShardError(
                        f"{self.storage.url_of(shard.basename)}: {error}; fetched {attempt} times with the same "
                        f"result: the shard or the index is damaged, write it again"
                    ) from error
        if not load_format(shard.format).in_place:
            scratch.grow((number, None))
        flush(ready)
        kept = self._kept(shard)
        if kept is not None and arrived.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            scratch.put(arrived, str(transport_name(shard)))
        scratch.put(ready, cached_name(shard))
        flush(path.parent)

    def _kept(self, shard: Shard) -> Path | None:
        """Name the place where a shard's compressed file is kept; None where it is not."""
        name = transport_name(shard) if self._keep_zip else None
        return self.directory / name if name is not None else None

    def _arrive(self, shard: Shard, arrived: Path, plain: Path, ready: Path) -> None:
        source = self._transport(shard, arrived)
        codec = wrapping(shard)
        if codec is not None:
            decompress_file(source, plain, codec, num_bytes=shard.raw_bytes)
        elif self._keep_zip and shard.compression:
            shutil.copyfile(source, plain)  # a format may move what it is given
        else:
            source.replace(plain)
        if not self._keep_zip:
            arrived.unlink(missing_ok=True)
        load_format(shard.format).transcode(plain, ready, shard)
        reader = ipc.open_file(ready)
        ipc.validate(reader, ready, shard.num_samples)
        if ipc.content_of(reader.schema) != shard.content:
            raise CorruptShardError(
                f"holds the content {ipc.content_of(reader.schema)!r}, the index says {shard.content!r}"
            )

    def _transport(self, shard: Shard, arrived: Path) -> Path:
        """Give the shard's file as it was written: that which was kept, or what the remote sends."""
        kept = self._kept(shard)
        if kept is not None and kept.is_file():
            name, expected = self._expected_hash(shard)
            try:
                _check_bytes(shard, kept, name, hash_file(kept, [name])[name] if name is not None else None, expected)
            except CorruptShardError:
                kept.unlink(missing_ok=True)  # of an older dataset, or damaged
            else:
                return kept
        name, expected = self._expected_hash(shard)
        digest = new_hash(name) if name is not None else None
        try:
            # Hashed while it arrives: afterwards would be a second pass.
            look = digest.update if digest is not None else None
            self.storage.download(shard.basename, arrived, num_bytes=shard.file_bytes, look=look)
        except RemoteNotFoundError as error:
            raise MissingShardError(
                f"{self.storage.url_of(shard.basename)}: does not exist, but the index names it; "
                f"was it deleted, or is the dataset being written again?"
            ) from error
        _check_bytes(shard, arrived, name, digest.hexdigest() if digest is not None else expected, expected)
        return arrived

    def _expected_hash(self, shard: Shard) -> tuple[str | None, str | None]:
        """Give the name and the digits of the hash that a shard's file is checked with; None, None: of none."""
        name = self._validate_hash or (DEFAULT_HASH if DEFAULT_HASH in shard.hashes else None)
        if name is not None and name not in shard.hashes:
            written = ", ".join(sorted(shard.hashes)) or "none"
            raise ValueError(
                f"{self.storage.url_of(shard.basename)}: validate_hash={name!r} was not written; hashes: {written}"
            )
        return name, shard.hashes[name] if name is not None else None


def _check_bytes(shard: Shard, file: Path, name: str | None, found: str | None, expected: str | None) -> None:
    num_bytes = file.stat().st_size
    if num_bytes != shard.file_bytes:
        raise CorruptShardError(f"is {num_bytes} bytes long, the index says {shard.file_bytes}")
    if found != expected:
        raise CorruptShardError(f"its {name} is {found}, the index says {expected}")
