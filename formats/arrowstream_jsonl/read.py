"""Lines to record batches.

Arrow parses a block of lines at once. Columns of the encoding ``json``, and blocks that it refuses, are Python's: it
takes what Arrow does not (a key twice in one object), and tells which line is wrong.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.json as pajson

from arrowstream.columns import Encoding
from arrowstream.errors import CorruptShardError, EncodingError
from arrowstream.lines import read_blocks
from arrowstream_jsonl.values import holds

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_CHARS = 80
# Encodings whose values Arrow's parser does not have.
_PYTHONS = ("json", "str_int")


def read_file(file: BinaryIO, encodings: Mapping[str, Encoding], newline: str) -> Iterator[pa.RecordBatch]:
    """Read lines as the types of encodings, a block at a time.

    Raises:
        CorruptShardError: A line is no JSON object, or a value in it is not of its column's type.
    """
    for name, encoding in encodings.items():
        if not holds(encoding):
            raise CorruptShardError(f"column {name!r}: JSON holds no {encoding.name}")
    line = 1
    for block in read_lines(file, newline):
        yield from parse_rows(block, encodings, line).to_batches()
        line += block.count(b"\n")


def read_lines(file: BinaryIO, newline: str) -> Iterator[bytes]:
    """Read whole lines, of which each ends with LF whatever ends it in the file.

    Raises:
        CorruptShardError: An object is not followed by a newline.
    """
    if newline.strip(" \t\r\n") == "" and "\n" in newline:
        for number, block in enumerate(read_blocks(file, b"\n")):
            yield block.removeprefix(_BYTE_ORDER_MARK) if number == 0 else block
        return
    # An unusual newline may stand in the text of an object: only a parser knows where that ends.
    text = _decoded(file.read())
    decoder = json.JSONDecoder()
    end = 0
    while end < len(text):
        start = end
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise CorruptShardError(f"at character {start}: is no JSON ({error})") from error
        if not text.startswith(newline, end):
            raise CorruptShardError(f"at character {end}: expected {newline!r}, got {text[end : end + 20]!r}")
        yield text[start:end].encode() + b"\n"
        end += len(newline)


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise CorruptShardError(f"at byte {error.start}: is not UTF-8; convert the file") from error


def parse_block(block: bytes, schema: pa.Schema | None) -> pa.Table:
    """Have Arrow parse a block of lines; None: as the types that it finds.

    Raises:
        pa.ArrowInvalid: It does not.
    """
    table = pajson.read_json(
        pa.BufferReader(block),
        # All of it is one block: across several Arrow finds different types.
        read_options=pajson.ReadOptions(use_threads=False, block_size=len(block)),
        parse_options=pajson.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
        ),
    )
    table.validate(full=True)
    return table


def parse_rows(block: bytes, encodings: Mapping[str, Encoding], first_line: int) -> pa.Table:
    """Parse a block of lines as the types of encodings.

    Raises:
        CorruptShardError: As ``read_file``.
    """
    arrows = {name: encoding for name, encoding in encodings.items() if encoding.name not in _PYTHONS}
    pythons = {name: encoding for name, encoding in encodings.items() if encoding.name in _PYTHONS}
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    if arrows:
        schema = pa.schema([(name, encoding.arrow_type) for name, encoding in arrows.items()])
        try:
            table = parse_block(block, schema).combine_chunks()
            columns = {name: table.column(name) for name in arrows}
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
            pythons = dict(encodings)
    if pythons:
        columns |= _parse_slowly(block, pythons, first_line)
    return pa.table(
        [columns[name] for name in encodings],
        schema=pa.schema([encoding.field(name) for name, encoding in encodings.items()]),
    )


def _parse_slowly(block: bytes, encodings: Mapping[str, Encoding], first_line: int) -> dict[str, pa.Array]:
    columns: dict[str, list[Any]] = {name: [] for name in encodings}
    for line, sample in parse_lines(block, first_line):
        for name, encoding in encodings.items():
            value = sample.get(name)
            try:
                columns[name].append(None if value is None else encoding.encode(value))
            except EncodingError as error:
                raise CorruptShardError(f"line {line}, column {name!r}: {error}") from error
    return {name: encodings[name].to_arrow(values) for name, values in columns.items()}


def parse_lines(block: bytes, first_line: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Have Python parse the lines of a block; blank ones are left out.

    Yields:
        The number of a line, and the object in it.

    Raises:
        CorruptShardError: A line is no JSON object.
    """
    for line, text in enumerate(block.split(b"\n"), first_line):
        if not text.strip():
            continue
        try:
            sample = json.loads(text)
        except UnicodeDecodeError as error:
            raise CorruptShardError(f"line {line}: is not UTF-8 ({error}); convert the file") from error
        except (ValueError, RecursionError) as error:
            raise CorruptShardError(f"line {line}: is no JSON ({error}): {_short(text)}") from error
        if not isinstance(sample, dict):
            raise CorruptShardError(f"line {line}: expected an object, got {_short(text)}")
        yield line, sample


def _short(text: bytes) -> str:
    head = text[:_MAX_CHARS].decode(errors="replace").strip()
    return f"{head}…" if len(text) > _MAX_CHARS else head
