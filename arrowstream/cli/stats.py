"""``arrowstream stats``: what the columns hold."""

import argparse
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.cli.places import add_dataset, open_dataset
from arrowstream.cli.report import Report
from arrowstream.errors import MissingColumnError
from arrowstream.progress import Progress
from arrowstream.scanning import to_arrow_dataset


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "stats",
        help="summarise the columns",
        description="Summarise each column: nulls, smallest, largest and mean value, or length of texts and lists.",
    )
    add_dataset(parser)
    parser.add_argument("--columns", nargs="+", metavar="COLUMN", help="only these columns")
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    dataset = open_dataset(arguments)
    shards = to_arrow_dataset(dataset, fetch=True)
    names = arguments.columns or shards.schema.names
    for name in names:
        if name not in shards.schema.names:
            raise MissingColumnError(f"no column is named {name!r}; there are: {', '.join(shards.schema.names)}")
    columns = {name: _Column(shards.schema.field(name).type) for name in names}
    with Progress("reading", total=dataset.size, unit="samples", shown=not arguments.json) as progress:
        for batch in shards.to_batches(columns=names):
            for name, column in columns.items():
                column.add(batch.column(name))
            progress.advance(batch.num_rows)
    rows = [{"column": name, **column.summary()} for name, column in columns.items()]
    return Report(facts={"samples": dataset.size}, tables={"columns": rows})


class _Column:
    """Sums over the record batches of a column."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._nulls = self._count = 0
        self._total: float = 0.0
        self._least: Any = None
        self._most: Any = None
        self._of = "values"

    def add(self, values: pa.Array) -> None:
        """Count in one record batch."""
        self._nulls += values.null_count
        measured = self._measure(values)
        if measured is None:
            return
        measured = measured.drop_null()
        if not len(measured):
            return
        extremes = pc.min_max(measured)
        least, most = extremes["min"].as_py(), extremes["max"].as_py()
        self._least = least if self._least is None else min(self._least, least)
        self._most = most if self._most is None else max(self._most, most)
        if pa.types.is_integer(measured.type) or pa.types.is_floating(measured.type):
            self._total += pc.sum(measured).as_py()
            self._count += len(measured)

    def _measure(self, values: pa.Array) -> pa.Array | None:
        """Give what is compared: numbers and times themselves, of texts and lists the lengths."""
        kind = values.type
        if isinstance(kind, pa.BaseExtensionType):
            values = values.storage
            kind = values.type
        if pa.types.is_boolean(kind):
            return values.cast(pa.int8())
        if pa.types.is_float16(kind):
            return values.cast(pa.float32())
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind):
            return None if pa.types.is_interval(kind) else values
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self._of = "characters"
            return pc.utf8_length(values)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            self._of = "bytes"
            return pc.binary_length(values)
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._of = "elements"
            return pc.list_value_length(values)
        return None

    def summary(self) -> dict[str, Any]:
        """Give what was found."""
        return {
            "type": str(self._kind),
            "nulls": self._nulls,
            "of": self._of,
            "least": _plain(self._least),
            "most": _plain(self._most),
            "mean": self._total / self._count if self._count else None,
        }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else str(value)
