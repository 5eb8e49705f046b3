"""Record batches read from a remote shard by their ranges, and checked: no client notices a flipped byte in a range.

An Arrow IPC file ends with its footer, which repeats the schema; ours says there where each record batch lies and what
its checksum is (:mod:`arrowstream.ipc`). The footer is checked against the shard's identity in the index, which is a
hash of the schema and of all those checksums.
"""

import io
from dataclasses import dataclass

import pyarrow as pa
import xxhash

from arrowstream import ipc
from arrowstream.errors import CorruptShardError
from arrowstream.index import Shard
from arrowstream.storage import Storage

#: Read from a shard's end at first; a footer of 64 KiB describes some 1,500 record batches.
TAIL_BYTES = 64 << 10
_MAGIC = b"ARROW1"
_HEAD = _MAGIC + bytes(2)  # a file begins with it; Arrow checks no more of it than the length
_END_BYTES = 4 + len(_MAGIC)  # the footer's length, the magic number


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a shard says of its record batches.

    Attributes:
        schema: Of the rows, without what it says of the file.
        batches: Offset, length and xxh3_64 of each record batch's message.
    """

    schema: pa.Schema
    batches: list[tuple[int, int, str]]

    @classmethod
    def parse(cls, text: bytes, shard: Shard) -> "Footer | None":
        """Read the end of a shard's file.

        Args:
            text: The last bytes of the file; all of its footer is in them.
            shard: What the index says of it.

        Returns:
            None where it does not vouch for itself: a file of another writer or library, a dictionary, which lies
            outside of its record batches, or damage.
        """
        try:
            with pa.PythonFile(io.BytesIO(_HEAD + text), mode="r") as file:
                marked = pa.ipc.open_file(file).schema
            schema, table = ipc.without_marks(marked), ipc.batch_table(marked)
        except (pa.ArrowException, OSError, UnicodeDecodeError, CorruptShardError):
            return None
        digests = "".join(digest for _, _, digest in table)
        identity = xxhash.xxh3_64_hexdigest(bytes(schema.serialize()) + digests.encode())
        if identity != shard.content or not table or ipc.has_dictionary(schema):
            return None
        return cls(schema=schema, batches=table)


def read_footer(storage: Storage, shard: Shard) -> bytes:
    """Read the end of a shard's file, footer included, in one request or, where the footer is long, two.

    Raises:
        StorageError: The remote failed, or the file is not as long as the index says.
    """
    start = max(shard.file_bytes - TAIL_BYTES, 0)
    text = storage.read(shard.basename, start, shard.file_bytes)
    length = int.from_bytes(text[-_END_BYTES : -len(_MAGIC)], "little") + _END_BYTES
    if len(text) < length <= shard.file_bytes:
        text = storage.read(shard.basename, shard.file_bytes - length, shard.file_bytes)
    return text[-length:]


def read_batch(storage: Storage, shard: Shard, footer: Footer, number: int) -> pa.RecordBatch:
    """Read one record batch with one request, and compare it with its checksum.

    Returns:
        The rows, uncompressed, validated in full.

    Raises:
        CorruptShardError: The bytes are not those that were written.
        StorageError: The remote failed, or the file is shorter than the index says.
    """
    offset, length, expected = footer.batches[number]
    where = f"{storage.url_of(shard.basename)}: record batch {number}"
    message = storage.read(shard.basename, offset, offset + length)
    found = xxhash.xxh3_64_hexdigest(message)
    if found != expected:
        raise CorruptShardError(
            f"{where}: its xxh3_64 is {found}, not {expected}; it was damaged on the way or in the store"
        )
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), footer.schema)
        batch.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise CorruptShardError(f"{where}: is corrupt ({error})") from error
    return batch
