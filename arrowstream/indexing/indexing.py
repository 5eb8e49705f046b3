"""From the files of a directory or bucket to their index."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import xxhash

from arrowstream.errors import DirectoryInUseError, EncodingError
from arrowstream.hashing import check_hash_names
from arrowstream.index import INDEX_NAME, Index, ShardGroup
from arrowstream.indexing.columns import common_columns
from arrowstream.indexing.describing import DescribedFile, describe_file
from arrowstream.indexing.files import select_files
from arrowstream.progress import Progress
from arrowstream.registry import load_format
from arrowstream.storage import Storage

#: Files that are looked into at a time: far ones wait for the store, near ones for a core.
JOBS_FAR, JOBS_NEAR = 32, 4
#: Where the files are, in the metadata of an index that does not lie beside them.
REMOTE_KEY = "remote"


def index_files(
    source: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    format: str | None = None,  # noqa: A002 - the field's term
    pattern: str | None = None,
    columns: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    hashes: Sequence[str] = (),
    jobs: int | None = None,
    rebuild: bool = False,
    progress_bar: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Index:
    """Write an ``index.json`` for files that exist, so that they can be streamed.

    Args:
        source: Directory or URL that holds the files, at any depth. They become shards in the natural order of their
            names (``part-2`` before ``part-10``); files without rows are left out.
        out: Directory or URL for ``index.json``, where the source takes no file. Give it to the dataset as ``local=``.
        format: Of all files. None: as each file's suffix says.
        pattern: Which files, by their path below the source: ``train/*.parquet``; ``*`` also matches slashes.
        columns: The columns to stream. None: all.
        options: For the format, what the files do not say of themselves.
        hashes: Names of hashes to take of every file, which reads all of it. They are checked on arrival.
        jobs: Files that are looked into at a time. None: 32 of a store, 4 of this machine.
        rebuild: Whether an index that is there already is replaced.
        progress_bar: Whether to show how many files have been looked into.
        storage_options: Passed to fsspec's file system as they are.

    Returns:
        The index that was written.

    Raises:
        DirectoryInUseError: There is an index already, and ``rebuild`` is false.
        RemoteNotFoundError: There are no such files.
        CorruptShardError: A file is not what its suffix or ``format`` says.
        EncodingError: The files' columns differ in a way that no type bridges.
        StorageError: The store failed.
    """
    check_hash_names(hashes)
    storage = Storage(source, options=storage_options)
    target = Storage(out, options=storage_options) if out is not None else storage
    if not rebuild and target.exists(INDEX_NAME):
        raise DirectoryInUseError(f"{target.url_of(INDEX_NAME)}: exists already; to replace it, rebuild the index")
    files = select_files(storage, format, pattern)
    look = partial(describe_file, storage, options=options or {}, hashes=hashes, interned={})
    num_jobs = jobs or (JOBS_NEAR if storage.local_path is not None else JOBS_FAR)
    with (
        Progress("indexing", total=len(files), unit=" files", shown=progress_bar) as progress,
        ThreadPoolExecutor(num_jobs, thread_name_prefix="arrowstream-index") as pool,
    ):
        found = []
        for each in pool.map(look, files):
            progress.advance(1)
            if each.description.num_samples:
                found.append(each)
    declared = common_columns([each for each in found if not load_format(each.format).in_place], columns)
    if columns is not None and (mapped := next((each for each in found if load_format(each.format).in_place), None)):
        raise EncodingError(f"{mapped.entry.key}: is mapped as it is, with all its columns; index it without columns")
    beside = target.canonical_url == storage.canonical_url
    index = Index(
        groups=tuple(_groups(found, declared)), metadata={} if beside else {REMOTE_KEY: storage.canonical_url}
    )
    target.write(INDEX_NAME, index.to_json())
    return index


def _groups(found: Sequence[DescribedFile], columns: Mapping[str, str]) -> Iterator[ShardGroup]:
    """Put runs of like files into groups."""

    def likeness(each: DescribedFile) -> tuple[str, str | None, str, object]:
        options = json.dumps(each.description.options, sort_keys=True)
        own_columns = dict(each.description.columns) if load_format(each.format).in_place else None
        return each.format, each.codec, options, own_columns

    for (name, codec, _, _), run in groupby(found, key=likeness):
        files = list(run)
        in_place = load_format(name).in_place
        rows_per_batch = np.array([each.description.rows_per_batch for each in files], np.int64)
        yield ShardGroup(
            format=name,
            # What is mapped as it is has the columns that it has.
            columns=files[0].description.columns if in_place else columns,
            compression=codec,
            size_limit=None,
            basename=[each.entry.key for each in files],
            num_samples=np.array([each.description.num_samples for each in files], np.int64),
            raw_bytes=np.array([each.raw_bytes for each in files], np.int64),
            file_bytes=np.array([each.entry.num_bytes for each in files], np.int64),
            content=[each.description.content or _content(each, columns) for each in files],
            hashes={algorithm: [each.hashes[algorithm] for each in files] for algorithm in files[0].hashes},
            options=files[0].description.options,
            rows_per_batch=rows_per_batch if in_place else None,
        )


def _content(found: DescribedFile, columns: Mapping[str, str]) -> str:
    """Make up what identifies the rows: another file, or other columns of it, give another identity."""
    known = [found.entry.num_bytes, found.version, found.format, found.description.options, list(columns.items())]
    return xxhash.xxh3_64_hexdigest(json.dumps(known, sort_keys=True).encode())
