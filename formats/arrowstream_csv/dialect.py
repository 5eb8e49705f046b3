"""How a file of delimited text is to be read: the options that an index or a user gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arrowstream.errors import IndexFormatError

#: Options, with what they have to be.
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "layout": (str, '"plain" or "mosaic"'),
    "separator": (str, "text of one character or more"),
    "newline": (str, "text of one character or more"),
    "quote": ((str, type(None)), "one ASCII character, or null for none"),
    "escape": ((str, type(None)), "one ASCII character, or null for none"),
    "header": (bool, "true or false"),
    "null_values": (list, "a list of texts"),
    "quoted_nulls": (bool, "true or false"),
    "blank_rows": (bool, "true or false"),
    "columns": (dict, "encodings by column name"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How rows and cells are told apart, and which cells are missing values.

    Attributes:
        mosaic: Whether rows are those of mosaicml-streaming: cells joined by the separator, lines ended by the
            newline, without quotes, missing values or blank lines.
        separator: Between cells.
        newline: Behind each line that is written; all of LF, CRLF and CR are read, but for mosaic's rows.
        quote: Around cells that hold separators or newlines; None: there are no quotes.
        escape: Before a quote inside of quotes, beside the doubled quote; None: there is none.
        header: Whether the first row names the columns.
        null_values: Cells that are missing values in every column; None: empty cells of all columns but text.
        quoted_nulls: Whether they are so in quotes, too.
        blank_rows: Whether a blank line is a row (of one cell, or of empty ones) and not nothing.
    """

    mosaic: bool
    separator: str
    newline: str
    quote: str | None
    escape: str | None
    header: bool
    null_values: tuple[str, ...] | None
    quoted_nulls: bool
    blank_rows: bool


def parse_dialect(options: Mapping[str, Any], separator: str | None) -> Dialect:
    """Read the options of a file.

    Args:
        options: Of an index, or as a user gave them.
        separator: Where the options name none; None: they have to.

    Raises:
        IndexFormatError: There is no such option, or it cannot have that value.
    """
    for name, value in options.items():
        if name not in _KINDS:
            raise IndexFormatError(f"options: there is no {name!r}; there are: {', '.join(_KINDS)}")
        kind, expected = _KINDS[name]
        if not isinstance(value, kind) or value == "":
            raise IndexFormatError(f"options: {name} is {value!r}, expected {expected}")
    if "separator" not in options and separator is None:
        raise IndexFormatError('options: expected a "separator"')
    if options.get("layout", "plain") not in ("plain", "mosaic"):
        raise IndexFormatError(f'options: layout is {options["layout"]!r}, expected "plain" or "mosaic"')
    mosaic = options.get("layout") == "mosaic"
    nulls = options.get("null_values", [] if mosaic else None)
    if nulls is not None and not all(isinstance(text, str) for text in nulls):
        raise IndexFormatError(f"options: null_values is {nulls!r}, expected a list of texts")
    dialect = Dialect(
        mosaic=mosaic,
        separator=options.get("separator", separator),
        newline=options.get("newline", "\n"),
        quote=options.get("quote", None if mosaic else '"'),
        escape=options.get("escape"),
        header=options.get("header", True),
        null_values=None if nulls is None else tuple(nulls),
        quoted_nulls=options.get("quoted_nulls", True),
        blank_rows=options.get("blank_rows", mosaic),
    )
    if not mosaic:
        _check_plain(dialect)
    return dialect


def _check_plain(dialect: Dialect) -> None:
    characters = {"separator": dialect.separator, "quote": dialect.quote, "escape": dialect.escape}
    for name, text in characters.items():
        if text is not None and (len(text) != 1 or not text.isascii() or text in "\r\n"):
            raise IndexFormatError(f"options: {name} is {text!r}, expected one ASCII character that ends no line")
    if dialect.separator in (dialect.quote, dialect.escape):
        raise IndexFormatError(f"options: {dialect.separator!r} separates cells and quotes them")
    if dialect.newline not in ("\n", "\r\n"):
        raise IndexFormatError(f"options: newline is {dialect.newline!r}, expected LF or CRLF")
