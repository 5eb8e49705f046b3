"""The next batches are read by a thread while the last one is trained on, where reading takes long enough."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any

#: What takes less is read sooner than two threads have handed it over, each waiting for the other's turn to end.
WORTH_S = 1e-3

_END = object()


def read_ahead(read: Iterator[Any], num_ahead: int) -> Iterator[Any]:
    """Give what an iterator gives, and have a thread go on with it meanwhile as long as an item takes a millisecond.

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
    pool = ThreadPoolExecutor(1, thread_name_prefix="arrowstream-batches")
    try:
        while True:
            item, seconds = ahead.popleft().result() if ahead else _timed_next(read)
            if item is _END:
                return
            while seconds >= WORTH_S and len(ahead) < num_ahead:
                ahead.append(pool.submit(_timed_next, read))
            yield item
    finally:
        # Waits for what is being read, whose every wait has a deadline: until then the iterator cannot be closed.
        pool.shutdown(cancel_futures=True)


def _timed_next(read: Iterator[Any]) -> tuple[Any, float]:
    began = perf_counter()
    item = next(read, _END)
    return item, perf_counter() - began
