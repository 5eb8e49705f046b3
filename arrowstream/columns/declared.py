"""The columns that an index declares, as the schema of a shard."""

from collections.abc import Mapping

import pyarrow as pa

from arrowstream.columns.encoding import Encoding
from arrowstream.columns.parse import parse_encoding
from arrowstream.columns.type_names import parse_type
from arrowstream.errors import IndexFormatError, UnknownEncodingError


def declared_encodings(columns: Mapping[str, str]) -> dict[str, Encoding]:
    """Find the encodings of columns by what an index calls them: a name of ours, or that of an Arrow type.

    Raises:
        IndexFormatError: A column has neither.
    """
    return {name: _encoding(name, text) for name, text in columns.items()}


def declared_schema(columns: Mapping[str, str]) -> pa.Schema:
    """Give the schema that a shard with these columns has.

    Raises:
        IndexFormatError: A column has no encoding of that name.
    """
    return pa.schema([encoding.field(name) for name, encoding in declared_encodings(columns).items()])


def _encoding(column: str, text: str) -> Encoding:
    try:
        return parse_encoding(text)
    except UnknownEncodingError as error:
        try:
            return parse_encoding(parse_type(text))
        except UnknownEncodingError:
            raise IndexFormatError(f"column {column!r}: {error}") from error
