"""Values that are parsed when they are read, and may turn out to be damaged only then."""

import struct
from collections.abc import Callable
from decimal import InvalidOperation
from typing import Any

from arrowstream.columns.describe import describe
from arrowstream.errors import CorruptShardError

_DAMAGE = (ValueError, InvalidOperation, RecursionError, OSError, SyntaxError, struct.error)


def named(parse: Callable[[Any], Any], encoding: str) -> Callable[[Any], Any]:
    """Make a parser say what was no value of the encoding, as a shard's error.

    Args:
        parse: Makes a value of its stored form.
        encoding: Its name.
    """

    def parse_or_say(stored: Any) -> Any:
        try:
            return parse(stored)
        except _DAMAGE as error:
            raise CorruptShardError(
                f"a value of encoding {encoding!r} cannot be read: {describe(stored)} ({type(error).__name__}: "
                f"{error}); it was damaged before the shard was written"
            ) from error

    return parse_or_say
