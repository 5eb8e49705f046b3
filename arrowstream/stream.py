"""A stream: one directory of shards, near or far, with its index and its cache."""

import hashlib
import os
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arrowstream.cache import ShardCache, cached_name
from arrowstream.compression import FILE_CODECS
from arrowstream.errors import IndexFormatError, MissingShardError, RemoteNotFoundError, ShardError, UnwritableError
from arrowstream.index import INDEX_NAME, PRIVATE_FOLDER, Index, Shard, parse_index
from arrowstream.plan.mosaic.weights import Weight
from arrowstream.storage import Storage

#: What a stream does where neither it nor its dataset says otherwise; mosaicml-streaming's values.
DEFAULTS: Mapping[str, Any] = {"split": "", "download_retry": 2, "download_timeout": 60.0, "validate_hash": None}


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
        self.storage_options = dict(storage_options or {})
        self._index: Index | None = None
        self._cache: ShardCache | None = None
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
        in_place = Storage(self._remote_url).local_path
        if in_place is not None:
            return in_place
        name = hashlib.blake2s(self._remote_url.encode(), digest_size=16).hexdigest()
        return Path(tempfile.gettempdir()) / f"arrowstream-{os.getuid()}" / name

    @property
    def _remote_url(self) -> str:
        remote = self.remote or ""
        return f"{remote.rstrip('/')}/{self.split}" if self.split else remote

    @property
    def cache(self) -> ShardCache | None:
        """The cache that fetches this stream's shards; None when they are read where they are."""
        if self.remote is None:
            return None
        if self._cache is None:
            attempts = self.download_retry or DEFAULTS["download_retry"]
            timeout_s = self.download_timeout or DEFAULTS["download_timeout"]
            storage = Storage(self._remote_url, options=self.storage_options, attempts=attempts, timeout_s=timeout_s)
            if storage.local_path is not None and storage.local_path.resolve() == self.directory.resolve():
                return None
            self._cache = ShardCache(
                storage, self.directory, validate_hash=self.validate_hash, lock_timeout_s=5 * timeout_s
            )
        return self._cache

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
        cache = self.cache
        if cache is None:
            return self._read_index(Storage(str(self.directory)))
        if self._fingerprint and local_copy.is_file():
            # A worker process: what its parent read lies here, unless another job has renewed it since.
            index = parse_index(local_copy.read_bytes(), str(local_copy))
            if index.fingerprint == self._fingerprint:
                return index
        index = self._read_index(cache.storage)
        if self._fingerprint and index.fingerprint != self._fingerprint:
            raise IndexFormatError(f"{cache.storage.url_of(INDEX_NAME)}: has changed while this dataset was in use")
        return index

    def _read_index(self, storage: Storage) -> Index:
        try:
            text = storage.read(INDEX_NAME)
        except RemoteNotFoundError as error:
            raise RemoteNotFoundError(
                f"{storage.url_of(INDEX_NAME)}: does not exist; there is no dataset, its writer did not finish, or a "
                f"split= is missing"
            ) from error
        index = parse_index(text, storage.url_of(INDEX_NAME))
        if self.cache is not None:
            self._keep_copy(text)
        return index

    def _keep_copy(self, text: bytes) -> None:
        """Put the index beside the cached shards, so that the directory is a dataset of its own."""
        path = self.directory / INDEX_NAME
        temporary = self.directory / PRIVATE_FOLDER / f"{uuid.uuid4().hex}.index"
        try:
            if path.is_file() and path.read_bytes() == text:
                return
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(text)
            temporary.replace(path)
        except OSError as error:
            raise UnwritableError(
                error.errno, f"{error.strerror}; give another directory as local=", str(self.directory)
            ) from error

    def path_in_place(self, shard: Shard) -> Path:
        """Find a shard that is read where it is.

        Raises:
            MissingShardError: It is not there.
            ShardError: It is wrapped by a compression of the whole file.
        """
        for name in (cached_name(shard), shard.basename):
            path = self.directory / name
            if path.is_file():
                break
        else:
            raise MissingShardError(f"{path}: does not exist, but the index names it")
        if path.name.endswith(tuple(f".{codec}" for codec in FILE_CODECS)):
            raise ShardError(
                f"{path}: is compressed as a whole ({shard.compression}) and cannot be read in place; pass "
                f"remote={str(self.directory)!r} and a directory for the cache as local="
            )
        return path

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None, "_cache": None}
