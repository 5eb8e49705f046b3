"""Record batches to rows of text."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.errors import EncodingError
from arrowstream.format import WrittenShard
from arrowstream.text_rows import TextRows, write_text
from arrowstream_csv.cells import refusal
from arrowstream_csv.dialect import Dialect


def write_file(path: Path, schema: pa.Schema, batches: Sequence[pa.RecordBatch], dialect: Dialect) -> WrittenShard:
    """Write a header and rows.

    Raises:
        EncodingError: As ``encode_rows``.
    """
    return write_text(path, schema, _parts(schema, batches, dialect))


def _parts(schema: pa.Schema, batches: Sequence[pa.RecordBatch], dialect: Dialect) -> Iterator[bytes | pa.Buffer]:
    names = pa.array(schema.names, pa.large_string())
    yield dialect.separator.join(_cells(names, "names of columns", dialect, 0).to_pylist()).encode()
    yield dialect.newline.encode()
    first_row = 0
    for batch in batches:
        yield encode_rows(batch, dialect, first_row).text
        first_row += batch.num_rows


def encode_rows(batch: pa.RecordBatch, dialect: Dialect, first_row: int) -> TextRows:
    """Write rows out.

    Args:
        batch: The rows.
        dialect: How to write them.
        first_row: Number of the first; errors name a row by its own.

    Raises:
        EncodingError: Text cannot hold a column of that type; or, without quotes, a value that is missing or holds a
            separator or a newline.
    """
    refused = refusal(batch.schema)
    if refused is not None:
        raise EncodingError(refused)
    columns = [
        _cells(_texts(column), f"column {name!r}", dialect, first_row)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    newline = pa.scalar(dialect.newline, pa.large_string())
    lines = pc.binary_join_element_wise(*columns, pa.scalar(dialect.separator, pa.large_string()))
    rows = pc.binary_join_element_wise(lines, newline, pa.scalar("", pa.large_string()))
    if dialect.mosaic:
        _check_lines(lines, rows, dialect, first_row)
    return TextRows.of(rows)


def _texts(column: pa.Array) -> pa.Array:
    """Write values as Python does, so that numbers are read back as they were."""
    kind = column.type
    if pa.types.is_floating(kind):
        values: Iterable[object] = column.to_pylist() if pa.types.is_float64(kind) else _numpy_values(column)
        return pa.array([None if value is None else str(value) for value in values], pa.large_string())
    if pa.types.is_boolean(kind) or pa.types.is_timestamp(kind):
        return column.cast(pa.string()).cast(pa.large_string())
    return column.cast(pa.large_string())


def _numpy_values(column: pa.Array) -> Iterable[object]:
    # A float32 needs fewer digits than the float64 of the same value.
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    return (value if valid else None for value, valid in zip(values, column.is_valid().to_pylist(), strict=True))


def _cells(texts: pa.Array, what: str, dialect: Dialect, first_row: int) -> pa.Array:
    """Quote the cells that need it; without quotes, refuse them."""
    if dialect.mosaic:
        _check_cells(texts, what, dialect, first_row)
        return texts
    quote = dialect.quote or '"'
    special = "[" + re.escape(dialect.separator) + re.escape(quote) + r"\r\n" + "]"
    # An empty text in quotes is a text; without, it is a missing value.
    quoted = pc.or_(pc.match_substring_regex(texts, special), pc.equal(texts, ""))
    if pc.any(quoted).as_py():
        inside = pc.replace_substring(texts, quote, quote + quote)
        mark = pa.scalar(quote, pa.large_string())
        in_quotes = pc.binary_join_element_wise(mark, inside, mark, pa.scalar("", pa.large_string()))
        texts = pc.if_else(quoted, in_quotes, texts)
    return texts.fill_null("")


def _check_cells(texts: pa.Array, what: str, dialect: Dialect, first_row: int) -> None:
    if texts.null_count:
        row = first_row + pc.index(texts.is_null(), True).as_py()
        raise EncodingError(f"{what}, row {row}: is missing, and rows without quotes cannot say so; {_WAY_OUT}")
    for mark in (dialect.separator, dialect.newline):
        # Also a text that ends with the beginning of a separator would be cut elsewhere.
        marked = pc.binary_join_element_wise(texts, *[pa.scalar(text, pa.large_string()) for text in (mark, "")])
        wrong = pc.not_equal(pc.find_substring(marked, mark), pc.binary_length(texts))
        if pc.any(wrong).as_py():
            number = pc.index(wrong, True).as_py()
            raise EncodingError(
                f"{what}, row {first_row + number}: {texts[number].as_py()[:80]!r} holds {mark!r}, which ends a cell "
                f"or a row; {_WAY_OUT}"
            )


def _check_lines(lines: pa.Array, rows: pa.Array, dialect: Dialect, first_row: int) -> None:
    wrong = pc.not_equal(pc.find_substring(rows, dialect.newline), pc.binary_length(lines))
    if pc.any(wrong).as_py():
        number = pc.index(wrong, True).as_py()
        raise EncodingError(f"row {first_row + number}: holds {dialect.newline!r}, which ends a row; {_WAY_OUT}")


_WAY_OUT = "separate by one character and end rows with LF or CRLF (values are quoted then), or write jsonl"
