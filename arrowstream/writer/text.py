"""Writers of text: CSV, TSV, XSV and JSON Lines."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypedDict, Unpack

from arrowstream.writer.output import Out
from arrowstream.writer.schema import Columns
from arrowstream.writer.shards import ShardWriter


class WriterArguments(TypedDict, total=False):
    """The arguments of :class:`ShardWriter`, but for those that each writer of text has of its own."""

    out: Out
    keep_local: bool
    compression: str | None
    hashes: Sequence[str] | None
    size_limit: int | str | None
    progress_bar: bool
    max_workers: int | None
    retry: int
    exist_ok: bool
    append: bool
    metadata: Mapping[str, Any] | None
    storage_options: Mapping[str, Any] | None


class XSVWriter(ShardWriter):
    r"""Writes rows of cells under a header of their names.

    Where cells are separated by one character and rows end with LF or CRLF, a cell that holds one of these is quoted,
    as every reader of CSV expects; an empty text is quoted, too, and a missing value is an empty cell. Other separators
    and newlines know no quotes: texts that hold them, and missing values, are refused when their rows are written.

    Args:
        columns: As for :class:`ShardWriter`: numbers, bool, text, json, dates, timestamps, decimals.
        separator: Between cells.
        newline: Behind rows.
        arguments: As for :class:`ShardWriter`. ``size_limit`` counts the bytes of rows, without the header.

    Raises:
        EncodingError: Text cannot hold a column.
        IndexFormatError: The separator cannot separate, or the newline cannot end a row.
        Exception: As :class:`ShardWriter`.
    """

    format_name = "xsv"
    option_names: ClassVar[tuple[str, ...]] = ("separator", "newline")

    def __init__(
        self,
        *,
        columns: Columns | None = None,
        separator: str,
        newline: str = "\n",
        **arguments: Unpack[WriterArguments],
    ) -> None:
        self.separator = separator
        self.newline = newline
        marks = {"separator": separator, "newline": newline}
        if len(separator) == 1 and separator.isascii() and newline in ("\n", "\r\n"):
            self._format_options = {**marks, "null_values": [""], "quoted_nulls": False, "blank_rows": True}
        else:
            self._format_options = {**marks, "layout": "mosaic"}
        super().__init__(columns=columns, **arguments)


class CSVWriter(XSVWriter):
    """Writes CSV; see :class:`XSVWriter`."""

    format_name = "csv"
    option_names: ClassVar[tuple[str, ...]] = ("newline",)

    def __init__(
        self, *, columns: Columns | None = None, newline: str = "\n", **arguments: Unpack[WriterArguments]
    ) -> None:
        super().__init__(columns=columns, separator=",", newline=newline, **arguments)


class TSVWriter(XSVWriter):
    """Writes TSV; see :class:`XSVWriter`."""

    format_name = "tsv"
    option_names: ClassVar[tuple[str, ...]] = ("newline",)

    def __init__(
        self, *, columns: Columns | None = None, newline: str = "\n", **arguments: Unpack[WriterArguments]
    ) -> None:
        super().__init__(columns=columns, separator="\t", newline=newline, **arguments)


class JSONWriter(ShardWriter):
    r"""Writes JSON Lines: one object a row.

    Args:
        columns: As for :class:`ShardWriter`: numbers, bool, text, json, and records and lists of these.
        newline: Behind rows.
        arguments: As for :class:`ShardWriter`. ``size_limit`` counts the bytes of rows.

    Raises:
        EncodingError: JSON cannot hold a column.
        Exception: As :class:`ShardWriter`.
    """

    format_name = "jsonl"
    option_names: ClassVar[tuple[str, ...]] = ("newline",)

    def __init__(
        self, *, columns: Columns | None = None, newline: str = "\n", **arguments: Unpack[WriterArguments]
    ) -> None:
        self.newline = newline
        self._format_options = {"newline": newline}
        super().__init__(columns=columns, **arguments)
