"""What is read ahead by a thread is the same, in the same order, errors included."""

import threading
from collections.abc import Iterator

import pytest

from arrowstream import read_ahead as module
from arrowstream.read_ahead import read_ahead


@pytest.fixture(params=[0.0, 1e9], ids=["worth it", "not worth it"])
def worth(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(module, "WORTH_S", request.param)
    return float(request.param)


@pytest.mark.parametrize("num_ahead", [0, 1, 2, 50])
def test_items_come_in_their_order(worth: float, num_ahead: int) -> None:
    assert list(read_ahead(iter(range(20)), num_ahead)) == list(range(20))
    assert list(read_ahead(iter([]), num_ahead)) == []


@pytest.mark.parametrize("num_ahead", [0, 2])
def test_an_error_comes_after_the_items_before_it(worth: float, num_ahead: int) -> None:
    def read() -> Iterator[int]:
        yield from range(5)
        raise OSError("gone")

    found = []
    with pytest.raises(OSError, match="gone"):
        found.extend(read_ahead(read(), num_ahead))
    assert found == list(range(5))


def test_no_more_is_read_than_was_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORTH_S", 0.0)
    reached, threads = [], set()
    third = threading.Event()

    def read() -> Iterator[int]:
        for number in range(100):
            reached.append(number)
            threads.add(threading.current_thread())
            if number == 2:
                third.set()
            yield number

    items = read_ahead(read(), 2)
    assert next(items) == 0
    assert third.wait(30)  # nobody asked for it
    items.close()  # type: ignore[attr-defined]
    assert reached == [0, 1, 2]
    assert len(threads) == 2
    assert not any(thread.name.startswith("arrowstream-batches") for thread in threading.enumerate())
