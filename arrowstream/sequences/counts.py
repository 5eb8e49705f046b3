"""How many sequences each shard has: what a plan has to know of shards that it has not seen.

Where every document has the same number of tokens, the index says it. Elsewhere each shard is read once; what was found
is kept as ``sequences-….json``, beside the index (``arrowstream pack``) or in the cache of who needed it.
"""

import contextlib
import json
import logging
import os
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from arrowstream.cache.directory import writable
from arrowstream.cache.locks import locked
from arrowstream.cache.names import LOCK
from arrowstream.columns.declared import declared_encodings
from arrowstream.errors import IndexFormatError, RemoteAccessError, RemoteNotFoundError
from arrowstream.index import PRIVATE_FOLDER, Index
from arrowstream.prefetch import Prefetcher
from arrowstream.progress import Progress
from arrowstream.reader import Reader
from arrowstream.sequences.packing import IntArray, Method, Packing, Remainder
from arrowstream.sequences.tokens import TokenShard, tokens_of_each
from arrowstream.stream import Stream

VERSION = 1
# How long to wait for another process that is counting; then it is done twice.
_PATIENCE_S = 3600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SequenceCounts:
    """What a packing makes of the shards of one stream.

    Attributes:
        num_sequences: Of each shard, int64 of shape (shards,).
        num_tokens: Of each shard, int64 of shape (shards,).
    """

    num_sequences: IntArray
    num_tokens: IntArray

    def to_json(self, index: Index, packing: Packing) -> bytes:
        """Write the text of the file."""
        tree = {
            "version": VERSION,
            "data": data_of(index),
            "packing": dict(packing.settings),
            "sequences": self.num_sequences.tolist(),
            "tokens": self.num_tokens.tolist(),
        }
        return json.dumps(tree).encode()

    @classmethod
    def parse(cls, text: bytes, index: Index, packing: Packing, source: str) -> "SequenceCounts":
        """Read the text of the file.

        Raises:
            IndexFormatError: It is damaged, or speaks of other data or another packing than its name says.
        """
        try:
            tree: dict[str, Any] = json.loads(text)
            version, data, settings = tree["version"], tree["data"], tree["packing"]
            counts = [np.array(tree[name], np.int64) for name in ("sequences", "tokens")]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise IndexFormatError(
                f"{source}: is no list of sequences ({error!r}); delete it, or pack again"
            ) from error
        if version != VERSION:
            raise IndexFormatError(f"{source}: is of version {version!r}; this release reads version {VERSION}")
        if data != data_of(index) or settings != packing.settings:
            raise IndexFormatError(f"{source}: was made for other data or another packing ({settings}); delete it")
        if any(each.shape != (index.num_shards,) or (each < 0).any() for each in counts):
            raise IndexFormatError(
                f"{source}: does not have one number for each of {index.num_shards} shards; delete it"
            )
        return cls(num_sequences=counts[0], num_tokens=counts[1])


def data_of(index: Index) -> str:
    """Give what identifies the rows of the shards, whatever compression or place they have."""
    digest = xxhash.xxh3_128(index.samples_per_shard.tobytes())
    for group in index.groups:
        digest.update("".join(group.content).encode())
    return digest.hexdigest()


def file_name(index: Index, packing: Packing) -> str:
    """Name the file of a packing; data that has changed has another one."""
    key = json.dumps([VERSION, data_of(index), dict(packing.settings)], sort_keys=True)
    return f"sequences-{xxhash.xxh3_64_hexdigest(key.encode())}.json"


def counts_in_index(index: Index, packing: Packing) -> SequenceCounts | None:
    """Count from the index alone; None where documents differ in length, or nobody knows."""
    tokens_each = []
    for group in index.groups:
        encoding = declared_encodings(group.columns).get(packing.column)
        tokens = tokens_of_each(encoding.arrow_type) if encoding is not None else None
        if tokens is None:
            return None
        tokens_each.append(np.full(len(group), tokens, np.int64))
    sizes = np.concatenate([np.empty(0, np.int64), *tokens_each])
    documents = index.samples_per_shard
    num_tokens = sizes * documents
    if packing.method == "concat":
        count = np.vectorize(packing.count_concatenated, otypes=[np.int64])
        return SequenceCounts(num_sequences=count(num_tokens), num_tokens=num_tokens)
    whole, rest = np.divmod(sizes, packing.seq_len)
    per_sequence = packing.seq_len // np.maximum(rest, 1)
    num_sequences = whole * documents + np.where(rest > 0, -(-documents // per_sequence), 0)
    return SequenceCounts(num_sequences=num_sequences, num_tokens=num_tokens)


def count_sequences(reader: Reader, shards: Iterable[int], packing: Packing, *, shown: bool) -> SequenceCounts:
    """Read shards, each once, and count their sequences.

    Args:
        reader: Of the dataset.
        shards: Their numbers.
        packing: What sequences are.
        shown: Whether there is a progress bar.
    """
    numbers = list(shards)
    found = np.zeros((2, len(numbers)), np.int64)
    prefetcher = Prefetcher()
    with Progress("counting sequences", total=len(numbers), unit="shards", shown=shown) as progress:
        try:
            reader.request(np.array(numbers, np.int64), np.zeros(len(numbers), np.int64), prefetcher)
            for place, number in enumerate(numbers):
                shard = TokenShard(reader.open_shard(number, prefetcher), packing, reader.describe(number))
                found[:, place] = shard.num_sequences, shard.num_tokens
                progress.advance(1)
        finally:
            prefetcher.cancel()
    return SequenceCounts(num_sequences=found[0], num_tokens=found[1])


def load_counts(reader: Reader, stream: Stream, shards: range, packing: Packing) -> SequenceCounts:
    """Find out what a packing makes of a stream: from its index, from a file, or by reading its shards.

    Args:
        reader: Of all streams.
        stream: One of them.
        shards: The numbers that its shards have in the reader.
        packing: What sequences are.

    Raises:
        IndexFormatError: A file is damaged.
        ShardError: A shard is missing or corrupt.
        StorageError: The remote failed.
        UnwritableError: The cache, which keeps the counts, takes no file.
    """
    index = stream.index
    known = counts_in_index(index, packing)
    if known is not None:
        return known
    name = file_name(index, packing)
    directory = stream.cache.directory
    cached = directory / PRIVATE_FOLDER / name
    with writable(directory):
        found = _read_cached(cached, index, packing)
    found = found or _read_packed(stream, name, index, packing)
    if found is not None:
        return found
    with writable(directory):
        cached.parent.mkdir(parents=True, exist_ok=True)
    with writable(directory), locked(directory / LOCK, name, timeout_s=_PATIENCE_S, what="counting the sequences"):
        found = _read_cached(cached, index, packing)
        if found is None:
            _log.info(
                "%s: has no %s; every shard is read once to count its sequences. `arrowstream pack` does it for all",
                stream.storage.url,
                name,
            )
            found = count_sequences(reader, shards, packing, shown=sys.stderr.isatty())
            _write(cached, found.to_json(index, packing))
    return found


def _read_cached(path: Path, index: Index, packing: Packing) -> SequenceCounts | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    return SequenceCounts.parse(text, index, packing, str(path))


def _read_packed(stream: Stream, name: str, index: Index, packing: Packing) -> SequenceCounts | None:
    # A store that may not be listed says of what does not exist that it may not be read.
    with contextlib.suppress(RemoteNotFoundError, RemoteAccessError):
        return SequenceCounts.parse(stream.storage.read(name), index, packing, stream.storage.url_of(name))
    return None


def _write(path: Path, text: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def pack_sequences(
    dataset: str | os.PathLike[str],
    *,
    column: str,
    seq_len: int,
    method: Method = "concat",
    remainder: Remainder = "drop",
    dtype: str | None = None,
    split: str | None = None,
    storage_options: dict[str, Any] | None = None,
    progress: bool = False,
) -> SequenceCounts:
    """Count the sequences of a dataset once, and store the counts beside its index for all who read it.

    Args:
        dataset: Directory or URL that holds ``index.json`` and the shards.
        column: The column of tokens.
        seq_len: Tokens of a sequence.
        method: ``concat`` or ``best_fit``.
        remainder: ``drop`` or ``pad``.
        dtype: Of the tokens, for a column of bytes or text.
        split: Subdirectory of the dataset.
        storage_options: Passed to fsspec's file system as they are.
        progress: Whether there is a bar on standard error.

    Raises:
        ValueError: An argument is out of range.
        EncodingError: The column holds no tokens.
        StorageError: The dataset cannot be read, or takes no files.
    """
    packing = Packing(column=column, seq_len=seq_len, method=method, remainder=remainder, dtype=dtype)
    stream = Stream(remote=dataset, split=split or "", storage_options=storage_options)
    reader = Reader([stream], allow_unsafe_types=True, random_access="shard")
    index = stream.index
    found = counts_in_index(index, packing)
    if found is None:
        found = count_sequences(reader, range(index.num_shards), packing, shown=progress)
        stream.storage.write(file_name(index, packing), found.to_json(index, packing))
    return found
