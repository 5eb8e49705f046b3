"""``arrowstream head``: the first samples."""

import argparse
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.cli.places import add_dataset, open_dataset
from arrowstream.cli.report import Report

_WIDTH = 60


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser("head", help="show the first samples", description="Show samples of a dataset.")
    add_dataset(parser)
    parser.add_argument("-n", "--num-samples", type=int, default=5, help="how many (default: %(default)s)")
    parser.add_argument("--start", type=int, default=0, metavar="ID", help="the first one's id (default: %(default)s)")
    parser.add_argument("--columns", nargs="+", metavar="COLUMN", help="only these columns")
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    if arguments.num_samples < 0:
        raise ValueError(f"--num-samples is {arguments.num_samples}; expected 0 or more")
    dataset = open_dataset(arguments)
    start = arguments.start + dataset.size if arguments.start < 0 else arguments.start
    stop = min(start + arguments.num_samples, dataset.size)
    # As Arrow: no image is decoded, and nothing that a pickle holds is run.
    table = dataset.take(range(start, stop), arguments.columns) if start < stop else pa.table({})
    rows = [{"sample_id": start + row, **_shown(table, row)} for row in range(table.num_rows)]
    return Report(tables={"samples": rows})


def _shown(table: pa.Table, row: int) -> dict[str, Any]:
    return {name: _short(_storage(table.column(name)[row])) for name in table.column_names}


def _storage(scalar: pa.Scalar) -> Any:
    if isinstance(scalar, pa.ExtensionScalar):
        kind = scalar.type
        if isinstance(kind, pa.FixedShapeTensorType) and scalar.is_valid:
            return np.asarray(scalar.value.values).reshape(kind.shape)
        return None if scalar.value is None else _storage(scalar.value)
    return scalar.as_py()


def _short(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes {value[:8].hex(' ')}{' …' if len(value) > 8 else ''}>"
    if isinstance(value, np.ndarray):
        first = ", ".join(f"{number:.4g}" for number in value.reshape(-1)[:4].tolist())
        return f"<{value.dtype} {'×'.join(map(str, value.shape))}: {first}{' …' if value.size > 4 else ''}>"
    if value is None or isinstance(value, int | float):
        return value
    text = str(value).replace("\n", "⏎")
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
