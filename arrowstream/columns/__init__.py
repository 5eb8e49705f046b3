"""Encodings: how the values of a sample become Arrow columns, and columns values again.

In: a value of a sample, or a whole column of them. Out: an Arrow array of the encoding's type, in a field that names
the encoding. On the way back: for each column of a record batch, a Python expression that yields the value of a row;
those of all columns are compiled into one function.
"""

from arrowstream.columns.encoding import Encoding, RowReader
from arrowstream.columns.parse import ENCODING_NAMES, encoding_of, infer_encoding, parse_encoding

__all__ = ["ENCODING_NAMES", "Encoding", "RowReader", "encoding_of", "infer_encoding", "parse_encoding"]
