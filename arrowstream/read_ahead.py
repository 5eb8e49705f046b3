"""The next batches are read by a thread while the last one is trained on, where that hides more than it costs."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any

#: Handing an item from thread to thread costs about so many seconds, each waiting for the other's turn to end.
WORTH_S = 3e-4

_END = object()


def read_ahead(read: Iterator[Any], num_ahead: int) -> Iterator[Any]:
    """Give what an iterator gives, and have a thread go on with it while the caller is busy.

    It does so as long as both reading an item and the caller's work on one take over 0.3 ms: no more than the shorter
    of the two can be hidden.

    The iterator is advanced by one thread at a time, in its order. What it raises is raised here, after the items
    before it.

    Args:
        read: Gives the items.
        num_ahead: Items to be ahead at most; 0: no thread.
    """
    if not num_ahead:
        yield from read
        return
    ahead: deque[Future[tuple[Any, float]]] = deque()
    busy_s = 0.0
    pool = ThreadPoolExecutor(1, thread_name_prefix="arrowstream-batches")
    try:
        while True:
            item, seconds = ahead.popleft().result() if ahead else _timed_next(read)
            if item is _END:
                return
            while min(seconds, busy_s) >= WORTH_S and len(ahead) < num_ahead:
                ahead.append(pool.submit(_timed_next, read))
            given = perf_counter()
            yield item
            busy_s = perf_counter() - given
    finally:
        # Waits for what is being read, whose every wait has a deadline: until then the iterator cannot be closed.
        pool.shutdown(cancel_futures=True)


def _timed_next(read: Iterator[Any]) -> tuple[Any, float]:
    began = perf_counter()
    item = next(read, _END)
    return item, perf_counter() - began
