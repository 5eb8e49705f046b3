"""How many rows a file has, and of what types: one pass over all of it, so that a later row is no surprise.

A column of whole numbers is ``int``, one of numbers ``float``, any other ``str``. Nothing is lost on the way: what
would not be written again as it stands (``007``, ``+49``, a whole number beyond 64 bits) is text.
"""

from collections.abc import Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.columns.declared import declared_schema
from arrowstream.errors import CorruptShardError, IndexFormatError
from arrowstream.format import Description
from arrowstream_csv.cells import refusal
from arrowstream_csv.dialect import Dialect
from arrowstream_csv.explain import explain
from arrowstream_csv.read import Head, Text, read_head, read_rows

# Every whole number up to here is a float of its own.
_EXACT = 1 << 53
_LIKE_TEXT = r"^(\+|-?0[0-9])"
_LONG_WHOLE = r"^-?[0-9]{16,}$"


def describe_file(file: BinaryIO, dialect: Dialect, options: Mapping[str, Any]) -> Description:
    """Read a file once.

    Args:
        file: Seekable.
        dialect: How to read it.
        options: That the dialect comes from; ``columns`` in it are declared, and not looked for.

    Raises:
        CorruptShardError: It is no such text, lacks a declared column, or has values that a declared type cannot hold.
        IndexFormatError: A declared encoding does not exist, or none that text can hold.
    """
    if dialect.mosaic:
        raise IndexFormatError("options: files in mosaic's layout are described by the index.json beside them")
    declared: Mapping[str, str] = options.get("columns", {})
    schema = declared_schema(declared)
    refused = refusal(schema)
    if refused is not None:
        raise IndexFormatError(refused)
    head = read_head(file, dialect)
    names = head.names if dialect.header else list(declared) or _numbered_names(file, head, dialect)
    missing = [name for name in declared if name not in names]
    if missing:
        raise CorruptShardError(f"has no column {missing[0]!r}; its header has: {', '.join(names)}")
    found = {name: _Column(empty_is_null=dialect.null_values is None) for name in names if name not in declared}
    types = {name: pa.string() if name in found else schema.field(name).type for name in names}
    num_samples = 0
    for batch in read_rows(file, head, dialect, names, types):
        num_samples += batch.num_rows
        for name, column in found.items():
            column.look(batch.column(name))
    return Description(
        num_samples=num_samples,
        columns={name: found[name].encoding if name in found else declared[name] for name in names},
        options={name: value for name, value in options.items() if name != "columns"},
    )


def _numbered_names(file: BinaryIO, head: Head, dialect: Dialect) -> list[str]:
    """Name columns that have no names by their numbers, from f0 on."""
    if head.is_all:
        raise CorruptShardError("is empty; name its columns in the options")
    text = Text(file, head, dialect, [])
    try:
        with text.open({}) as reader:
            return list(reader.schema.names)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise CorruptShardError(explain(error, text, {})) from error


class _Column:
    """What was seen of a column so far."""

    def __init__(self, *, empty_is_null: bool) -> None:
        self._empty_is_null = empty_is_null
        self.encoding = "str"
        self._seen = ""
        self._is_long = False  # a whole number in it is rounded when it becomes a float

    def look(self, cells: pa.Array) -> None:
        """Widen the column so that it holds more cells."""
        if self._seen == "str":
            return
        cells = cells.drop_null()
        if self._empty_is_null and pc.any(pc.equal(cells, "")).as_py():
            cells = cells.filter(pc.not_equal(cells, ""))
        if not len(cells):
            return
        kind = self._kind(cells)
        if "float" in (kind, self._seen) and kind != "str":
            kind = "str" if self._is_long else "float"
        self.encoding = self._seen = kind

    def _kind(self, cells: pa.Array) -> str:
        if self._seen == "float":  # a cast that fails takes ten times as long as one that does not
            return self._kind_of_numbers(cells)
        try:
            whole = cells.cast(pa.int64())
        except pa.ArrowInvalid:
            return self._kind_of_numbers(cells)
        if not pc.all(pc.equal(whole.cast(pa.string()), cells)).as_py():
            return self._kind_of_numbers(cells)
        limits = pc.min_max(whole).as_py()
        self._is_long |= max(-limits["min"], limits["max"]) > _EXACT
        return "int"

    def _kind_of_numbers(self, cells: pa.Array) -> str:
        try:
            cells.cast(pa.float64())
        except pa.ArrowInvalid:
            return "str"
        suspect = cells.filter(pc.match_substring_regex(cells, f"{_LIKE_TEXT}|{_LONG_WHOLE}"))
        if pc.any(pc.match_substring_regex(suspect, _LIKE_TEXT)).as_py():
            return "str"
        self._is_long |= len(suspect) > 0
        return "float"
