"""Python objects: as JSON, which every tool reads, and as pickles, which run code when they are read."""

import json
import pickle
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.columns.arrow_types import is_text
from arrowstream.columns.describe import describe
from arrowstream.columns.encoding import Encoding, RowReader
from arrowstream.columns.parsing import named
from arrowstream.columns.text import SLICE, TEXT, BinaryEncoding, slices
from arrowstream.errors import EncodingError


class JsonEncoding(Encoding):
    """What the json module writes; arrays and scalars of NumPy become lists and numbers."""

    def __init__(self) -> None:
        super().__init__("json", pa.string())

    def encode(self, value: Any) -> object:
        """Take what the json module takes (NaN included), and arrays and scalars of NumPy at any depth."""
        try:
            return json.dumps(value, default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise EncodingError(f"expected a value that JSON can hold, got {describe(value)}: {error}") from error

    def _reader(self, array: pa.Array) -> RowReader:
        return RowReader(f"$loads({TEXT})", {**slices(array), "loads": named(json.loads, self.name)})

    def _from_arrow(self, array: pa.Array) -> pa.Array:
        """Take text as JSON that was written already, and everything else as values to write."""
        if isinstance(array.type, pa.BaseExtensionType):
            array = array.storage
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if not is_text(array.type):
            return self._from_values(array.to_pylist())
        for row, text in enumerate(array.to_pylist()):
            try:
                json.loads("null" if text is None else text)
            except ValueError as error:
                raise EncodingError(f"row {row}: expected JSON, got {describe(text)}: {error}") from error
        return super()._from_arrow(array)


class PickleEncoding(BinaryEncoding):
    """Any object that pickles."""

    unsafe = True

    def __init__(self) -> None:
        super().__init__("pkl")

    def encode(self, value: Any) -> object:
        """Take whatever pickles."""
        try:
            return pickle.dumps(value)
        except Exception as error:  # whatever the object's own reduction raises
            raise EncodingError(f"expected a value that pickles, got {describe(value)}: {error}") from error

    def _reader(self, array: pa.Array) -> RowReader:
        return RowReader(f"$loads({SLICE})", {**slices(array), "loads": pickle.loads})


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not of JSON")
