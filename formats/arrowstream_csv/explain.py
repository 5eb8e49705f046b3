"""Which line and which column of a file is wrong: a second look, once Arrow has refused it.

Arrow counts rows, and of those only the ones that are not blank. An editor counts lines.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

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
        return f"line {_line_of(int(row), text)}: has {found} cells, expected {expected}: {_short(line)}"
    if match := _CELL.search(message):
        column, row, problem = match.groups()
        name = list(types)[int(column)]
        hint = "; convert the file" if "UTF8" in problem else ""
        line = _line_of(int(row), text)
        return f"line {line}, column {name!r}: expected {types[name]}, got {_short(problem)}{hint}"
    if "straddling" in message:
        return f"a row is longer than {text.block_bytes} bytes; is a quote missing?"
    return f"cannot be read as text separated by {text.dialect.separator!r} ({_short(message)})"


def _line_of(row: int, text: "Text") -> int:
    """Find the line on which a row begins; both count from 1, and a header is row 1."""
    header = text.names if text.dialect.header else []
    rows_before = row - 1 - bool(header)
    line = text.head.blank_lines + row + sum(name.count("\n") for name in header)
    with text.open(dict.fromkeys(text.names, pa.binary()), with_blank_rows=True, skip_ragged=True) as reader:
        for batch in reader:
            before = batch.slice(0, rows_before)
            line += sum(pc.sum(pc.count_substring(column, "\n")).as_py() or 0 for column in before.columns)
            rows_before -= before.num_rows
            if not rows_before:
                break
    return line


def _short(text: str) -> str:
    text = text.removeprefix("invalid value ").strip("\r\n")
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
