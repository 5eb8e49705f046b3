"""A directory of a cache: what lies in it, and which of its files may be fetched again."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from arrowstream.cache import names, reservations
from arrowstream.index import INDEX_NAME, PRIVATE_FOLDER, Index

_OWN = (names.NAMES, names.LOCK, names.LEDGER, names.TEMPORARY)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile:
    """A file that may be fetched again.

    Attributes:
        directory: Of the cache.
        path: The file.
        num_bytes: Its length.
        used_ns: When it was last opened, in nanoseconds since 1970.
        shard: Number of the shard that it is, or is a part of; None: another dataset's.
        batch: Number of the record batch that it is; None: all of the shard, or its footer.
        is_footer: Whether it is a footer, which every record batch of its shard needs.
    """

    directory: Path
    path: Path
    num_bytes: int
    used_ns: int
    shard: int | None
    batch: int | None
    is_footer: bool

    def used_at(self, used_ns: int) -> "CachedFile":
        """Give the same file, opened at another time."""
        return replace(self, used_ns=used_ns)


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A directory of a cache, and the index of what may lie in it.

    Attributes:
        directory: Of the cache.
        index: Of the shards that are fetched into it.
        first_shard: Number that the dataset gives the first of them.
    """

    directory: Path
    index: Index
    first_shard: int
    _others: dict[str, frozenset[str]] = field(default_factory=dict)  # names that other indexes give, by their lists

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each shard by the names that its files have."""
        numbers = {}
        for number, both in enumerate(names.cached_names(self.index), self.first_shard):
            numbers.update(dict.fromkeys(both, number))
        return numbers

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Find all files of the cache, but not those of another one that lies in it."""
        return self._walk("")

    def survey(self) -> tuple[int, list[CachedFile]]:
        """Sum up what lies here.

        Returns:
            Bytes in all, reservations included, and the files that may be fetched again.
        """
        used = 0
        files = []
        others = self.named_by_others()
        reserved: dict[str, list[int]] = defaultdict(lambda: [0, 0])  # and actual, of each temporary prefix
        # Temporary files first: what gets its name meanwhile, where there are no locks, is counted twice then.
        temporary = list(self._walk(names.TEMPORARY))
        rest = (each for each in self._walk("") if not each[0].startswith(names.TEMPORARY))
        for name, status in chain(temporary, rest):
            if name.startswith(names.TEMPORARY):
                prefix, _, step = name.rpartition("/")[2].partition(".")
                reserved[prefix][f".{step}" != reservations.SUFFIX] += status.st_size
                continue
            used += status.st_size
            file = self.describe(name, status, others)
            if file is not None:
                files.append(file)
        return used + sum(map(max, reserved.values())), files

    def describe(self, name: str, status: os.stat_result, others: frozenset[str]) -> CachedFile | None:
        """Tell what a file is; None where nobody says that it could be fetched again.

        Args:
            name: Below the directory.
            status: Of the file.
            others: What :meth:`named_by_others` gives.
        """
        if name == INDEX_NAME or name.startswith(_OWN):
            return None
        number = self.numbers.get(names.shard_of(name))
        if number is None and name not in others and not name.startswith(PRIVATE_FOLDER):
            return None
        return CachedFile(
            directory=self.directory,
            path=self.directory / name,
            num_bytes=status.st_size,
            used_ns=status.st_atime_ns,
            shard=number,
            batch=names.batch_of(name) if number is not None else None,
            is_footer=number is not None and name.endswith(names.FOOTER) and name.startswith(names.BATCHES),
        )

    def named_by_others(self) -> frozenset[str]:
        """Give the names that all indexes give whose shards may lie here."""
        found: frozenset[str] = frozenset()
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.directory / names.NAMES):
                if name not in self._others:
                    text = (self.directory / names.NAMES / name).read_text()
                    self._others[name] = frozenset(text.splitlines())
                found |= self._others[name]
        return found

    def _walk(self, below: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            entries = list(os.scandir(self.directory / below))
        except FileNotFoundError:
            return
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            try:
                if not entry.is_dir(follow_symlinks=False):
                    yield name, entry.stat(follow_symlinks=False)
                elif not os.path.isdir(f"{entry.path}/{PRIVATE_FOLDER}"):
                    yield from self._walk(name)
            except FileNotFoundError:
                continue  # somebody else needed the room
