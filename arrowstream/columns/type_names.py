"""Arrow types by the names that they print: ``list<item: timestamp[us, tz=UTC]>`` and the type itself again.

An index names the types of its columns. Arrow prints its types, and reads only the simplest of these names back.
"""

import re
from collections.abc import Callable

import pyarrow as pa

from arrowstream.errors import UnknownEncodingError

_SIMPLE: dict[str, pa.DataType] = {
    str(kind): kind
    for kind in (
        *(pa.null(), pa.bool_(), pa.string(), pa.large_string(), pa.string_view()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float16(), pa.float32(), pa.float64(), pa.binary(), pa.large_binary(), pa.binary_view()),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
        *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
        *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
        pa.month_day_nano_interval(),
    )
}
_WORD = re.compile(r"\w+(?:\[(?:s|ms|us|ns|day)\])?")
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=([^\]]+)\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)")
_FIXED_BYTES = re.compile(r"fixed_size_binary\[(\d+)\]")
_LIST_SIZE = re.compile(r">\[(\d+)\]")
_MAP_END = re.compile(r"(?: \('([^']*)'\))?(, keys_sorted)?>")
_DICTIONARY_END = re.compile(r", ordered=([01])>")
_DECIMALS = {"32": pa.decimal32, "64": pa.decimal64, "128": pa.decimal128, "256": pa.decimal256}
_DEEPEST = 64


def parse_type(text: str) -> pa.DataType:
    """Find the Arrow type that prints a text.

    Raises:
        UnknownEncodingError: No type does, or only one that cannot be told from its text (of an extension).
    """
    try:
        found, end = _Parser(text).type(0, 0)
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise UnknownEncodingError(f"{text!r} is the name of no Arrow type ({error})") from error
    if end != len(text) or str(found) != text:
        raise UnknownEncodingError(f"{text!r} is the name of no Arrow type; the nearest is {str(found)!r}")
    return found


class _Parser:
    """Reads from a position of a text, and gives what it found with the position behind it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def type(self, start: int, depth: int) -> tuple[pa.DataType, int]:
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        text = self._text
        for head, read in self._nested().items():
            if text.startswith(head, start):
                return read(start + len(head), depth + 1)
        if match := _ZONED.match(text, start):
            return pa.timestamp(match[1], match[2]), match.end()
        if match := _DECIMAL.match(text, start):
            return _DECIMALS[match[1]](int(match[2]), int(match[3])), match.end()
        if match := _FIXED_BYTES.match(text, start):
            return pa.binary(int(match[1])), match.end()
        if (match := _WORD.match(text, start)) and match[0] in _SIMPLE:
            return _SIMPLE[match[0]], match.end()
        raise ValueError(f"at {text[start : start + 40]!r}")

    def _nested(self) -> dict[str, Callable[[int, int], tuple[pa.DataType, int]]]:
        return {
            "list<": self._list,
            "large_list<": self._large_list,
            "fixed_size_list<": self._fixed_size_list,
            "struct<": self._struct,
            "map<": self._map,
            "dictionary<values=": self._dictionary,
        }

    def _list(self, start: int, depth: int) -> tuple[pa.DataType, int]:
        field, end = self._field(start, depth)
        return pa.list_(field), self._skip(">", end)

    def _large_list(self, start: int, depth: int) -> tuple[pa.DataType, int]:
        field, end = self._field(start, depth)
        return pa.large_list(field), self._skip(">", end)

    def _fixed_size_list(self, start: int, depth: int) -> tuple[pa.DataType, int]:
        field, end = self._field(start, depth)
        match = self._expect(_LIST_SIZE, end)
        return pa.list_(field, int(match[1])), match.end()

    def _struct(self, start: int, depth: int) -> tuple[pa.DataType, int]:
        fields: list[pa.Field] = []
        end = start
        while not self._text.startswith(">", end):
            field, end = self._field(self._skip(", ", end) if fields else end, depth)
            fields.append(field)
        return pa.struct(fields), end + 1

    def _map(self, start: int, depth: int) -> tuple[pa.DataType, int]:
        key, end = self.type(start, depth)
        item, end = self.type(self._skip(", ", end), depth)
        match = self._expect(_MAP_END, end)
        return pa.map_(key, pa.field(match[1] or "value", item), keys_sorted=match[2] is not None), match.end()

    def _dictionary(self, start: int, depth: int) -> tuple[pa.DataType, int]:
        values, end = self.type(start, depth)
        indices, end = self.type(self._skip(", indices=", end), depth)
        match = self._expect(_DICTIONARY_END, end)
        if not pa.types.is_integer(indices):
            raise ValueError(f"indices of {indices}")
        return pa.dictionary(indices, values, ordered=match[1] == "1"), match.end()

    def _field(self, start: int, depth: int) -> tuple[pa.Field, int]:
        colon = self._text.index(": ", start)
        kind, end = self.type(colon + 2, depth)
        nullable = not self._text.startswith(" not null", end)
        return pa.field(self._text[start:colon], kind, nullable=nullable), end if nullable else end + len(" not null")

    def _skip(self, part: str, start: int) -> int:
        if not self._text.startswith(part, start):
            raise ValueError(f"expected {part!r} at {self._text[start : start + 40]!r}")
        return start + len(part)

    def _expect(self, pattern: re.Pattern[str], start: int) -> re.Match[str]:
        match = pattern.match(self._text, start)
        if match is None:
            raise ValueError(f"at {self._text[start : start + 40]!r}")
        return match
