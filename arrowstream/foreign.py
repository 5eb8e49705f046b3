"""Columns of files that others wrote: how they are declared in an index, and how they become what was declared.

Three things make no difference to a sample and are undone, so that a cached shard opens in every tool and is read at
full speed: dictionaries and run-end encoding (the values stand for themselves), views of strings and bytes, and
extension types that arrowstream does not read (their storage remains).

Hugging Face's ``datasets`` keeps an image as a struct of its file's bytes and its path. A column that the metadata of
the schema declares as ``Image`` becomes one of the encoding ``image``: the bytes, which are read as an image of PIL. An
``Audio`` column stays what it is, ``{"bytes": …, "path": …}``: which decoder to use is the reader's choice.
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.columns import Encoding, infer_encoding, parse_encoding
from arrowstream.columns.arrow_types import plain_type, without_views
from arrowstream.columns.encoding import METADATA_KEY, single_array
from arrowstream.columns.type_names import parse_type
from arrowstream.errors import CorruptShardError, EncodingError, UnknownEncodingError

_HUGGING_FACE = b"huggingface"


def describe_columns(schema: pa.Schema) -> dict[str, str]:
    """Declare the columns of a file as an index does: each by the name of its encoding or its Arrow type.

    Args:
        schema: Of the file.

    Raises:
        EncodingError: Two columns have one name, or a column is of a type that cannot be declared.
    """
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise EncodingError(f"several columns are named {', '.join(map(repr, twice))}")
    images = _image_columns(schema)
    return {field.name: "image" if field.name in images else _declaration(field) for field in schema}


def declared_encoding(declaration: str) -> Encoding:
    """Find the encoding that an index declares a column with.

    Args:
        declaration: The name of an encoding, or of an Arrow type as Arrow prints it.

    Raises:
        UnknownEncodingError: It is neither.
    """
    try:
        return parse_encoding(declaration)
    except UnknownEncodingError:
        return infer_encoding(pa.field("", parse_type(declaration)))


class Projection:
    """From the record batches of a file to those of its cached shard.

    Args:
        schema: Of the file.
        columns: As the index declares them; the file may have more. Empty: all that it has.

    Attributes:
        schema: Of the results.

    Raises:
        CorruptShardError: The file lacks a column, or has it with a type that does not widen to the declared one.
        UnknownEncodingError: The index declares an encoding that does not exist.
    """

    def __init__(self, schema: pa.Schema, columns: Mapping[str, str]) -> None:
        declared = columns or describe_columns(schema)
        present = set(schema.names)
        missing = [name for name in declared if name not in present]
        if missing:
            raise CorruptShardError(
                f"has no column {', '.join(map(repr, missing))}, which the index declares; it has: "
                f"{', '.join(schema.names)}"
            )
        self._encodings = {name: declared_encoding(text) for name, text in declared.items()}
        self.schema = pa.schema([encoding.field(name) for name, encoding in self._encodings.items()])
        for field in self.schema:
            self._check_type(field, schema.field(field.name).type)

    @property
    def names(self) -> list[str]:
        """The columns to read."""
        return list(self._encodings)

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give the declared columns of a record batch.

        Raises:
            CorruptShardError: A value does not fit the declared type.
        """
        columns = []
        for field in self.schema:
            try:
                columns.append(_cast(batch.column(field.name), field.type))
            except (pa.ArrowException, EncodingError) as error:
                raise CorruptShardError(f"column {field.name!r}: {error}") from error
        return pa.record_batch(columns, schema=self.schema)

    def _check_type(self, field: pa.Field, found: pa.DataType) -> None:
        if _is_image(found) and pa.types.is_binary(field.type):
            return
        try:
            declared = plain_type(_stored(field.type))
            stored = plain_type(_stored(found))
            # Parquet has no whole seconds and keeps them as milliseconds; the cast back is checked.
            if declared in (_in_seconds(stored), widen(stored, declared)):
                return
        except EncodingError:
            pass
        raise CorruptShardError(
            f"column {field.name!r} is {found}, the index declares {field.type}; the file was replaced: index it again"
        )


def widen(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Find the type that holds the values of two.

    Arrow's own rules ("permissive" promotion): null becomes anything, numbers and decimals widen, times take the finer
    unit, lists and strings the larger offsets, structs are merged. Text and bytes stay apart.

    Raises:
        EncodingError: There is none.
    """
    if one == other:
        return one
    schemas = [pa.schema([pa.field("", kind)]) for kind in (one, other)]
    try:
        found = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise EncodingError(f"no type holds both {one} and {other}") from error
    if pa.types.is_binary(found) and (pa.types.is_string(one) or pa.types.is_string(other)):
        raise EncodingError(f"no type holds both {one} and {other}")
    return found


def plain(kind: pa.DataType) -> pa.DataType:
    """Replace what makes no difference to a value, at any depth: dictionaries, run ends, views, foreign extensions."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return kind if infer_encoding(pa.field("", kind)).name != str(kind) else plain(kind.storage_type)
    if pa.types.is_list(kind):
        return pa.list_(plain(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(plain(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain(kind.value_type), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(kind.field(number)) for number in range(kind.num_fields)])
    if pa.types.is_map(kind):
        return pa.map_(plain(kind.key_type), _plain_field(kind.item_field), keys_sorted=kind.keys_sorted)
    return without_views(kind)


def _plain_field(field: pa.Field) -> pa.Field:
    # Whether nulls may occur, what metadata says, and how the items of a list are called (above) differs between files
    # that are otherwise alike.
    return pa.field(field.name, plain(field.type))


def _declaration(field: pa.Field) -> str:
    declared = (field.metadata or {}).get(METADATA_KEY)
    try:
        if declared is not None:
            return infer_encoding(field).name
        name = infer_encoding(pa.field(field.name, plain(field.type))).name
        declared_encoding(name)
    except (UnknownEncodingError, EncodingError) as error:
        raise EncodingError(f"column {field.name!r} is {field.type}, which no index can declare") from error
    return name


def _in_seconds(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("s", kind.tz)
    return pa.time32("s") if pa.types.is_time32(kind) else kind


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else plain(kind)


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if array.type == wanted:
        return array
    if _is_image(array.type) and pa.types.is_binary(wanted):
        return _image_bytes(array)
    if isinstance(wanted, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(wanted, _cast(array, wanted.storage_type))
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    return single_array(array.cast(_stored(array.type)).cast(wanted))


def _is_image(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind)) and {"bytes", "path"} == {field.name for field in kind}


def _image_bytes(array: pa.StructArray) -> pa.Array:
    contents = pc.struct_field(array, "bytes")
    elsewhere = pc.and_(pc.is_null(contents), pc.is_valid(pc.struct_field(array, "path")))
    row = pc.index(elsewhere, True).as_py()
    if row >= 0:
        raise EncodingError(
            f"an image is not in the file, which holds only its path {array[row]['path'].as_py()!r}; write the "
            f"dataset again with its images embedded"
        )
    return single_array(contents.cast(pa.binary()))


def _image_columns(schema: pa.Schema) -> set[str]:
    """Read which columns hold images from the metadata that Hugging Face's ``datasets`` leaves."""
    try:
        tree: Any = json.loads((schema.metadata or {}).get(_HUGGING_FACE, b"{}"))
        features = tree["info"]["features"].items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()  # no such metadata: the types say all there is
    named = {name for name, feature in features if isinstance(feature, dict) and feature.get("_type") == "Image"}
    return {field.name for field in schema if field.name in named and _is_image(field.type)}
