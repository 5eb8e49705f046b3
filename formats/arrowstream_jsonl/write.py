"""Record batches to lines of JSON."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.columns import encoding_of
from arrowstream.errors import EncodingError
from arrowstream.format import WrittenShard
from arrowstream.text_rows import TextRows, write_text
from arrowstream_jsonl.values import holds


def write_file(path: Path, schema: pa.Schema, batches: Sequence[pa.RecordBatch], newline: str) -> WrittenShard:
    """Write a line a row.

    Raises:
        EncodingError: As ``encode_rows``.
    """
    return write_text(path, schema, _parts(batches, newline))


def _parts(batches: Sequence[pa.RecordBatch], newline: str) -> Iterator[pa.Buffer]:
    first_row = 0
    for batch in batches:
        yield encode_rows(batch, newline, first_row).text
        first_row += batch.num_rows


def encode_rows(batch: pa.RecordBatch, newline: str, first_row: int) -> TextRows:
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
    return TextRows.of(rows)


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
