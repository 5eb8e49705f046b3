"""Record batches to lines of JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from arrowstream.columns import encoding_of
from arrowstream.errors import EncodingError
from arrowstream.format import WrittenShard
from arrowstream.index import IntArray
from arrowstream_jsonl.values import holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows as text.

    Attributes:
        text: All of them, each with its newline.
        sizes: Bytes of each, int64 of shape (rows,).
    """

    text: pa.Buffer
    sizes: IntArray


def write_file(path: Path, schema: pa.Schema, batches: Sequence[pa.RecordBatch], newline: str) -> WrittenShard:
    """Write a line a row.

    Raises:
        EncodingError: As ``encode_rows``.
    """
    digest = xxhash.xxh3_64(bytes(schema.serialize()))
    num_bytes = first_row = 0
    with path.open("wb") as file:
        for batch in batches:
            text = encode_rows(batch, newline, first_row).text
            digest.update(text)
            num_bytes += file.write(text)
            first_row += batch.num_rows
    return WrittenShard(raw_bytes=num_bytes, content=digest.hexdigest())


def encode_rows(batch: pa.RecordBatch, newline: str, first_row: int) -> Rows:
    """Write rows out, keys in alphabetical order, as mosaicml-streaming does.

    Args:
        batch: The rows.
        newline: What ends a line.
        first_row: Number of the first; errors name a row by its own.

    Raises:
        EncodingError: JSON holds no values of that type.
    """
    parts: list[Any] = []
    for name in sorted(batch.schema.names):
        field = batch.schema.field(name)
        parts.append(_text(f"{', ' if parts else '{'}{json.dumps(name)}: "))
        parts.append(_texts(batch.column(name), field, first_row))
    rows = pc.binary_join_element_wise(*parts, _text("}" + newline), _text(""))
    ends = np.frombuffer(rows.buffers()[1], np.int64, len(rows) + 1, 8 * rows.offset)
    text = rows.buffers()[2]
    return Rows(text=text.slice(ends[0], ends[-1] - ends[0]) if text else pa.py_buffer(b""), sizes=np.diff(ends))


def _text(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def _texts(column: pa.Array, field: pa.Field, first_row: int) -> pa.Array:
    kind = field.type
    encoding = encoding_of(field)
    if not holds(encoding):
        raise EncodingError(
            f"column {field.name!r}: JSON holds no {encoding.name}, only numbers, bool, text, and records and lists of "
            f"these; write it as mds or parquet"
        )
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or encoding.name == "str_int":
        texts = column.cast(pa.string()).cast(pa.large_string())
    elif encoding.name == "json":
        texts = pa.array(_on_one_line(column.to_pylist(), field.name, first_row), pa.large_string())
    else:
        values = column.to_pylist()
        texts = pa.array([None if value is None else json.dumps(value) for value in values], pa.large_string())
    return texts.fill_null("null")


def _on_one_line(texts: list[str | None], name: str, first_row: int) -> list[str | None]:
    for number, text in enumerate(texts):
        if text is not None and not text.isprintable():
            try:
                texts[number] = json.dumps(json.loads(text))
            except ValueError as error:
                raise EncodingError(f"column {name!r}, row {first_row + number}: expected JSON ({error})") from error
    return texts
