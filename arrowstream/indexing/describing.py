"""What is in one file: its footer is read, or the file once."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from arrowstream.compression import decompress_file
from arrowstream.errors import CorruptShardError, EncodingError, IndexFormatError, UnknownEncodingError
from arrowstream.format import Description, Format
from arrowstream.hashing import hash_stream
from arrowstream.indexing.files import FoundFile
from arrowstream.storage import Entry, RangedFile, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedFile:
    """A file that was looked into."""

    entry: Entry
    format: str
    codec: str | None
    description: Description
    raw_bytes: int
    version: str
    hashes: Mapping[str, str]


def describe_file(
    storage: Storage,
    file: FoundFile,
    *,
    options: Mapping[str, Any],
    hashes: Sequence[str],
    interned: dict[tuple[tuple[str, str], ...], Mapping[str, str]],
) -> DescribedFile:
    """Look into one file.

    Args:
        storage: Where it is.
        file: Which one.
        options: What the user said of the files.
        hashes: Names of the hashes to take of it.
        interned: Columns that other files had; most have the same, and one mapping serves them all.

    Raises:
        CorruptShardError: It is of none of its formats.
        EncodingError: It has a column that no index can declare.
        IndexFormatError: One of its formats does not take the options.
        StorageError: It could not be read.
    """
    entry = file.entry
    far = RangedFile(storage, entry.key, entry.num_bytes)
    try:
        if file.codec is not None:
            kind, description, num_bytes = _describe_wrapped(far, file, file.codec, options)
        else:
            kind, description = _describe(cast("BinaryIO", far), file.formats, options)
            num_bytes = description.raw_bytes if description.raw_bytes is not None else entry.num_bytes
    except (CorruptShardError, EncodingError, IndexFormatError, UnknownEncodingError) as error:
        raise type(error)(f"{storage.url_of(entry.key)}: {error}") from error
    digests = hash_stream(cast("BinaryIO", far), hashes) if hashes else {}
    columns = interned.setdefault(tuple(description.columns.items()), description.columns)
    return DescribedFile(
        entry=entry,
        format=kind.name,
        codec=file.codec or description.compression,
        description=replace(description, columns=columns),
        raw_bytes=num_bytes,
        version=next(iter(digests.values()), far.digest or entry.version),
        hashes=digests,
    )


def _describe(file: BinaryIO, formats: Sequence[Format], options: Mapping[str, Any]) -> tuple[Format, Description]:
    """Have a file described by the first format that recognizes it."""
    for kind in formats:
        try:
            return kind, kind.describe(file, options)
        except CorruptShardError:
            if kind is formats[-1]:
                raise
    raise CorruptShardError("has no format")


def _describe_wrapped(
    far: RangedFile, file: FoundFile, codec: str, options: Mapping[str, Any]
) -> tuple[Format, Description, int]:
    """Unwrap a file into a temporary one, which tells its length besides, and have that described."""
    formats = [kind for kind in file.formats if codec not in kind.codecs]
    if not formats:
        raise CorruptShardError(
            f"is wrapped in {codec}, with which {file.formats[0].name} compresses inside its files; unwrap it first"
        )
    with tempfile.TemporaryDirectory(prefix="arrowstream-index-") as folder:
        arrived, plain = Path(folder) / "arrived", Path(folder) / "plain"
        with arrived.open("wb") as copy:
            while part := far.read(1 << 20):
                copy.write(part)
        num_bytes = decompress_file(arrived, plain, codec, num_bytes=None)
        with plain.open("rb") as unwrapped:
            kind, description = _describe(unwrapped, formats, options)
    return kind, description, num_bytes
