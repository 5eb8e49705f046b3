"""Waiting for another process: for what it does, not for a time."""

import time
from collections.abc import Callable


def wait_until(happens: Callable[[], bool], *, within_s: float, every_s: float = 0.05) -> bool:
    """Ask again and again; tells whether it happened in time."""
    deadline = time.monotonic() + within_s
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True
