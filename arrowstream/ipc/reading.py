"""Arrow IPC files, mapped and checked."""

import contextlib
import mmap
from pathlib import Path

import pyarrow as pa
import xxhash

from arrowstream.errors import CorruptShardError, MissingShardError
from arrowstream.ipc.marks import batch_mark


def open_file(path: Path) -> pa.ipc.RecordBatchFileReader:
    """Map an Arrow IPC file. No file descriptor stays open; the map lives as long as what was read from it.

    Raises:
        MissingShardError: There is no such file.
        CorruptShardError: It is no Arrow IPC file, or was cut off.
    """
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file.read_buffer())
        _ = reader.schema.names  # Arrow does not check that they are UTF-8
        return reader
    except FileNotFoundError as error:
        raise MissingShardError(f"{path}: does not exist") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # An empty file cannot be mapped (EINVAL); a cut one has no footer.
        size = 0
        with contextlib.suppress(FileNotFoundError):  # others delete what is damaged, too
            size = path.stat().st_size
        raise CorruptShardError(f"{path}: {size} bytes that are no whole Arrow IPC file ({error})") from error


def check_batch(path: Path, schema: pa.Schema, number: int) -> None:
    """Compare the bytes of one record batch in a file with the checksum that the file carries for it, if it does.

    Raises:
        CorruptShardError: They are not those that were written.
    """
    try:
        mark = batch_mark(schema, number)
    except CorruptShardError as error:
        raise CorruptShardError(f"{path}: {error}") from error
    if mark is None:
        return
    offset, length, expected = mark
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents,
        memoryview(contents) as view,
        view[offset : offset + length] as message,
    ):
        found = xxhash.xxh3_64_hexdigest(message)
    if found != expected:
        raise CorruptShardError(
            f"{path}: record batch {number} was damaged since it was written (its xxh3_64 is {found}, not {expected}); "
            f"fetch or write the shard again"
        )


def validate(reader: pa.ipc.RecordBatchFileReader, path: Path, num_samples: int) -> None:
    """Read every record batch and check all that Arrow can check.

    Raises:
        CorruptShardError: Offsets, text or counts are not what they must be.
    """
    rows = []
    try:
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            # The plain validate() passes offsets that point outside the buffer.
            batch.validate(full=True)
            rows.append(batch.num_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # Arrow says OSError of a broken message
        raise CorruptShardError(f"{path}: record batch {len(rows)} is corrupt ({error})") from error
    if sum(rows) != num_samples:
        raise CorruptShardError(f"{path}: holds {sum(rows)} rows, the index says {num_samples}")
    if any(count != rows[0] for count in rows[:-1]) or (rows and rows[-1] > rows[0]):
        raise CorruptShardError(f"{path}: its record batches are not of one size")
