"""How many rows a file has, and of what types: one pass over all of it, so that a later line is no surprise.

Where the values of a key are of one type, that is the column's, nested as they are: records become structs, lists
lists. Integers and floats are floats together. Values of several types, and integers beyond 64 bits, stay what they are
in a column of the encoding ``json``.
"""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.columns.declared import declared_encodings
from arrowstream.columns.type_names import parse_type
from arrowstream.errors import CorruptShardError, UnknownEncodingError
from arrowstream.format import Description
from arrowstream_jsonl.infer import MAX_FIELDS, NoCommonTypeError, common_type, is_text, type_of
from arrowstream_jsonl.read import parse_block, parse_lines, parse_rows, read_lines

_NAMES = {pa.int64(): "int", pa.float64(): "float", pa.bool_(): "bool", pa.string(): "str", pa.null(): "str"}
# Arrow parses and frees nested values by recursion, and ends the process when they are nested too deeply.
_MAX_DEPTH = 64
# More columns than this make no table.
_MAX_COLUMNS = 10_000
# From here on a float may be an integer of more than 64 bits.
_BEYOND_INT = float(1 << 63)


def describe_file(file: BinaryIO, newline: str, options: Mapping[str, Any]) -> Description:
    """Read a file once.

    Args:
        file: Read from where it is.
        newline: What ends a line.
        options: ``columns`` in them are declared, and not looked for.

    Raises:
        CorruptShardError: A line is no JSON object, or has a value that a declared type cannot hold.
        IndexFormatError: A declared encoding does not exist.
    """
    declared: Mapping[str, str] = options.get("columns", {})
    encodings = declared_encodings(declared)
    found: dict[str, pa.DataType | None] = {}  # None: of no one type
    num_samples = 0
    line = 1
    for block in read_lines(file, newline):
        num_samples += _look(block, found, line)
        if encodings:
            parse_rows(block, encodings, line)
        if len(found) > _MAX_COLUMNS:
            raise CorruptShardError(f"its objects have more than {_MAX_COLUMNS} keys; they are no rows of one table")
        line += block.count(b"\n")
    columns = {name: declared.get(name) or _encoding(kind) for name, kind in found.items()}
    columns |= {name: declared[name] for name in declared if name not in columns}
    if num_samples and not columns:
        raise CorruptShardError("holds no objects with keys; name its columns in the options")
    return Description(
        num_samples=num_samples,
        columns=columns,
        options={name: value for name, value in options.items() if name != "columns"},
    )


def _look(block: bytes, found: dict[str, pa.DataType | None], first_line: int) -> int:
    """Widen the columns so that they hold the values of a block, and count its rows."""
    parsed = _parsed(block)
    if parsed is not None:
        num_rows, types = parsed
        for name, kind in types.items():
            _widen(found, name, kind)
        return num_rows
    num_rows = 0
    for line, sample in parse_lines(block, first_line):
        num_rows += 1
        for name, value in sample.items():
            if not is_text(name):
                raise CorruptShardError(f"line {line}: has the key {name!r}, which is no text that UTF-8 can hold")
            _widen(found, name, _type_of(value))
    return num_rows


def _parsed(block: bytes) -> tuple[int, dict[str, pa.DataType]] | None:
    """Have Arrow count the rows and find the types of a block; None where it cannot, or would lose digits."""
    if _depth(block) > _MAX_DEPTH:
        return None
    try:
        table = parse_block(block, None)
        # Arrow does not check that names are UTF-8, nested ones neither, until they are asked for.
        types = {field.name: _without_times(field.type) for field in table.schema}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        return None
    if any(_is_huge(column) for chunked in table.columns for column in chunked.chunks):
        return None
    return int(table.num_rows), types


def _depth(block: bytes) -> int:
    """Tell how deeply brackets are nested in a line, at most; those in texts count as well."""
    inside = block.count(b"[") + block.count(b"{") - block.count(b"\n{")
    if inside <= _MAX_DEPTH:
        return inside
    text = np.frombuffer(block, np.uint8)
    kinds = text | 0x20  # [ is 0x5b and { 0x7b, ] is 0x5d and } 0x7d
    steps = (kinds == 0x7B).astype(np.int8) - (kinds == 0x7D).astype(np.int8)
    depths = np.cumsum(steps, dtype=np.int32)
    starts = np.concatenate([[0], np.flatnonzero(text[:-1] == 0x0A) + 1])
    before = np.concatenate([[0], depths[starts[1:] - 1]])
    return int((np.maximum.reduceat(depths, starts) - before).max())


def _is_huge(values: pa.Array) -> bool:
    if pa.types.is_float64(values.type):
        limits = pc.min_max(values).as_py()
        return limits["max"] is not None and max(-limits["min"], limits["max"]) >= _BEYOND_INT
    return any(_is_huge(part) for part in _children(values))


def _children(values: pa.Array) -> Iterator[pa.Array]:
    if pa.types.is_struct(values.type):
        yield from values.flatten()
    elif pa.types.is_list(values.type):
        yield values.flatten()


def _type_of(value: Any) -> pa.DataType | None:
    try:
        return type_of(value)
    except NoCommonTypeError:
        return None


def _widen(found: dict[str, pa.DataType | None], name: str, kind: pa.DataType | None) -> None:
    known = found.setdefault(name, kind)
    if known is None or kind is None:
        found[name] = None
        return
    try:
        found[name] = common_type(known, kind)
    except NoCommonTypeError:
        found[name] = None


def _without_times(kind: pa.DataType) -> pa.DataType:
    """Take texts for texts, also where Arrow sees a time in them."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _without_times(field.type)) for field in kind])
    return kind


def _encoding(kind: pa.DataType | None) -> str:
    """Name the encoding of a column; ``json`` where no type holds its values, or an index could not name it."""
    if kind is None:
        return "json"
    if kind in _NAMES:
        return _NAMES[kind]
    try:
        named = parse_type(str(kind)) == kind
    except UnknownEncodingError:
        named = False
    return str(kind) if named and _num_fields(kind) <= MAX_FIELDS else "json"


def _num_fields(kind: pa.DataType) -> int:
    return sum(1 + _num_fields(kind.field(number).type) for number in range(kind.num_fields))
