"""JSON Lines: one object a line.

* :mod:`arrowstream_jsonl.read`: lines to record batches, with Arrow's own parser, or Python's where that refuses.
* :mod:`arrowstream_jsonl.describe`: how many rows a file has, and of what types.
* :mod:`arrowstream_jsonl.infer`: the type of one value, and the type that holds what two types hold.
* :mod:`arrowstream_jsonl.write`: record batches to lines.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from arrowstream import ipc
from arrowstream.columns.declared import declared_encodings
from arrowstream.errors import IndexFormatError
from arrowstream.format import Description, Format, WrittenShard
from arrowstream.index import IntArray, Shard
from arrowstream_jsonl.describe import describe_file
from arrowstream_jsonl.read import read_file
from arrowstream_jsonl.write import encode_rows, write_file


class JSONL(Format):
    """One JSON object a line; what an object does not have is a missing value."""

    name: ClassVar[str] = "jsonl"
    suffix: ClassVar[str] = ".jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")

    def transcode(self, source: Path, target: Path, shard: Shard) -> None:
        """Parse the lines as the types that the index declares."""
        encodings = declared_encodings(shard.columns)
        with source.open("rb") as file:
            ipc.write_batches(
                target,
                pa.schema([encoding.field(name) for name, encoding in encodings.items()]),
                read_file(file, encodings, _newline(shard.options)),
                num_rows=shard.num_samples,
                content=shard.content,
            )

    def describe(self, file: BinaryIO, options: Mapping[str, Any]) -> Description:
        """Parse all lines once, and find the narrowest type that holds every value of a key."""
        return describe_file(file, _newline(options), options)

    def row_bytes(self, batch: pa.RecordBatch, options: Mapping[str, Any], first_row: int) -> IntArray:
        """Write the rows out and measure them."""
        return encode_rows(batch, _newline(options), first_row).sizes

    def write(
        self,
        path: Path,
        schema: pa.Schema,
        batches: Sequence[pa.RecordBatch],
        *,
        codec: str | None,
        level: int | None,
        options: Mapping[str, Any],
    ) -> WrittenShard:
        """Write a line a row."""
        del codec, level
        return write_file(path, schema, batches, _newline(options))


def _newline(options: Mapping[str, Any]) -> str:
    """Read the options of a file.

    Raises:
        IndexFormatError: There is no such option, or it cannot have that value.
    """
    unknown = sorted(options.keys() - {"layout", "newline", "columns"})
    if unknown:
        raise IndexFormatError(f"options: there is no {unknown[0]!r}; there are: layout, newline, columns")
    if options.get("layout", "plain") not in ("plain", "mosaic"):
        raise IndexFormatError(f'options: layout is {options["layout"]!r}, expected "plain" or "mosaic"')
    if not isinstance(options.get("columns", {}), dict):
        raise IndexFormatError(f"options: columns is {options['columns']!r}, expected encodings by column name")
    newline = options.get("newline", "\n")
    if not isinstance(newline, str):
        raise IndexFormatError(f"options: newline is {newline!r}, expected text")
    return newline
