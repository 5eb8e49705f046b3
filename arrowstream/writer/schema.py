"""Which encoding each column of a dataset has."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from arrowstream.columns import Encoding, infer_encoding, parse_encoding
from arrowstream.columns.arrow_types import with_wide_dictionaries, without_views
from arrowstream.errors import EncodingError

Columns: TypeAlias = Mapping[str, str | pa.DataType] | pa.Schema


def parse_columns(columns: Columns) -> dict[str, Encoding]:
    """Read what a user gave as ``columns=``.

    Raises:
        EncodingError: A schema has two columns of one name.
        UnknownEncodingError: A column names an encoding that does not exist.
    """
    if isinstance(columns, pa.Schema):
        twice = sorted({name for name in columns.names if columns.names.count(name) > 1})
        if twice:
            raise EncodingError(f"several columns are named {', '.join(map(repr, twice))}; rename all but one of each")
        return {field.name: infer_encoding(field.with_type(_storable(field.type))) for field in columns}
    return {
        name: parse_encoding(_storable(spec) if isinstance(spec, pa.DataType) else spec)
        for name, spec in columns.items()
    }


def _storable(arrow_type: pa.DataType) -> pa.DataType:
    # A slice of a view array is written with all the text of the array it was cut from.
    return with_wide_dictionaries(without_views(arrow_type))


def infer_columns(batch: pa.RecordBatch | pa.Table | Mapping[str, Any]) -> dict[str, Encoding]:
    """Choose the encodings that fit a first batch."""
    if isinstance(batch, pa.RecordBatch | pa.Table):
        return parse_columns(batch.schema)
    encodings = {}
    for name, values in batch.items():
        if isinstance(values, np.ndarray) and values.ndim > 1:
            shape = ",".join(map(str, values.shape[1:]))
            encodings[name] = parse_encoding(f"ndarray:{values.dtype.name}:{shape}")
        else:
            encodings[name] = infer_encoding(pa.field(name, pa.array(values).type))
    return encodings
