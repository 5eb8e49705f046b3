"""A stream: one directory of shards, near or far, with its index and its cache."""

import contextlib
import hashlib
import os
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from arrowstream.cache import ShardCache, cached_name, wrapping
from arrowstream.cache.names import check_names, wrapping_of
from arrowstream.errors import (
    IndexFormatError,
    MissingShardError,
    RemoteAccessError,
    RemoteNotFoundError,
    StorageError,
)
from arrowstream.index import INDEX_NAME, Index, Shard, parse_index
from arrowstream.plan.mosaic.weights import Weight
from arrowstream.registry import format_names, formats_of, load_format
from arrowstream.storage import Storage
from arrowstream.storage.threads import in_thread

#: What a stream does where neither it nor its dataset says otherwise; mosaicml-streaming's values.
DEFAULTS: Mapping[str, Any] = {
    "split": "",
    "download_retry": 2,
    "download_timeout": 60.0,
    "validate_hash": None,
    "keep_zip": False,
}
# For a listing that only makes an error say more.
_GLANCE_TIMEOUT_S = 3.0


class Stream:
    """One source of samples.

    Args:
        remote: Directory or URL that holds ``index.json`` and the shards. None: ``local`` holds them all.
        local: Directory of the cache. None: a folder of the system's temporary directory that is named after the
            remote; a remote that is a directory of this machine is then read in place.
        split: Subdirectory of both.
        proportion: Share of the epoch, relative to the other streams'.
        repeat: Passes through the stream in an epoch.
        choose: Samples of the stream in an epoch. At most one of the three; none is one pass.
        download_retry: Attempts in all for each download.
        download_timeout: Seconds that a request may take.
        validate_hash: Name of the hash that arriving shards are checked with. None: the one every writer stores.
        keep_zip: Whether what was compressed for transport is kept in the cache beside its shard, and used again when
            the shard is gone.
        storage_options: Passed to fsspec's file system as they are.

    Raises:
        ValueError: Neither ``remote`` nor ``local`` is given, more than one weight is, or a number is out of range.
    """

    def __init__(
        self,
        *,
        remote: str | os.PathLike[str] | None = None,
        local: str | os.PathLike[str] | None = None,
        split: str | None = None,
        proportion: float | None = None,
        repeat: float | None = None,
        choose: int | None = None,
        download_retry: int | None = None,
        download_timeout: float | None = None,
        validate_hash: str | None = None,
        keep_zip: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not remote and not local:
            raise ValueError("a stream needs remote= (where the data is), local= (where the cache is), or both")
        if download_retry is not None and download_retry < 1:
            raise ValueError(f"download_retry is {download_retry}; it counts all attempts, so at least 1")
        if download_timeout is not None and download_timeout <= 0:
            raise ValueError(f"download_timeout is {download_timeout} s; expected more than 0")
        self.remote = os.fspath(remote) if remote else None
        self.local = os.fspath(local) if local else None
        self.split = split
        self.weight = Weight(proportion=proportion, repeat=repeat, choose=choose)
        self.download_retry = download_retry
        self.download_timeout = download_timeout
        self.validate_hash = validate_hash
        self.keep_zip = keep_zip
        self.storage_options = dict(storage_options or {})
        self._index: Index | None = None
        self._fingerprint = ""

    def __repr__(self) -> str:
        places = [f"{name}={getattr(self, name)!r}" for name in ("remote", "local", "split") if getattr(self, name)]
        return f"Stream({', '.join(places)})"

    def apply_default(self, default: Mapping[str, Any]) -> None:
        """Take over a dataset's settings where the stream has none of its own."""
        for name, value in default.items():
            if getattr(self, name) is None:
                setattr(self, name, value)

    @property
    def directory(self) -> Path:
        """Where the shards lie, or will lie, on this machine."""
        split = self.split or ""
        if self.local is not None:
            return Path(self.local) / split
        return Storage(self._remote_url).local_path or self._temporary_directory

    @property
    def _temporary_directory(self) -> Path:
        """A cache for those who named none: one folder a remote, which later runs find again."""
        remote = self._remote_url if self.remote is not None else str(self.directory.resolve())
        name = hashlib.blake2s(remote.encode(), digest_size=16).hexdigest()
        return Path(tempfile.gettempdir()) / f"arrowstream-{os.getuid()}" / name

    @property
    def _remote_url(self) -> str:
        remote = self.remote or ""
        return f"{remote.rstrip('/')}/{self.split}" if self.split else remote

    @cached_property
    def storage(self) -> Storage:
        """Where index and shards come from."""
        return Storage(
            self._remote_url if self.remote is not None else str(self.directory),
            options=self.storage_options,
            attempts=self.download_retry or DEFAULTS["download_retry"],
            timeout_s=self.download_timeout or DEFAULTS["download_timeout"],
        )

    @cached_property
    def _in_place(self) -> bool:
        """Whether the shards lie in ``directory`` already, put there by whoever wrote them."""
        source = self.storage.local_path
        return source is not None and source.resolve() == self.directory.resolve()

    @property
    def uses_cache(self) -> bool:
        """Whether any of its shards is fetched or transcoded, rather than mapped in place."""
        return not self._in_place or any(
            wrapping_of(group.format, group.compression) is not None or not load_format(group.format).in_place
            for group in self.index.groups
        )

    @property
    def lock_timeout_s(self) -> float:
        """How long to wait for other processes that are fetching."""
        return 5 * self.storage.timeout_s

    def cache_for(self, shard: Shard) -> ShardCache | None:
        """Give the cache that a shard is fetched into; None when it is mapped where it is.

        A shard of this machine that is no Arrow IPC file, or is wrapped, gets a twin that can be mapped: in a cache of
        its own, unless the directory is itself a cache and holds it.
        """
        if not self._in_place:
            return self.cache
        mapped = wrapping(shard) is None and load_format(shard.format).in_place
        if mapped or (self.directory / cached_name(shard)).is_file():
            return None
        self._drop_outdated_twin(shard)
        return self.cache

    def _drop_outdated_twin(self, shard: Shard) -> None:
        """Forget the twin of a file that was written again since.

        Not every index has hashes, and without them a dataset of the same names and sizes looks the same.
        """
        twin = self.cache.path(shard)
        with contextlib.suppress(FileNotFoundError):
            if twin.stat().st_mtime_ns < (self.directory / shard.basename).stat().st_ctime_ns:
                twin.unlink()

    def shard(self, number: int) -> Shard:
        """Give one shard by its number in the index.

        A cache of mosaicml-streaming that is read in place may hold a shard only without its compression.
        """
        shard = self.index.shard(number)
        codec = wrapping(shard)
        if codec is None or not self._in_place or (self.directory / shard.basename).exists():
            return shard
        raw_name = shard.basename.removesuffix(f".{codec}")
        if not (self.directory / raw_name).is_file():
            return shard
        return replace(shard, basename=raw_name, compression=None, file_bytes=shard.raw_bytes, hashes=shard.raw_hashes)

    @cached_property
    def cache(self) -> ShardCache:
        """Where what cannot be mapped in place is fetched to."""
        return ShardCache(
            self.storage,
            self._temporary_directory if self._in_place else self.directory,
            validate_hash=self.validate_hash,
            keep_zip=bool(self.keep_zip),
            lock_timeout_s=self.lock_timeout_s,
        )

    @property
    def index(self) -> Index:
        """The index, which is read when it is first asked for; from the remote where there is one.

        Raises:
            RemoteNotFoundError: There is none: not a dataset, or its writer did not finish.
            IndexFormatError: It is damaged, or has changed under a dataset that is in use.
            StorageError: The remote failed.
        """
        if self._index is None:
            self._index = self._load_index()
            self._fingerprint = self._index.fingerprint
        return self._index

    def _load_index(self) -> Index:
        local_copy = self.directory / INDEX_NAME
        if self._fingerprint and not self._in_place and local_copy.is_file():
            # A worker process: what its parent read lies here, unless another job has renewed it since.
            index = parse_index(local_copy.read_bytes(), str(local_copy))
            if index.fingerprint == self._fingerprint:
                return index
        index = self._read_index()
        if self._fingerprint and index.fingerprint != self._fingerprint:
            raise IndexFormatError(f"{self.storage.url_of(INDEX_NAME)}: has changed while this dataset was in use")
        return index

    def _read_index(self) -> Index:
        url = self.storage.url_of(INDEX_NAME)
        reading = in_thread(lambda: self.storage.read(INDEX_NAME))
        format_names()  # finds the plugins, which takes as long as the index is on its way
        try:
            text = reading.result()
        except (RemoteNotFoundError, RemoteAccessError) as error:
            # A store that may not be listed says of what does not exist that it may not be read.
            index = self._index_of_remote()
            if index is not None:
                return index
            if isinstance(error, RemoteAccessError):
                raise
            raise RemoteNotFoundError(f"{url}: does not exist; {self._why_no_index()}") from error
        index = parse_index(text, url)
        check_names(index, url)
        if not self._in_place:
            self.cache.keep_index(text, index)
            self.cache.room.sweep(self.cache.directory)
        return index

    def _index_of_remote(self) -> Index | None:
        """Read the index that ``arrowstream index --out`` put into the local directory for a remote that has none."""
        path = self.directory / INDEX_NAME
        if self._in_place or not path.is_file():
            return None
        index = parse_index(path.read_bytes(), str(path))
        return index if index.metadata.get("remote") == self.storage.canonical_url else None

    def _why_no_index(self) -> str:
        """Say whether there are files that only want an index."""
        no_dataset = "there is no dataset, its writer did not finish, or a split= is missing"
        glance = Storage(self.storage.url, options=self.storage_options, attempts=1, timeout_s=_GLANCE_TIMEOUT_S)
        try:
            names = [key for key in glance.list() if formats_of(key)]
        except StorageError:
            return no_dataset
        if not names:
            return no_dataset
        suffixes = " and ".join(sorted({PurePosixPath(name).suffix for name in names}))
        return (
            f"{no_dataset}. The {len(names)} {suffixes} files there (the first is {names[0]}) can be streamed as they "
            f"are with an index of their own; run: arrowstream index {shlex.quote(self.storage.url)}"
        )

    def path_in_place(self, shard: Shard) -> Path:
        """Find a shard that is read where it is.

        Raises:
            MissingShardError: It is not there.
        """
        for name in (cached_name(shard), shard.basename):
            path = self.directory / name
            if path.is_file():
                return path
        raise MissingShardError(f"{path}: does not exist, but the index names it")

    def __getstate__(self) -> dict[str, Any]:
        made_here = {"storage", "_in_place", "cache"}
        return {**{name: value for name, value in self.__dict__.items() if name not in made_here}, "_index": None}
