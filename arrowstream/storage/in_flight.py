"""The bytes that a process has asked for and not yet written down: one bound for all its streams and datasets."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from arrowstream.errors import RemoteTimeoutError
from arrowstream.units import parse_bytes

VARIABLE = "ARROWSTREAM_BYTES_IN_FLIGHT"
DEFAULT_LIMIT = 256 << 20


class BytesInFlight:
    """A bound that requests share; what is larger than all of it goes alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, num_bytes: int, timeout_s: float) -> Iterator[None]:
        """Count bytes as in flight until the block ends, once there is room for them.

        Raises:
            RemoteTimeoutError: There was no room in time.
        """
        share = min(num_bytes, self.limit)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self.taken + share > self.limit:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise RemoteTimeoutError(
                        f"no room for {num_bytes} bytes in {timeout_s:.0f} s: {self.taken} of {self.limit} are in "
                        f"flight; raise {VARIABLE}, or fetch less at once"
                    )
            self.taken += share
        try:
            yield
        finally:
            with self._changed:
                self.taken -= share
                self._changed.notify_all()


def _limit() -> int:
    named = os.environ.get(VARIABLE)
    return parse_bytes(named) if named else DEFAULT_LIMIT


_shared: list[BytesInFlight] = []


def bytes_in_flight() -> BytesInFlight:
    """Give this process's bound; the environment's ``ARROWSTREAM_BYTES_IN_FLIGHT`` ("1gb") sets it."""
    if not _shared:
        _shared.append(BytesInFlight(_limit()))
    return _shared[0]


# What the parent's threads hold is never given back in a child, which has not these threads.
os.register_at_fork(after_in_child=_shared.clear)
