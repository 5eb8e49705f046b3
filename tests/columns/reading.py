"""What the decoder of a dataset does with a reader, for one column."""

import math
import re
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.columns import Encoding, RowReader


def read_rows(reader: RowReader, rows: Any) -> list[Any]:
    names = {f"c0_{name}": value for name, value in reader.values.items()}
    expression = re.sub(r"\$(\w+)", r"c0_\1", reader.expression)
    exec(f"def read_row(r): return {expression}", names)
    return [names["read_row"](r) for r in rows]


def read_all(encoding: Encoding, array: pa.Array) -> list[Any]:
    return read_rows(encoding.reader(array), range(len(array)))


def written(encoding: Encoding, values: list[Any]) -> pa.Array:
    array = encoding.to_arrow([None if value is None else encoding.encode(value) for value in values])
    assert array.type == encoding.arrow_type
    array.validate(full=True)
    return array


def same(left: Any, right: Any) -> bool:
    """Compare values, their types, dtypes and shapes included; NaN equals NaN."""
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if hasattr(left, "tobytes") and hasattr(left, "mode"):
        return left.mode == right.mode and left.size == right.size and left.tobytes() == right.tobytes()
    if isinstance(left, np.ndarray | np.generic):
        exact = type(left) is type(right) and left.dtype == right.dtype and left.shape == right.shape
        return exact and left.tobytes() == right.tobytes()
    both_nan = isinstance(left, float) and isinstance(right, float) and math.isnan(left) and math.isnan(right)
    return type(left) is type(right) and (left == right or both_nan)
