"""Arrow IPC files, written with what ours say more."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from arrowstream.errors import CorruptShardError
from arrowstream.ipc.marks import fill_marks, with_marks
from arrowstream.ipc.reading import open_file


def write_file(
    path: Path,
    schema: pa.Schema,
    batches: Sequence[pa.RecordBatch],
    *,
    codec: str | None = None,
    level: int | None = None,
    content: str | None = None,
) -> str:
    """Write record batches as an Arrow IPC file.

    Args:
        path: The file to make.
        schema: Of all the batches.
        batches: Every one with the same number of rows but the last.
        codec: ``zstd``, ``lz4`` or None; compresses the bodies of the record batches.
        level: Of the codec.
        content: Identity of the rows where they have one already.

    Returns:
        The identity of the rows, 16 hex digits.
    """
    rows_per_batch = batches[0].num_rows if batches else 0
    marked = with_marks(schema, rows_per_batch, len(batches), content)
    compression = pa.Codec(codec, compression_level=level) if codec else None
    with Output(path, marked, pa.ipc.IpcWriteOptions(compression=compression)) as output:
        for batch in with_shared_dictionaries(schema, batches):
            output.write(batch)
    return fill_marks(path, schema, output.ends, content)


def file_bytes(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> int:
    """Tell how long the uncompressed file of these record batches is, to the byte, without writing it."""
    sink = pa.MockOutputStream()
    marked = with_marks(schema, batches[0].num_rows if batches else 0, len(batches), None)
    with pa.ipc.new_file(sink, marked) as writer:
        for batch in with_shared_dictionaries(schema, batches):
            writer.write_batch(batch)
    return int(sink.size())


def identity(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> str:
    """Give what identifies rows that are stored in files of another kind, 16 hex digits.

    It depends on how they are cut into record batches, not on where their memory lies.
    """
    sink = _HashingSink()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.digest.hexdigest()


def uncompress(source: Path, target: Path, content: str) -> None:
    """Write the rows of one Arrow IPC file as another without compression, record batch by record batch.

    Raises:
        CorruptShardError: The source is no Arrow IPC file, or one of its record batches does not decode.
    """
    reader = open_file(source)
    try:
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        write_file(target, reader.schema, batches, content=content or None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CorruptShardError(f"{source}: does not decode ({error})") from error


def has_dictionary(schema: pa.Schema) -> bool:
    """Tell whether a column, or a part of one, keeps its values in a dictionary."""
    return any(_is_dictionary(field.type) for field in schema)


def with_shared_dictionaries(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    """Give all batches of a dictionary column one dictionary, as a *file* (unlike a stream) demands."""
    if not has_dictionary(schema):
        return batches
    table = pa.Table.from_batches(batches, schema).unify_dictionaries()
    return list(table.to_batches())


def _is_dictionary(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _is_dictionary(kind.storage_type)
    return pa.types.is_dictionary(kind) or any(
        _is_dictionary(kind.field(number).type) for number in range(kind.num_fields)
    )


class Output:
    """A file that is being written, and where each of its record batches ends."""

    def __init__(self, path: Path, schema: pa.Schema, options: pa.ipc.IpcWriteOptions | None = None) -> None:
        self.ends: list[int] = []
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema, options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next record batch."""
        self._writer.write_batch(batch)
        self.ends.append(self._sink.tell())

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._writer.close()
        finally:
            self._sink.close()


class _HashingSink(io.RawIOBase):
    """A file that keeps nothing of what is written into it but its hash."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = xxhash.xxh3_64()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data)
