"""A dataset in another format, part by part: what was interrupted goes on with the parts that are missing."""

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from arrowstream import ipc
from arrowstream.cache import ShardCache
from arrowstream.columns.declared import declared_schema
from arrowstream.errors import DirectoryInUseError, MissingColumnError, RemoteNotFoundError
from arrowstream.index import INDEX_NAME, Index, parse_index
from arrowstream.merging import merge_index
from arrowstream.progress import Progress
from arrowstream.storage import Storage
from arrowstream.stream import Stream
from arrowstream.units import parse_bytes
from arrowstream.writer import DEFAULT_SIZE_LIMIT, check_options, writer_of

#: Uncompressed bytes of a part: some shards, so that little is lost when it is interrupted.
PART_BYTES = 1 << 30
_Part = tuple[Storage, range]  # where it goes, and the shards of the source that it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a dataset is converted to.

    Attributes:
        format: The plugin that writes it.
        columns: Those that are kept, in their order; None: all.
        compression: As the writers take it.
        hashes: Likewise.
        size_limit: Likewise.
        options: What the writer of the format takes besides (``separator``, ``newline``).
    """

    format: str = "mds"
    columns: Sequence[str] | None = None
    compression: str | None = None
    hashes: Sequence[str] | None = None
    size_limit: int | str | None = DEFAULT_SIZE_LIMIT
    options: Mapping[str, Any] = field(default_factory=dict)


def convert(
    source: Stream,
    out: str | os.PathLike[str],
    target: Target,
    *,
    jobs: int | None = None,
    part_bytes: int | str = PART_BYTES,
    progress_bar: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Index:
    """Write a dataset's samples, in their order, as another dataset.

    Each part (some shards of the source) becomes a dataset in a folder of its own, whose index goes last; in the end
    their indexes are merged. So a conversion that is run again goes on with what is missing, and one that is finished
    does nothing.

    Args:
        source: The dataset.
        out: Directory or URL.
        target: What it becomes.
        jobs: Processes; None: one a core.
        part_bytes: Uncompressed bytes of the source that make a part.
        progress_bar: Whether to show how many samples are done.
        storage_options: Of ``out``.

    Returns:
        The index of the new dataset.

    Raises:
        DirectoryInUseError: ``out`` holds parts of another conversion.
        EncodingError: The format cannot hold a column.
        MissingColumnError: The source has no such column.
        ValueError: The format only reads, or does not take the options.
    """
    check_options(target.format, target.options)
    root = os.fspath(out).rstrip("/")
    ranges = _ranges(source.index, parse_bytes(part_bytes))
    parts = [(Storage(f"{root}/part-{number:05d}", options=storage_options), run) for number, run in enumerate(ranges)]
    with Progress("converting", total=source.index.num_samples, unit=" samples", shown=progress_bar) as progress:
        for done in _run(partial(_convert_part, source, target), parts, jobs or os.cpu_count() or 1):
            progress.advance(done)
    return merge_index([part.url_of(INDEX_NAME) for part, _ in parts], out, storage_options=storage_options)


def _run(work: Callable[[_Part], int], parts: Sequence[_Part], jobs: int) -> Iterator[int]:
    if jobs == 1 or len(parts) == 1:
        yield from map(work, parts)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(work, part) for part in parts]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ranges(index: Index, part_bytes: int) -> Iterator[range]:
    """Cut the shards of a dataset into runs of about equal size and of like columns; one run when there are none."""
    first = number = size = 0
    columns: Mapping[str, str] | None = None
    for group in index.groups:
        for raw_bytes in group.raw_bytes.tolist():
            if number > first and (size + raw_bytes > part_bytes or group.columns != columns):
                yield range(first, number)
                first, size = number, 0
            size += raw_bytes
            number += 1
            columns = group.columns
    yield range(first, number)


def _convert_part(source: Stream, target: Target, part: _Part) -> int:
    """Write one part, unless it is there; give its number of samples."""
    index = source.index
    storage, shards = part
    metadata = {
        **index.metadata,
        "converted_from": index.fingerprint,
        "converted_to": {**asdict(target), "columns": list(target.columns) if target.columns is not None else None},
        "source_shards": [shards.start, shards.stop],
    }
    try:
        there = parse_index(storage.read(INDEX_NAME), storage.url_of(INDEX_NAME))
    except RemoteNotFoundError:
        there = None
    if there is not None:
        if dict(there.metadata) != metadata:
            raise DirectoryInUseError(f"{storage.url}: holds a part of another conversion; give another directory")
        return there.num_samples
    with closing(_batches(source, shards)) as batches:
        first = next(batches, None)
        schema = first.schema if first is not None else _declared(index)
        with writer_of(target.format)(
            out=storage.url,
            columns=pa.schema([schema.field(name) for name in _chosen(schema, target.columns)]),
            compression=target.compression,
            hashes=target.hashes,
            size_limit=target.size_limit,
            exist_ok=True,
            metadata=metadata,
            storage_options=storage.options,
            **target.options,
        ) as writer:
            for batch in chain([first] if first is not None else [], batches):
                writer.write_batch(batch)
            return writer.finish().num_samples


def _declared(index: Index) -> pa.Schema:
    """Give the columns of a dataset without samples."""
    return declared_schema(index.groups[0].columns if index.groups else {})


def _chosen(schema: pa.Schema, wanted: Sequence[str] | None) -> list[str]:
    for name in wanted or ():
        if name not in schema.names:
            raise MissingColumnError(f"no column is named {name!r}; there are: {', '.join(schema.names)}")
    return list(wanted or schema.names)


def _batches(source: Stream, shards: Iterable[int]) -> Generator[pa.RecordBatch, None, None]:
    with TemporaryDirectory(prefix="arrowstream-convert-") as scratch:
        fetched = ShardCache(source.storage, Path(scratch))
        for number in shards:
            shard = source.index.shard(number)
            in_place = source.cache_for(shard) is None
            path = source.path_in_place(shard) if in_place else fetched.fetch(shard)
            reader = ipc.open_file(path)
            for batch_number in range(reader.num_record_batches):
                if in_place:
                    ipc.check_batch(path, reader.schema, batch_number)
                yield reader.get_batch(batch_number)
            if not in_place:
                path.unlink()
