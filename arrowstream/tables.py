"""One table of rows from several shards, whose columns may differ.

A column's type is widened to one that holds the values of all: null becomes anything, integers, floats and decimals
widen, times take the finer unit, text and lists the larger offsets, records the fields of both
(:func:`arrowstream.foreign.widen`). A column of an encoding that its type does not tell (``json``, ``jpeg``) goes with
itself alone. Casts are checked. A column that a shard lacks is an error: a null would look like a missing value.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import pyarrow as pa

from arrowstream.columns import encoding_of, infer_encoding
from arrowstream.errors import EncodingError
from arrowstream.foreign import widen

Piece = tuple[str, pa.RecordBatch]  # of which shard, and rows of it


def join(pieces: Sequence[Piece], columns: Sequence[str]) -> pa.Table:
    """Put rows together, in their order.

    Args:
        pieces: Not empty.
        columns: Those to give.

    Raises:
        EncodingError: A shard lacks one of the columns, or no type holds the values of all shards; the message names
            the shards and the column.
    """
    examples: dict[str, pa.Schema] = {}  # a shard of each schema
    for source, batch in pieces:
        if not any(batch.schema.equals(known, check_metadata=True) for known in examples.values()):
            examples[source] = batch.schema
    if len(examples) > 1 or any(name not in pieces[0][1].schema.names for name in columns):
        schema = common_schema(examples, columns)
        batches = [_cast(batch, schema, source) for source, batch in pieces]
    else:
        batches = [batch.select(columns) for _, batch in pieces]
    # One chunk a column: pa.Table.take over chunks is a hundred times slower.
    return pa.Table.from_batches([batch.replace_schema_metadata(None) for batch in batches]).combine_chunks()


def common_schema(schemas: Mapping[str, pa.Schema], columns: Sequence[str]) -> pa.Schema:
    """Find the schema that holds the rows of several shards.

    Args:
        schemas: By the shards' names.
        columns: Those to keep.

    Raises:
        EncodingError: As :func:`join`.
    """
    for source, schema in schemas.items():
        for name in columns:
            if name not in schema.names:
                there = next((each for each, other in schemas.items() if name in other.names), None)
                other = f", which {there} has" if there is not None else ""
                raise EncodingError(
                    f"{source}: has no column {name!r}{other}; choose columns that all shards have with columns="
                )
    return pa.schema([_common_field(name, schemas) for name in columns])


def _common_field(name: str, schemas: Mapping[str, pa.Schema]) -> pa.Field:
    fields = {source: schema.field(name) for source, schema in schemas.items()}
    first = next(iter(fields))

    def both(field: pa.Field, source: str) -> pa.Field:
        try:
            return _widened(field, fields[source])
        except EncodingError as error:
            raise EncodingError(
                f"column {name!r} is {_said(field)} in {first} and {_said(fields[source])} in {source}: {error}; "
                f"leave it out with columns="
            ) from error

    return reduce(both, fields, fields[first])


def _widened(one: pa.Field, other: pa.Field) -> pa.Field:
    if one.equals(other, check_metadata=True):
        return one
    if pa.types.is_null(one.type) or pa.types.is_null(other.type):
        return other if pa.types.is_null(one.type) else one
    for field in (one, other):
        if encoding_of(field).name not in {"int", "float", infer_encoding(pa.field("", field.type)).name}:
            raise EncodingError(f"{encoding_of(field).name} goes with itself alone")
    return pa.field(one.name, widen(one.type, other.type))


def _said(field: pa.Field) -> str:
    return encoding_of(field).name


def _cast(batch: pa.RecordBatch, schema: pa.Schema, source: str) -> pa.RecordBatch:
    columns = []
    for field in schema:
        column = batch.column(field.name)
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise EncodingError(
                f"{source}: column {field.name!r} is {column.type}, and {field.type} with other shards: {error}"
            ) from error
    return pa.record_batch(columns, schema=schema)
