"""Objects that are files of this machine."""

import contextlib
import mmap
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from arrowstream.errors import RemoteNotFoundError
from arrowstream.storage.entry import Entry
from arrowstream.storage.failures import must_be_readable, reading, unwritable, writing, wrong_length
from arrowstream.storage.ordered_file import Look


@dataclass(frozen=True, slots=True)
class Directory:
    """Objects are the files below a local directory."""

    root: Path

    def size(self, key: str) -> int:
        """Tell how many bytes an object has."""
        path = self.root / key
        with reading(path):
            if path.is_dir():
                raise RemoteNotFoundError(f"{path}: is a directory, expected a file")
            return path.stat().st_size

    def read(self, key: str) -> bytes:
        """Read an object as a whole."""
        with reading(self.root / key):
            return (self.root / key).read_bytes()

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read the bytes from ``start`` up to and without ``stop``, all of them."""
        path = self.root / key
        with reading(path), path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        if len(data) != stop - start:
            raise wrong_length(str(path), self.size(key), f"at least {stop}")
        return data

    def download(self, key: str, path: Path, num_bytes: int | None, look: Look | None) -> None:
        """Copy an object into a file."""
        source = self.root / key
        size = self.size(key)
        if num_bytes is not None and size != num_bytes:
            raise wrong_length(str(source), size, str(num_bytes))
        with reading(source):
            must_be_readable(source)  # from here on, what fails is the other side
        with writing(path):
            shutil.copyfile(source, path)
            if look is not None and size:
                with (
                    path.open("rb") as file,
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
                    memoryview(content) as view,
                ):
                    look(view)

    def upload(self, path: Path, key: str) -> None:
        """Store a file as an object."""
        must_be_readable(path)
        with self._new_file(key) as unfinished:
            shutil.copyfile(path, unfinished)

    def write(self, key: str, data: bytes) -> None:
        """Store bytes as an object."""
        with self._new_file(key) as unfinished:
            unfinished.write_bytes(data)

    @contextlib.contextmanager
    def _new_file(self, key: str) -> Iterator[Path]:
        """Give a temporary name beside the final one; it gets the final one if the block succeeds."""
        path = self.root / key
        unfinished = path.with_name(f".{secrets.token_hex(8)}.tmp")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield unfinished
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)

    def keys(self) -> Iterator[str]:
        """Find the keys of all objects, in any order."""

        def fail(error: OSError) -> None:
            # What is no directory (any more) holds no objects; one that we may not read may hold some.
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise error

        with reading(self.root):
            for folder, _, names in os.walk(self.root, onerror=fail):
                for name in names:
                    if not (name.startswith(".") and name.endswith(".tmp")):
                        yield (Path(folder) / name).relative_to(self.root).as_posix()

    def entries(self) -> Iterator[Entry]:
        """Find all objects with their lengths and versions, in any order."""
        for key in self.keys():
            path = self.root / key
            with reading(path):
                found = path.stat()
            yield Entry(key, found.st_size, str(found.st_mtime_ns))

    def delete(self, key: str) -> None:
        """Delete an object that exists."""
        path = self.root / key
        try:
            path.unlink()
        except FileNotFoundError as error:
            raise RemoteNotFoundError(f"{path}: does not exist") from error
        except OSError as error:
            raise unwritable(path, error) from error
