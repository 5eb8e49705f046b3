"""Rows of text to record batches, with Arrow's parser.

Arrow reads a file block by block and gives up where a row does not fit into one; then it is given larger blocks.
"""

import csv
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pacsv

from arrowstream.columns import encoding_of
from arrowstream.errors import CorruptShardError, EncodingError
from arrowstream.lines import BLOCK_BYTES, MAX_BLOCK_BYTES
from arrowstream_csv.cells import refusal
from arrowstream_csv.dialect import Dialect
from arrowstream_csv.explain import csv_arguments, explain

_HEAD_BYTES = 1 << 20
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|$)")
# Encodings whose values are text in Arrow, but not any text.
_CHECKED = ("json", "str_int", "str_float", "str_decimal")


def read_file(source: Path, dialect: Dialect, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read a file as the types of a schema, a block at a time.

    Raises:
        CorruptShardError: The file lacks a column, a line has too few or too many cells, or a cell is not of its
            column's type.
    """
    refused = refusal(schema)
    if refused is not None:
        raise CorruptShardError(refused)
    checked = [(number, encoding_of(field)) for number, field in enumerate(schema)]
    checked = [(number, encoding) for number, encoding in checked if encoding.name in _CHECKED]
    with source.open("rb") as file:
        head = read_head(file, dialect)
        names = head.names if dialect.header else schema.names
        missing = [name for name in schema.names if name not in names]
        if missing:
            raise CorruptShardError(f"has no column {missing[0]!r}; its header has: {', '.join(names)}")
        rows = 0
        for batch in read_rows(file, head, dialect, names, {field.name: field.type for field in schema}):
            for number, encoding in checked:
                try:
                    encoding.column(batch.column(number))
                except EncodingError as error:
                    name = schema.names[number]
                    raise CorruptShardError(f"column {name!r}, of the rows from {rows} on: {error}") from error
            rows += batch.num_rows
            yield pa.record_batch(batch.columns, schema=schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The beginning of a file.

    Attributes:
        start: Where its first row begins, behind a byte-order mark and blank lines.
        blank_lines: How many there are before its first row.
        names: The cells of its header; none where it has no header.
        is_all: Whether no row of values follows.
    """

    start: int
    blank_lines: int
    names: list[str]
    is_all: bool


def read_head(file: BinaryIO, dialect: Dialect) -> Head:
    """Read the header of a file.

    Raises:
        CorruptShardError: It is not UTF-8, longer than a MiB, or has a name twice; or there is none.
    """
    head = file.read(_HEAD_BYTES)
    mark = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    text = head[mark:] if dialect.blank_rows else head[mark:].lstrip(b"\r\n")
    start = len(head) - len(text)
    blank_lines = _count_lines(head[:start])
    if not dialect.header:
        return Head(start=start, blank_lines=blank_lines, names=[], is_all=not text)
    line = blank_lines + 1
    if not text:
        raise CorruptShardError("is empty, expected a header")
    try:
        names, end = _first_row(text, dialect)
    except UnicodeDecodeError as error:
        found = error.object[error.start : error.start + 8]
        raise CorruptShardError(f"line {line}: is not UTF-8 ({found!r}); convert the file") from error
    except csv.Error as error:
        raise CorruptShardError(f"line {line}: is no header ({error})") from error
    cut = len(head) == _HEAD_BYTES
    if cut and end == len(text):
        raise CorruptShardError(f"line {line}: is longer than {_HEAD_BYTES} bytes, expected a header")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CorruptShardError(f"line {line}: names the column {twice!r} twice; rename one of them")
    rest = text[end:] if dialect.blank_rows else text[end:].strip(b"\r\n")
    return Head(start=start, blank_lines=blank_lines, names=names, is_all=not cut and not rest)


def _count_lines(text: bytes) -> int:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n")


def _first_row(text: bytes, dialect: Dialect) -> tuple[list[str], int]:
    """Give the cells of the first row, and where the second begins."""
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for match in _LINE.finditer(text):
            end = match.end()
            yield match[0].decode()

    reader = csv.reader(lines(), **csv_arguments(dialect))
    return next(reader, []) or [""], end


def read_rows(
    file: BinaryIO, head: Head, dialect: Dialect, names: list[str], types: Mapping[str, pa.DataType]
) -> Iterator[pa.RecordBatch]:
    """Read the rows behind the header.

    Args:
        file: Seekable; nobody else may read it meanwhile.
        head: What it begins with.
        dialect: How to read it.
        names: Of all columns in the file.
        types: Of the columns to give, in the order in which to give them.

    Raises:
        CorruptShardError: As ``read_file``.
    """
    text = Text(file, head, dialect, names)
    given = 0
    while not head.is_all:
        skip = given
        try:
            with text.open(types) as reader:
                for batch in reader:
                    # Of another attempt with larger blocks, what was given already is left out.
                    fresh = batch.slice(min(skip, batch.num_rows))
                    skip -= batch.num_rows - fresh.num_rows
                    given += fresh.num_rows
                    yield fresh
            return
        except (pa.ArrowException, UnicodeDecodeError) as error:
            if "straddling object" not in str(error) or text.block_bytes >= MAX_BLOCK_BYTES:
                raise CorruptShardError(explain(error, text, types)) from error
            text.block_bytes = min(16 * text.block_bytes, MAX_BLOCK_BYTES)


class Text:
    """The rows of a file, which can be read several times.

    Attributes:
        head: What the file begins with.
        dialect: How it is read.
        names: Of all its columns.
        block_bytes: Read at a time; no row may be longer.
    """

    def __init__(self, file: BinaryIO, head: Head, dialect: Dialect, names: list[str]) -> None:
        self._file = file
        self.head = head
        self.dialect = dialect
        self.names = names
        self.block_bytes = BLOCK_BYTES

    def rewound(self) -> BinaryIO:
        """Give the file, at the first row."""
        self._file.seek(self.head.start)
        return self._file

    @contextmanager
    def open(
        self, types: Mapping[str, pa.DataType], *, with_blank_rows: bool = False
    ) -> Iterator[pacsv.CSVStreamingReader]:
        """Begin to read.

        Args:
            types: Of the columns to give.
            with_blank_rows: Whether blank lines come as rows of missing values.
        """
        dialect = self.dialect
        nulls = [""] if dialect.null_values is None else list(dialect.null_values)
        turn = _Turn(self.rewound())
        try:
            with pacsv.open_csv(
                pa.PythonFile(turn, "r"),
                # Only one thread counts rows, and so names the one that is wrong.
                read_options=pacsv.ReadOptions(
                    use_threads=False,
                    block_size=self.block_bytes,
                    column_names=self.names,
                    autogenerate_column_names=not self.names,
                    skip_rows_after_names=int(dialect.header),
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=dialect.separator,
                    quote_char=dialect.quote or False,
                    escape_char=dialect.escape or False,
                    newlines_in_values=dialect.quote is not None,
                    ignore_empty_lines=not (dialect.blank_rows or with_blank_rows),
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=types,
                    include_columns=list(types),
                    null_values=[*nulls, ""] if with_blank_rows else nulls,
                    strings_can_be_null=dialect.null_values is not None,
                    quoted_strings_can_be_null=dialect.quoted_nulls,
                ),
            ) as reader:
                yield reader
        finally:
            turn.close()


class _Turn:
    """One turn at reading a file: Arrow reads ahead in a thread of its own, which must not go on into the next turn."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.closed = False

    def read(self, num_bytes: int) -> bytes:
        with self._lock:
            return b"" if self.closed else self._file.read(num_bytes)

    def close(self) -> None:
        with self._lock:
            self.closed = True
