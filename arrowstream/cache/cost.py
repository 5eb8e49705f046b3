"""What reading has cost: requests and bytes, which object stores charge for."""

import threading
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What was asked of a remote.

    Attributes:
        num_requests: Objects and ranges that were read. A large object is read in ranges, each of which the store
            counts as a GET; here it is one.
        num_bytes: Their lengths.
    """

    num_requests: int = 0
    num_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(num_requests=self.num_requests + other.num_requests, num_bytes=self.num_bytes + other.num_bytes)


class Meter:
    """Counts what this process asks of one remote; a copy in another process begins anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cost = Cost()

    @property
    def cost(self) -> Cost:
        """What it has come to."""
        return self._cost

    def count(self, num_bytes: int) -> None:
        """Count one request."""
        with self._lock:
            self._cost += Cost(num_requests=1, num_bytes=num_bytes)

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
