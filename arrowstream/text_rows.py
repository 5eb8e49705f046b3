"""Rows written out as text: what the formats of lines have in common."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from arrowstream.format import WrittenShard
from arrowstream.index import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRows:
    """Rows as text.

    Attributes:
        text: All of them, each with its newline.
        sizes: Bytes of each, int64 of shape (rows,).
    """

    text: pa.Buffer
    sizes: IntArray

    @classmethod
    def of(cls, rows: pa.LargeStringArray) -> "TextRows":
        """Take rows that end with their newlines; their memory is shared."""
        ends = np.frombuffer(rows.buffers()[1], np.int64, len(rows) + 1, 8 * rows.offset)
        text = rows.buffers()[2]
        return cls(text=text.slice(ends[0], ends[-1] - ends[0]) if text else pa.py_buffer(b""), sizes=np.diff(ends))


def write_text(path: Path, schema: pa.Schema, parts: Iterable[bytes | pa.Buffer]) -> WrittenShard:
    """Write a shard of text.

    Args:
        path: The file to make.
        schema: Of the rows; it is a part of their identity.
        parts: The text, in pieces of any size.
    """
    digest = xxhash.xxh3_64(bytes(schema.serialize()))
    num_bytes = 0
    with path.open("wb") as file:
        for text in parts:
            digest.update(text)
            num_bytes += file.write(text)
    return WrittenShard(raw_bytes=num_bytes, content=digest.hexdigest())


def holds_plainly(kind: pa.DataType) -> bool:
    """Tell whether values of a type look the same in every text: integers, floats, booleans and strings."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_float32(kind)
        or pa.types.is_float64(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    )
