"""What reading has cost: requests and bytes, which object stores charge for."""

import threading
from dataclasses import dataclass
from typing import TypeVar

from arrowstream.per_process import PerProcess

Bytes = TypeVar("Bytes", bytes, bytes | memoryview)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What was asked of a remote.

    Attributes:
        num_requests: Every one that was sent, repeated ones included: reads of objects and of ranges, a large object
            being read in several, and questions for a length. A listing is one. A file of this machine is one.
        num_bytes: What was read, wrong answers included.
    """

    num_requests: int = 0
    num_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(num_requests=self.num_requests + other.num_requests, num_bytes=self.num_bytes + other.num_bytes)


class Meter:
    """Counts what this process asks of one remote; in another process it begins anew."""

    def __init__(self) -> None:
        self._count = PerProcess(_Count)

    @property
    def cost(self) -> Cost:
        """What it has come to."""
        count = self._count.get()
        with count.lock:
            return Cost(num_requests=count.num_requests, num_bytes=count.num_bytes)

    def request(self, num_bytes: int = 0) -> None:
        """Count a request that is about to be made, and what it reads if that is known."""
        count = self._count.get()
        with count.lock:
            count.num_requests += 1
            count.num_bytes += num_bytes

    def answer(self, found: Bytes) -> Bytes:
        """Count the bytes that came, and give them."""
        count = self._count.get()
        with count.lock:
            count.num_bytes += len(found)
        return found


class _Count:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.num_requests = 0
        self.num_bytes = 0
