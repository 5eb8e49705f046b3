"""The directory and the remote that a writer's shards go to."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from arrowstream.errors import DirectoryInUseError, RemoteNotFoundError, StorageError, UnwritableError
from arrowstream.index import INDEX_NAME, Index, parse_index
from arrowstream.storage import Storage

Out = str | os.PathLike[str] | tuple[str | os.PathLike[str], str]


class Output:
    """Where files go: a directory of this machine, and from there perhaps to a remote.

    Args:
        out: Directory, URL, or both as ``(local, remote)``.
        keep_local: Whether files stay in the directory once they are in the remote.
        attempts: Attempts in all for each upload.
        options: Passed to fsspec's file system.
    """

    def __init__(self, out: Out, *, keep_local: bool, attempts: int, options: Mapping[str, Any] | None) -> None:
        local, remote = out if isinstance(out, tuple) else (None, out)
        storage = Storage(os.fspath(remote), options=options, attempts=attempts)
        if local is None and storage.local_path is not None:
            local = storage.local_path
        self._directory = Path(local) if local is not None else None
        self._remote = storage if self._directory is None or storage.local_path != self._directory else None
        self._keeps_local = self._remote is None or keep_local
        self._is_staging = False  # whether the directory is one that nobody asked for

    def claim(self, *, exist_ok: bool, first_shard: str) -> None:
        """Make sure that nothing else lies where the dataset will be, before anything is written.

        Raises:
            DirectoryInUseError: Something does, and ``exist_ok`` is false.
            UnwritableError: The directory cannot be made or emptied.
        """
        try:
            if self._directory is not None and self._directory.exists() and any(self._directory.iterdir()):
                if not exist_ok:
                    raise DirectoryInUseError(
                        f"{self._directory}: is not empty; give an empty directory, exist_ok=True to delete its "
                        f"files, or append=True to add to them"
                    )
                shutil.rmtree(self._directory)
        except OSError as error:
            if isinstance(error, DirectoryInUseError):
                raise
            raise _unwritable(error, Path(error.filename or self._directory or ".")) from error
        if self._remote is not None:
            for name in (INDEX_NAME, first_shard):
                if self._remote.exists(name):
                    if not exist_ok:
                        raise DirectoryInUseError(
                            f"{self._remote.url_of(name)}: exists already; give an empty directory, or exist_ok=True "
                            f"to write over it"
                        )
                    # The old index would make a dataset of old and new shards.
                    self._remote.delete(name)
        self.open()

    def open(self) -> None:
        """Make sure that there is a directory to write to, whatever lies in it.

        Raises:
            UnwritableError: It cannot be made.
        """
        if self._directory is None:
            self._is_staging = True
            self._directory = Path(tempfile.mkdtemp(prefix="arrowstream-write-"))
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(error, self._directory) from error

    @property
    def directory(self) -> Path:
        """The directory of this machine, once it was claimed."""
        if self._directory is None:
            raise RuntimeError("the output was not claimed")
        return self._directory

    def publish(self, temporary: Path, name: str) -> None:
        """Give a finished file its name, and bring it to the remote if there is one."""
        path = self.directory / name
        temporary.replace(path)
        if self._remote is not None:
            try:
                self._remote.upload(path, name)
            except StorageError as error:
                if not self._is_staging:
                    error.add_note(f"{path}: is kept, and so are the other files that were not uploaded")
                raise
            if not self._keeps_local:
                path.unlink()

    def write(self, name: str, data: bytes) -> None:
        """Write a small file as a whole, in the directory and in the remote."""
        Storage(str(self.directory)).write(name, data)
        if self._remote is not None:
            self._remote.write(name, data)

    def append_index(self, added: Index, version: int) -> bytes:
        """Put the shards of an index behind those that are there already, and write the whole.

        Writers of one machine may do so at the same time; those of several machines must not, for no store has a lock.

        Args:
            added: What the writer wrote.
            version: Of the JSON.

        Returns:
            The whole index as it was written.

        Raises:
            IndexFormatError: The index that is there is damaged.
        """
        target = self._remote or Storage(str(self.directory))
        with _locked(self.directory):
            present = Index(groups=())
            with contextlib.suppress(RemoteNotFoundError):
                present = parse_index(target.read(INDEX_NAME), target.url_of(INDEX_NAME))
            groups = (*present.groups, *[group for group in added.groups if len(group) or not present.groups])
            text = Index(groups=groups, metadata={**present.metadata, **added.metadata}).to_json(version)
            self.write(INDEX_NAME, text)
        return text

    def close(self, *, whole: bool) -> None:
        """Remove the local directory if it was only the way to the remote.

        Args:
            whole: Whether all files are in the remote. What is not stays in a directory that the user named.
        """
        if not self._keeps_local and (whole or self._is_staging):
            shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes of this machine from the same; the kernel frees the lock when its holder dies."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # held for as long as it takes to read and write one small file
        yield
    finally:
        os.close(descriptor)


def _unwritable(error: OSError, path: Path) -> UnwritableError:
    return UnwritableError(error.errno, f"{error.strerror}; give another directory as out=", str(path))
