"""Which line and which column of a file is wrong: a second look, once Arrow has refused it.

Arrow counts rows, and of those only the ones that are not blank. An editor counts lines.
"""

import csv
import re
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from arrowstream_csv.dialect import Dialect

if TYPE_CHECKING:
    from arrowstream_csv.read import Text

_CELL = re.compile(r"In CSV column #(\d+): Row #(\d+): (?:CSV conversion error to [^:]*: )?(.*)", re.DOTALL)
_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)
_MAX_CHARS = 80


def explain(error: Exception, text: "Text", types: Mapping[str, pa.DataType]) -> str:
    """Say what is wrong with a file that Arrow refused.

    Args:
        error: What Arrow said.
        text: What it said it of.
        types: As which it was read.
    """
    try:
        with text.open(types, with_blank_rows=True) as reader:
            for _ in reader:
                pass
    except (pa.ArrowException, UnicodeDecodeError) as second:
        error = second
    message = str(error)
    if match := _RAGGED.search(message):
        row, expected, found, line = match.groups()
        return f"{_place(int(row), text)}: has {found} cells, expected {expected}: {_short(line)}"
    if match := _CELL.search(message):
        column, row, problem = match.groups()
        name = list(types)[int(column)]
        hint = "; convert the file" if "UTF8" in problem else ""
        return f"{_place(int(row), text)}, column {name!r}: expected {types[name]}, got {_short(problem)}{hint}"
    if "straddling" in message:
        return f"a row is longer than {text.block_bytes} bytes; is a quote missing?"
    return f"cannot be read as text separated by {text.dialect.separator!r} ({_short(message)})"


def _place(row: int, text: "Text") -> str:
    """Find the line on which a row begins; both count from 1, and a header is row 1."""
    # Latin-1 takes every byte for one character.
    lines = (line.decode("latin-1") for line in text.rewound())
    reader = csv.reader(lines, **csv_arguments(text.dialect))
    try:
        for _ in islice(reader, row - 1):
            pass
    except csv.Error:  # a cell that is larger than that module takes
        return f"row {row}"
    return f"line {text.head.blank_lines + reader.line_num + 1}"


def csv_arguments(dialect: Dialect) -> dict[str, Any]:
    """Say it to Python's csv module."""
    return {
        "delimiter": dialect.separator,
        "quotechar": dialect.quote,
        "quoting": csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        "escapechar": dialect.escape,
    }


def _short(text: str) -> str:
    text = text.removeprefix("invalid value ").strip("\r\n")
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
