"""Locks keep threads and processes apart, end with their holder, and nobody waits for ever."""

import os
import signal
import threading
from pathlib import Path

import pytest

from arrowstream.cache import locks
from arrowstream.cache.locks import Lock, locked

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
DEADLINE_S = 30.0


@pytest.fixture(params=["as here", "flock"])
def file(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "flock":
        monkeypatch.setattr(locks, "_OFD", False)
    return tmp_path / "lock"


def test_a_name_is_held_once_and_another_name_at_the_same_time(file: Path) -> None:
    one, same, other = Lock(file, "a"), Lock(file, "a"), Lock(file, "b")
    assert one.take()
    assert not same.take()
    assert other.take()
    one.close()
    assert same.take()
    for lock in (same, other):
        lock.close()


def test_who_waits_is_woken_by_whoever_is_done(file: Path) -> None:
    holder = Lock(file, "a")
    assert holder.take()
    taken = []

    def wait() -> None:
        with locked(file, "a", timeout_s=DEADLINE_S, what="testing") as held:
            taken.append(held)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    holder.close()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert taken == [True] * 3


def test_a_deadline_ends_the_wait_and_the_lock_works_on(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = Lock(file, "a")
    assert holder.take()
    with locked(file, "a", timeout_s=0.01, what="testing") as held:
        assert not held
    assert "another process has been testing for 0 s" in caplog.text
    holder.close()
    with locked(file, "a", timeout_s=DEADLINE_S, what="testing") as held:
        assert held


def test_threads_that_lock_in_opposite_orders_are_not_called_a_deadlock(file: Path) -> None:
    """Of POSIX's record locks the kernel gives EDEADLK to processes whose threads do this."""
    outcomes = []

    def work(first: str, second: str) -> None:
        for _ in range(50):
            with locked(file, first, timeout_s=DEADLINE_S, what="testing") as held:
                outcomes.append(held)
            with locked(file, second, timeout_s=DEADLINE_S, what="testing") as held:
                outcomes.append(held)

    child = os.fork()
    threads = [threading.Thread(target=work, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    if child == 0:
        os._exit(0 if outcomes == [True] * 200 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert outcomes == [True] * 200


def test_a_child_does_not_hold_what_its_parent_died_over(file: Path) -> None:
    ready, told = os.pipe()
    parent = os.fork()
    if parent == 0:
        lock = Lock(file, "a")
        lock.take()
        child = os.fork()
        if child == 0:
            os.write(told, b"%10d" % os.getpid())
        signal.pause()
        os._exit(1)
    child = int(os.read(ready, 10))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        with locked(file, "a", timeout_s=DEADLINE_S, what="testing") as held:
            assert held  # though the child lives
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(ready)
        os.close(told)
