"""Rows of mosaicml-streaming that Arrow's parser would cut elsewhere.

Those are rows with separators or newlines of several characters, and with carriage returns within cells.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.errors import CorruptShardError
from arrowstream.lines import read_blocks
from arrowstream_csv.cells import refusal
from arrowstream_csv.dialect import Dialect


def needs_split(source: Path, dialect: Dialect) -> bool:
    """Tell whether a file has to be read by ``split_file``."""
    if not dialect.mosaic:
        return False
    separator = dialect.separator
    if dialect.newline != "\n" or len(separator) != 1 or not separator.isascii() or not source.stat().st_size:
        return True
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b"\r") >= 0 or text[-1:] != b"\n"


def split_file(source: Path, dialect: Dialect, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read a file as the types of a schema, a block at a time.

    Raises:
        CorruptShardError: Its header names other columns, it was cut off, a row has too few or too many cells, or a
            cell is not of its column's type.
    """
    refused = refusal(schema)
    if refused is not None:
        raise CorruptShardError(refused)
    newline = dialect.newline.encode()
    header = dialect.separator.join(schema.names).encode() + newline
    line = 2
    with source.open("rb") as file:
        found = file.read(len(header))
        if found != header:
            raise CorruptShardError(f"line 1: is {found[:80]!r}, expected the header {header[:80]!r}")
        for block in read_blocks(file, newline):
            if not block.endswith(newline):
                raise CorruptShardError(f"was cut off: its last line does not end with {dialect.newline!r}")
            batch = _split(block[: -len(newline)], dialect, schema, line)
            line += batch.num_rows
            yield batch


def _split(block: bytes, dialect: Dialect, schema: pa.Schema, first_line: int) -> pa.RecordBatch:
    try:
        text = pa.array([block], pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise CorruptShardError(f"of the lines from {first_line} on, one is not UTF-8") from error
    lines = pc.split_pattern(text, dialect.newline).flatten()
    rows = pc.split_pattern(lines, dialect.separator)
    num_columns = len(schema)
    counts = pc.list_value_length(rows).to_numpy()
    if (counts != num_columns).any():
        row = int((counts != num_columns).argmax())
        raise CorruptShardError(
            f"line {first_line + row}: has {counts[row]} cells, expected {num_columns}: {lines[row].as_py()[:80]!r}"
        )
    cells = rows.flatten()
    columns = []
    for number, field in enumerate(schema):
        places = np.arange(number, len(cells), num_columns)
        columns.append(_typed(cells.take(pa.array(places)), field, first_line))
    return pa.record_batch(columns, schema=schema)


def _typed(cells: pa.Array, field: pa.Field, first_line: int) -> pa.Array:
    try:
        return cells.cast(field.type)
    except pa.ArrowInvalid:
        row = _first_refused(cells, field.type)
    raise CorruptShardError(
        f"line {first_line + row}, column {field.name!r}: expected {field.type}, got {cells[row].as_py()[:80]!r}"
    )


def _first_refused(cells: pa.Array, kind: pa.DataType) -> int:
    """Find the first cell of a column that cannot be cast, in as many casts as the number of cells has bits."""
    good, bad = 0, len(cells)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            cells.slice(good, middle - good).cast(kind)
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    return good
