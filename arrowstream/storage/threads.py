"""Calls that somebody waits for only so long."""

import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> "concurrent.futures.Future[T]":
    """Call in a thread of its own; unlike an executor's, one that hangs does not hold up the interpreter's exit."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 (handed to who waits)
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="arrowstream-storage", daemon=True).start()
    return future
