"""Delimited text: CSV, TSV, and XSV with any separator.

* :mod:`arrowstream_csv.dialect`: what the options of a file mean.
* :mod:`arrowstream_csv.read`: rows of text to record batches, with Arrow's own parser.
* :mod:`arrowstream_csv.split`: the same for what that parser cannot cut.
* :mod:`arrowstream_csv.describe`: how many rows a file has, and of what types.
* :mod:`arrowstream_csv.explain`: which line and column of a file is wrong.
* :mod:`arrowstream_csv.write`: record batches to rows of text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from arrowstream import ipc
from arrowstream.columns.declared import declared_schema
from arrowstream.format import Description, Format, WrittenShard
from arrowstream.index import IntArray, Shard
from arrowstream_csv.describe import describe_file
from arrowstream_csv.dialect import Dialect, parse_dialect
from arrowstream_csv.read import read_file
from arrowstream_csv.split import needs_split, split_file
from arrowstream_csv.write import encode_rows, write_file


class XSV(Format):
    """Text whose cells are separated by whatever ``options["separator"]`` says."""

    name: ClassVar[str] = "xsv"
    suffix: ClassVar[str] = ".xsv"
    separator: ClassVar[str | None] = None

    def transcode(self, source: Path, target: Path, shard: Shard) -> None:
        """Parse the text as the types that the index declares."""
        dialect = self._dialect(shard.options)
        schema = declared_schema(shard.columns)
        read = split_file if needs_split(source, dialect) else read_file
        ipc.write_batches(
            target,
            schema,
            read(source, dialect, schema),
            num_rows=shard.num_samples,
            content=shard.content,
        )

    def describe(self, file: BinaryIO, options: Mapping[str, Any]) -> Description:
        """Parse the whole text once, and find the narrowest type that holds every cell of a column."""
        return describe_file(file, self._dialect(options), options)

    def row_bytes(self, batch: pa.RecordBatch, options: Mapping[str, Any], first_row: int) -> IntArray:
        """Write the rows out and measure them."""
        return encode_rows(batch, self._dialect(options), first_row).sizes

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
        """Write a header and the rows."""
        del codec, level
        return write_file(path, schema, batches, self._dialect(options))

    def _dialect(self, options: Mapping[str, Any]) -> Dialect:
        return parse_dialect(options, self.separator)


class CSV(XSV):
    """Text whose cells are separated by commas, unless options say otherwise."""

    name: ClassVar[str] = "csv"
    suffix: ClassVar[str] = ".csv"
    separator: ClassVar[str | None] = ","


class TSV(XSV):
    """Text whose cells are separated by tabs."""

    name: ClassVar[str] = "tsv"
    suffix: ClassVar[str] = ".tsv"
    suffixes: ClassVar[tuple[str, ...]] = (".tsv", ".tab")
    separator: ClassVar[str | None] = "\t"
