"""DataFrames in: whatever speaks Arrow becomes a dataset, a few record batches at a time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from arrowstream.errors import EncodingError
from arrowstream.index import Index
from arrowstream.progress import Progress
from arrowstream.writer import DEFAULT_SIZE_LIMIT, Columns, MDSWriter

#: Bytes that are encoded at once: columns of some types are converted, and a frame may be one chunk of any size.
_PIECE_BYTES = 32 << 20
#: Rows that are taken from a frame at a time where it has to be told.
_ROWS_AT_ONCE = 1 << 16


def write_dataframe(
    df: Any,
    out: str | os.PathLike[str] | tuple[str | os.PathLike[str], str],
    *,
    columns: Columns | None = None,
    keep_local: bool = False,
    compression: str | None = None,
    hashes: Sequence[str] | None = None,
    size_limit: int | str | None = DEFAULT_SIZE_LIMIT,
    progress_bar: bool = False,
    max_workers: int | None = None,
    retry: int = 2,
    exist_ok: bool = False,
    append: bool = False,
    metadata: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Index:
    """Write a DataFrame as a dataset of MDS shards.

    Lazy and streaming sources (Polars LazyFrame, DuckDB relation, RecordBatchReader, Dataset) are run as streams:
    memory stays within a few shards however many rows there are.

    Args:
        df: pandas or Polars DataFrame, Polars LazyFrame, pyarrow Table, RecordBatch, RecordBatchReader or Dataset,
            DuckDB relation, or anything with ``__arrow_c_stream__``. An index of pandas is kept if it has a name.
        out: Directory, URL, or both as ``(local, remote)``.
        columns: The encoding of each column to write. None: all columns, as their types have it.
        keep_local: As for :class:`MDSWriter`, as all that follows.
        compression: Likewise.
        hashes: Likewise.
        size_limit: Likewise.
        progress_bar: Likewise.
        max_workers: Likewise.
        retry: Likewise.
        exist_ok: Likewise.
        append: Likewise.
        metadata: Likewise.
        storage_options: Likewise.

    Returns:
        The index of the dataset.

    Raises:
        TypeError: ``df`` is nothing that speaks Arrow.
        EncodingError: A column does not fit the encoding that ``columns`` gives it.
        DirectoryInUseError: The directory holds files, and ``exist_ok`` and ``append`` are false.
    """
    schema, batches, num_rows = _stream(df)
    with (
        MDSWriter(
            columns=schema if columns is None else columns,
            out=out,
            keep_local=keep_local,
            compression=compression,
            hashes=hashes,
            size_limit=size_limit,
            max_workers=max_workers,
            retry=retry,
            exist_ok=exist_ok,
            append=append,
            metadata=metadata,
            storage_options=storage_options,
        ) as writer,
        Progress("writing", total=num_rows, unit=" rows", shown=progress_bar) as progress,
    ):
        for batch in batches:
            # Large enough that few record batches lie across the border of two pieces, for those have to be copied.
            rows = max(1, round(batch.num_rows * _PIECE_BYTES / max(batch.nbytes, 1)))
            for start in range(0, batch.num_rows, rows):
                piece = batch.slice(start, rows)
                writer.write_batch(piece)
                progress.advance(piece.num_rows)
        return writer.finish()


def _stream(df: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch], int | None]:
    """Give the schema, the record batches and, where it is known, the number of rows of a frame."""
    if isinstance(df, pa.RecordBatch):
        return df.schema, iter([df]), df.num_rows
    if isinstance(df, pa.Table):
        return df.schema, iter(df.to_batches()), df.num_rows
    if isinstance(df, pads.Dataset):
        return df.schema, df.to_batches(), None
    library = type(df).__module__.partition(".")[0]
    if library == "pandas" and hasattr(df, "iloc") and hasattr(df, "columns"):
        return _pandas_stream(df)
    if library == "polars" and hasattr(df, "collect_batches"):
        return _lazy_stream(df)
    if library == "polars" and hasattr(df, "collect_schema") and not hasattr(df, "__arrow_c_stream__"):
        return _stream(df.collect())
    if hasattr(df, "__arrow_c_stream__") and not hasattr(df, "to_frame"):
        reader = pa.RecordBatchReader.from_stream(df)
        return reader.schema, iter(reader), getattr(df, "height", None)
    raise TypeError(
        f"{type(df).__module__}.{type(df).__qualname__} is no DataFrame that arrowstream knows; expected pandas, "
        f"Polars, pyarrow, DuckDB or anything with __arrow_c_stream__"
    )


def _pandas_stream(df: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch], int]:
    # Piece by piece, so that no second copy of the whole frame is made; the schema has to come from all of it. What
    # pandas would say of itself in the metadata is left out: it describes the index of one piece.
    if any(name is not None for name in df.index.names):
        df = df.reset_index()  # an index with a name holds data; one without is only what was left of a selection
    df = df.set_axis(map(str, df.columns), axis=1)  # shares the data
    try:
        schema = pa.Schema.from_pandas(df, preserve_index=False).remove_metadata()
    except pa.ArrowException as error:
        raise EncodingError(f"{_mixed_columns(df)}{error}; a column has to hold values of one type") from error

    def pieces() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(df), _ROWS_AT_ONCE):
            piece = df.iloc[start : start + _ROWS_AT_ONCE]
            yield from pa.Table.from_pandas(piece, schema=schema, preserve_index=False).to_batches()

    return schema, pieces(), len(df)


def _mixed_columns(df: Any) -> str:
    """Name the columns that Arrow finds no type for; it does not say itself."""
    mixed = []
    for name in df.columns:
        try:
            pa.array(df[name], from_pandas=True)
        except pa.ArrowException:
            mixed.append(name)
    return f"column {', '.join(map(repr, mixed))}: " if mixed else ""


def _lazy_stream(frame: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch], None]:
    frames = iter(frame.collect_batches(maintain_order=True))
    first = next(frames, None)
    # An empty result has no batches, but a schema.
    start = pa.RecordBatchReader.from_stream(first if first is not None else frame.head(0).collect())

    def batches() -> Iterator[pa.RecordBatch]:
        yield from start
        for part in frames:
            yield from pa.RecordBatchReader.from_stream(part)

    return start.schema, batches(), None
