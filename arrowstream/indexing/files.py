"""Which files of a directory or bucket will be shards, in which order, and which formats they may have."""

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from arrowstream.compression import SUFFIXES
from arrowstream.errors import RemoteNotFoundError
from arrowstream.format import Format
from arrowstream.index import INDEX_NAME
from arrowstream.registry import formats_of, load_format
from arrowstream.storage import Entry, Storage

# What tools leave beside data, by names that data might have.
_NOT_DATA = {INDEX_NAME, "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file that will be looked into: its listing, the formats that it may have, what is wrapped around it."""

    entry: Entry
    formats: Sequence[Format]
    codec: str | None


def select_files(storage: Storage, name: str | None, pattern: str | None) -> list[FoundFile]:
    """Choose the files, in their natural order.

    Args:
        storage: Where they are.
        name: The format of all of them; None: as their suffixes say.
        pattern: Which, by their keys; None: all whose suffixes say something.

    Raises:
        RemoteNotFoundError: There are none.
    """
    chosen = []
    for entry in storage.entries():
        parts = entry.key.split("/")
        if any(part.startswith((".", "_")) for part in parts) or parts[-1] in _NOT_DATA:
            continue
        if pattern is not None and not fnmatch.fnmatchcase(entry.key, pattern):
            continue
        plain, dot_codec = os.path.splitext(entry.key)
        codec = SUFFIXES.get(dot_codec)
        formats = formats_of(plain if codec is not None else entry.key)
        if name is not None and (formats or pattern is not None):
            formats = [load_format(name)]
        if formats:
            chosen.append(FoundFile(entry=entry, formats=formats, codec=codec))
    if not chosen:
        matching = f" that match {pattern!r}" if pattern is not None else ""
        raise RemoteNotFoundError(
            f"{storage.url}: holds no files{matching} of a format that is installed; "
            f"name the format and a pattern if their suffixes do not tell"
        )
    return sorted(chosen, key=lambda file: natural_order(file.entry.key))


def natural_order(key: str) -> list[str | int]:
    """Give what sorts ``part-2`` before ``part-10``."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"(\d+)", key))]
