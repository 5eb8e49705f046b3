"""The writers that people use: samples and record batches in, shards and an index out."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Self

import pyarrow as pa

from arrowstream.columns import Encoding, parse_encoding
from arrowstream.errors import ArrowStreamError, EncodingError, MissingColumnError
from arrowstream.format import WriteSettings
from arrowstream.hashing import DEFAULT_HASH, check_hash_names
from arrowstream.index import INDEX_NAME, Index, IntArray, parse_index
from arrowstream.ipc import BATCH_BYTES
from arrowstream.progress import Progress
from arrowstream.registry import load_format
from arrowstream.units import parse_bytes
from arrowstream.writer.cutter import ShardCutter
from arrowstream.writer.output import Out, Output
from arrowstream.writer.pipeline import Pipeline, group_of
from arrowstream.writer.schema import Columns, infer_columns, parse_columns

DEFAULT_SIZE_LIMIT = 1 << 26

# The first sample becomes Arrow alone; from its size follows how many are taken at once.
_FIRST_ROWS = 1
_MOST_ROWS = 1 << 16


class ShardWriter:
    """Writes a dataset of one format: :class:`MDSWriter` the native one, :class:`MosaicWriter` mosaicml-streaming's.

    It takes the arguments of mosaicml-streaming's writers and means the same by them. Use it in a ``with`` block: an
    exception inside leaves shards behind, but no index.

    Args:
        columns: The encoding of each column, by name or as an Arrow type; or an Arrow schema. None: as the first
            record batch has them.
        out: Directory, URL, or both as ``(local, remote)``. A URL alone is written by way of a temporary directory.
        keep_local: Whether the shards stay in the local directory when there is a remote one. Those that could not be
            uploaded stay in any case, unless the directory is a temporary one.
        compression: ``"zstd:3"``, ``"lz4"`` (inside the shard, which stays an Arrow file), or ``"gz"``, ``"br"``,
            ``"bz2"``, ``"snappy"`` (around it); with a level where the codec has one.
        hashes: Names of hashes to store beside ``xxh3_64``, which is always stored.
        size_limit: Bytes that a shard takes at most before compression, also as ``"64mb"``; a single sample that is
            larger has a shard of its own. None: one shard.
        progress_bar: Whether to show how much has been written.
        max_workers: Shards that are encoded and uploaded at a time; each takes memory of its size.
        retry: Attempts in all for each upload.
        exist_ok: Whether a directory in use is emptied first. False: it is refused.
        append: Whether to add shards to the dataset that lies there, if one does. None of its files is touched but the
            index; the new shards have names of their own.
        metadata: What the index shall remember; JSON values by name.
        storage_options: Passed to fsspec's file system as they are.

    Raises:
        DirectoryInUseError: The directory holds files, and ``exist_ok`` and ``append`` are false. Nothing was written.
        UnknownEncodingError: A column names an encoding that does not exist.
        ValueError: An argument is out of range.
    """

    format_name: ClassVar[str]
    #: What the format has to know of its files; the index keeps it.
    option_names: ClassVar[tuple[str, ...]] = ()
    _format_options: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        *,
        columns: Columns | None = None,
        out: Out,
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
    ) -> None:
        if append and exist_ok:
            raise ValueError("append=True keeps what is there and exist_ok=True deletes it; choose one")
        json.dumps(metadata)  # before anything is written
        self._format = load_format(self.format_name)
        self._nullable = self._format.holds_nulls
        self.compression = compression or None
        check_hash_names(hashes or [])
        self.hashes = list(dict.fromkeys([DEFAULT_HASH, *(hashes or [])]))
        self.size_limit = (parse_bytes(size_limit) or None) if size_limit is not None else None
        self._options = dict(self._format_options)  # the format adds to them once the columns are known
        self._encodings: dict[str, Encoding] = {}
        self._schema = pa.schema([])
        self._cutter = ShardCutter(self._schema, self.size_limit)
        self._encoders: list[tuple[str, Callable[[Any], object]]] = []
        self._rows: list[list[Any]] = []  # encoded values of samples that are not Arrow yet
        self._row_bytes = 0  # of text and bytes in them, which may vary from row to row
        self._rows_at_once = 1
        self._sized: list[int] = []  # the columns of text and bytes
        if columns is not None:
            self._set_encodings(parse_columns(columns))
        self._num_samples = 0
        self._closed = False
        self._progress = Progress("writing", total=None, unit="B", shown=progress_bar, is_bytes=True)
        self._output = Output(out, keep_local=keep_local, attempts=retry, options=storage_options)
        self._metadata = dict(metadata or {})
        self._appends = append
        self._pipeline = Pipeline(
            self._format,
            self._output,
            # Two writers that append at the same time must not choose one name.
            name_part=f".{secrets.token_hex(4)}" if append else "",
            compression=compression,
            hashes=self.hashes,
            options=self._options,
            max_workers=max_workers,
            progress=self._progress,
        )
        if append:
            self._output.open()
        else:
            self._output.claim(exist_ok=exist_ok, first_shard=self._pipeline.basename(0))

    # Taking in -------------------------------------------------------------------------------------------------------

    def write(self, sample: Mapping[str, Any]) -> None:
        """Add one sample.

        Args:
            sample: A value for each column; None is a missing value. Other keys are ignored.

        Raises:
            EncodingError: A value does not fit its column. The sample was not added; the writer can go on.
            MissingColumnError: The sample lacks a column. The same holds.
            Exception: What went wrong with an earlier shard in the background, as itself.
        """
        try:
            row: list[Any] = [
                None if (value := sample[name]) is None and self._nullable else encode(value)
                for name, encode in self._encoders
            ]
        except (KeyError, EncodingError) as error:
            raise self._explain(sample) from error
        self._rows.append(row)
        for number in self._sized:
            if row[number] is not None:
                self._row_bytes += len(row[number])
        if len(self._rows) >= self._rows_at_once or self._row_bytes >= BATCH_BYTES:
            self._flush_rows()

    def write_batch(self, batch: pa.RecordBatch | pa.Table | Mapping[str, Any]) -> None:
        """Add many samples at once.

        Args:
            batch: A record batch or table, or for each column an array or sequence of one element a sample: NumPy,
                Arrow or Python values. Other columns are ignored.

        Raises:
            EncodingError: A column does not fit its encoding, or is of another length. Nothing was added.
            MissingColumnError: A column is missing. The same holds.
            Exception: What went wrong with an earlier shard in the background, as itself.
        """
        self._check_open()
        self._flush_rows()
        if not self._encodings:
            self._set_encodings(infer_columns(batch))
        parts = batch.to_batches() if isinstance(batch, pa.Table) else [batch]
        # All of it is encoded before any of it is added.
        for encoded in [self._encode(part) for part in parts]:
            self._add(encoded)

    def _encode(self, batch: pa.RecordBatch | Mapping[str, Any]) -> pa.RecordBatch:
        names = batch.schema.names if isinstance(batch, pa.RecordBatch) else batch
        columns = []
        for name, encoding in self._encodings.items():
            if name not in names:
                raise MissingColumnError(f"column {name!r} is missing; the batch has: {', '.join(names)}")
            try:
                columns.append(encoding.column(batch[name]))
                if columns[-1].null_count and not self._nullable:
                    row = columns[-1].is_null().index(True)
                    raise EncodingError(f"row {row}: is None, and {self._format.name!r} files hold no missing values")
            except EncodingError as error:
                raise EncodingError(f"column {name!r} ({encoding.name}): {error}") from error
        lengths = {name: len(column) for name, column in zip(self._encodings, columns, strict=True)}
        if len(set(lengths.values())) > 1:
            raise EncodingError(f"the columns of a batch are of different lengths: {lengths}")
        return pa.record_batch(columns, schema=self._schema)

    def _flush_rows(self) -> None:
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        self._row_bytes = 0
        self._check_open()
        if not self._encodings:
            raise ValueError("write(sample) needs columns={'name': 'encoding', …} when the writer is made")
        values = zip(*rows, strict=True)
        columns = []
        for (name, encoding), column in zip(self._encodings.items(), values, strict=True):
            try:
                columns.append(encoding.to_arrow(list(column)))
            except EncodingError as error:
                last = self._num_samples + len(rows) - 1
                raise EncodingError(
                    f"column {name!r} ({encoding.name}), rows {self._num_samples} to {last}: {error}"
                ) from error
        batch = pa.record_batch(columns, schema=self._schema)
        row_bytes = max(batch.nbytes / len(rows), 1)
        self._rows_at_once = int(min(max(BATCH_BYTES / row_bytes, 1), 4 * len(rows), _MOST_ROWS))
        self._add(batch)

    def _add(self, batch: pa.RecordBatch) -> None:
        self._check_open()
        for shard in self._cutter.add(batch):
            self._pipeline.start(self._schema, shard)
        self._num_samples += batch.num_rows

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the writer is finished; make another one")
        self._pipeline.check()

    def _explain(self, sample: Mapping[str, Any]) -> ArrowStreamError:
        """Find out what was wrong with a sample, and say where."""
        row = self._num_samples + len(self._rows)
        for name, encoding in self._encodings.items():
            if name not in sample:
                return MissingColumnError(
                    f"column {name!r}, row {row}: is missing; the sample has: {', '.join(sample)}"
                )
            try:
                if sample[name] is not None or not self._nullable:
                    encoding.encode(sample[name])
            except EncodingError as error:
                return EncodingError(f"column {name!r} ({encoding.name}), row {row}: {error}")
        return EncodingError(f"row {row}: does not fit; its values changed while it was written")

    # Schema ----------------------------------------------------------------------------------------------------------

    def _set_encodings(self, encodings: dict[str, Encoding]) -> None:
        if not encodings:
            raise ValueError("a dataset needs at least one column")
        self._encodings = encodings
        self._encoders = [(name, encoding.encode) for name, encoding in encodings.items()]
        self._schema = pa.schema([encoding.field(name) for name, encoding in encodings.items()])
        settings = WriteSettings(compression=self.compression, hashes=sorted(self.hashes), size_limit=self.size_limit)
        self._options.update(self._format.options_for(self._schema, settings))
        limit = self.size_limit
        if limit is not None:
            limit -= self._format.file_overhead(self._schema, self._options)
        self._cutter = ShardCutter(self._schema, limit, self._counter())
        self._rows_at_once = _FIRST_ROWS
        self._sized = [
            number
            for number, kind in enumerate(self._schema.types)
            if pa.types.is_string(kind) or pa.types.is_binary(kind)
        ]

    def _counter(self) -> Callable[[pa.RecordBatch, int], IntArray] | None:
        """Ask the format, by means of no rows, whether it takes the columns and counts the bytes of rows."""

        def row_bytes(batch: pa.RecordBatch, first_row: int) -> IntArray:
            sizes = self._format.row_bytes(batch, self._options, first_row)
            assert sizes is not None  # it told them for no rows
            return sizes

        no_rows = pa.record_batch([encoding.to_arrow([]) for encoding in self._encodings.values()], self._schema)
        return None if self._format.row_bytes(no_rows, self._options, 0) is None else row_bytes

    def finish(self) -> Index:
        """Write what is left, wait for all uploads, and put the index in its place.

        Returns:
            The index that was written.

        Raises:
            Exception: What went wrong with a shard in the background, as itself; there is no index then.
        """
        whole = False
        try:
            self._check_open()
            self._flush_rows()
            last = self._cutter.finish()
            if last:
                self._pipeline.start(self._schema, last)
            group = group_of(
                self._pipeline.finish(),
                format=self._format.name,
                columns={name: encoding.name for name, encoding in self._encodings.items()},
                compression=self.compression,
                size_limit=self.size_limit,
                options=self._options,
            )
            index, version = Index(groups=(group,), metadata=self._metadata), self._format.index_version
            if self._appends:
                text = self._output.append_index(index, version)
            else:
                text = index.to_json(version)
                self._output.write(INDEX_NAME, text)
            whole = True
        finally:
            self._close(whole=whole)
        return parse_index(text, INDEX_NAME)

    def _close(self, *, whole: bool) -> None:
        self._closed = True
        self._rows_at_once = 0  # so that a late write() is noticed
        self._rows = []
        self._pipeline.close()
        self._output.close(whole=whole)
        self._progress.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        if kind is None:
            self.finish()
        else:
            self._close(whole=False)


class MDSWriter(ShardWriter):
    """Writes MDS: Arrow IPC files that any Arrow tool opens."""

    format_name = "mds"


class MosaicWriter(ShardWriter):
    """Writes what mosaicml-streaming reads: its row-wise ``.mds`` shards, and an index of version 2.

    It takes mosaicml-streaming's encodings and compressions, and cuts shards where its ``MDSWriter`` does.
    """

    format_name = "mosaic"

    def _set_encodings(self, encodings: dict[str, Encoding]) -> None:
        # Only its text knows "float"; the values are the same.
        double = parse_encoding("float64")
        super()._set_encodings({name: double if each.name == "float" else each for name, each in encodings.items()})


class ParquetWriter(ShardWriter):
    """Writes Parquet files, each row group of which is what a record batch of an MDS shard would be.

    ``zstd``, ``lz4``, ``gz``, ``br`` and ``snappy`` compress inside the files, as Parquet does it.
    """

    format_name = "parquet"
