"""Analytics over shards: the cached files, opened by Polars, Arrow or DuckDB as they are.

Polars is imported when it is asked for, and never in the worker of a loader: a process that was forked after Polars
had been used hangs when it uses it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.dataset as pads

from arrowstream.dataset import StreamingDataset
from arrowstream.errors import MissingDependencyError, MissingShardError
from arrowstream.tables import common_schema

if TYPE_CHECKING:
    import polars as pl

Source: TypeAlias = StreamingDataset | str | os.PathLike[str]


def scan(source: Source, *, fetch: bool | None = None, sample_id: bool = False) -> "pl.LazyFrame":
    """Query shards with Polars.

    Columns and rows that a query does not need are not read. Tensors come out as Polars' arrays.

    Args:
        source: A dataset; or a directory or URL that holds one.
        fetch: Whether to fetch the shards that are not on this machine. False: query what is in the cache, without
            network. None: False for a dataset, True for a URL.
        sample_id: Whether to add a column ``sample_id``, int64: ``dataset[ids]`` takes what a query found.

    Returns:
        A LazyFrame over all samples whose shards are on this machine, in the order of their ids.

    Raises:
        MissingDependencyError: Polars is not installed.
        MissingShardError: No shard is in the cache, and ``fetch`` is false.
        StorageError: The index, or a shard that has to be fetched, could not be.
        EncodingError: Shards have columns that do not go together; the message names both.
        ValueError: ``sample_id`` is asked for and the dataset has a column of that name.
    """
    try:
        import polars as pl
    except ImportError as error:
        raise MissingDependencyError("scan() needs Polars: pip install 'arrowstream[polars]'") from error
    dataset = _dataset(source)
    paths = _paths(dataset, source, fetch)
    if not paths:
        return _empty_frame(sample_id=sample_id)
    schema, same = _schema(dataset, paths)
    if sample_id and "sample_id" in schema.names:
        raise ValueError("the dataset has a column sample_id of its own; scan it without sample_id=True")
    tensors = [_tensor(pl, field.name, field.type) for field in schema if isinstance(field.type, pa.BaseExtensionType)]
    if not sample_id and same:
        return pl.scan_ipc([path for _, path in paths], glob=False).with_columns(tensors)
    parts = [
        # Polars counts rows in 32 bits; ids have 64.
        pl.scan_ipc(path, glob=False, row_index_name="sample_id")
        .with_columns(pl.col("sample_id").cast(pl.Int64) + first_id)
        .select(*(["sample_id"] if sample_id else []), *[_column(pl, field, cast=not same) for field in schema])
        for first_id, path in paths
    ]
    return pl.concat(parts).with_columns(tensors)


def to_arrow_dataset(source: Source, *, fetch: bool | None = None) -> pads.FileSystemDataset:
    """Open shards as an Arrow dataset, for pyarrow, DuckDB (``duckdb.from_arrow``) and whatever else takes one.

    Args:
        source: A dataset; or a directory or URL that holds one.
        fetch: As for :func:`scan`.

    Returns:
        A dataset over the samples whose shards are on this machine, in the order of their ids.

    Raises:
        MissingShardError: No shard is in the cache, and ``fetch`` is false.
        StorageError: The index, or a shard that has to be fetched, could not be.
        EncodingError: Shards have columns that do not go together; the message names both.
    """
    dataset = _dataset(source)
    paths = _paths(dataset, source, fetch)
    schema, _ = _schema(dataset, paths)
    return pads.dataset([str(path) for _, path in paths], schema=schema, format="ipc")


def _schema(dataset: StreamingDataset, paths: list[tuple[int, Path]]) -> tuple[pa.Schema, bool]:
    """Find the schema that holds the rows of all shards, and tell whether all of them have just that."""
    if not paths:
        return pa.schema([]), True
    first = _read_schema(paths[0][1])
    declared = {
        tuple(group.columns.items()) for stream in dataset.streams for group in stream.index.groups if len(group)
    }
    if len(declared) <= 1:
        return first.remove_metadata(), True
    schemas = {str(path): _read_schema(path) for _, path in paths}
    names = list(dict.fromkeys(name for schema in schemas.values() for name in schema.names))
    common = common_schema(schemas, names)
    plain = pa.schema([pa.field(field.name, field.type) for field in common])
    return plain, all(schema.equals(common) for schema in schemas.values())


def _read_schema(path: Path) -> pa.Schema:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).schema


def _column(pl: Any, field: pa.Field, *, cast: bool) -> Any:
    if not cast or isinstance(field.type, pa.BaseExtensionType):
        return pl.col(field.name)
    return pl.col(field.name).cast(pl.from_arrow(pa.nulls(0, field.type)).dtype)


def _dataset(source: Source) -> StreamingDataset:
    if isinstance(source, StreamingDataset):
        return source
    # A directory of this machine is read in place, also when it is named as the remote.
    return StreamingDataset(remote=os.fspath(source))


def _paths(dataset: StreamingDataset, source: Source, fetch: bool | None) -> list[tuple[int, Path]]:
    wanted = fetch if fetch is not None else not isinstance(source, StreamingDataset)
    paths = dataset.shard_paths(fetch=wanted)
    if dataset.num_shards and not paths:
        raise MissingShardError(
            f"{dataset!r}: none of its shards lies in the cache yet; iterate over it first, or pass fetch=True"
        )
    return paths


def _tensor(pl: Any, name: str, kind: pa.BaseExtensionType) -> Any:
    """Give Polars the values of an extension type, as the array of numbers that they are."""
    storage = pl.col(name).ext.storage()
    if isinstance(kind, pa.FixedShapeTensorType) and len(kind.shape) > 1:
        shape = tuple(kind.shape)
        # Bare, reshape() keeps filters from reaching the files, and makes an array of nulls of a null.
        nested = storage.map_batches(
            lambda values: values.reshape((len(values), *shape)),
            return_dtype=pl.Array(pl.from_arrow(pa.nulls(0, kind.value_type)).dtype, shape),
            is_elementwise=True,
        )
        return pl.when(storage.is_not_null()).then(nested).alias(name)
    return storage


def _empty_frame(*, sample_id: bool) -> "pl.LazyFrame":
    import polars as pl

    return pl.LazyFrame(schema={"sample_id": pl.Int64} if sample_id else {})
