"""Things that a process must make for itself: threads, locks, file systems."""

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class PerProcess(Generic[Value]):
    """A value that each process makes when it first asks for it.

    What a fork inherits is not used: its threads do not exist there, and its locks may be held for ever. A pickle
    carries the way to make the value, not the value.
    """

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._made: tuple[int, Value] | None = None

    def get(self) -> Value:
        """Give this process's value."""
        made, process = self._made, os.getpid()
        if made is None or made[0] != process:
            # Two threads may both come here; both values work, one of them is kept.
            made = self._made = (process, self._make())
        return made[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_made": None}
