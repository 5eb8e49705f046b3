"""The bound on the bytes that a process has in flight."""

import concurrent.futures
import os
import threading
from pathlib import Path

import pytest

from arrowstream.errors import RemoteTimeoutError
from arrowstream.storage import Storage, in_flight, remote
from arrowstream.storage.in_flight import BytesInFlight
from tests.servers import S3Server


def test_no_more_is_in_flight_than_allowed() -> None:
    bound = BytesInFlight(100)
    seen: list[int] = []

    def take(number: int) -> None:
        with bound.hold(10 + number % 50, 30.0):
            seen.append(bound.taken)

    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        list(executor.map(take, range(400)))
    assert max(seen) <= 100
    assert bound.taken == 0


def test_what_is_larger_than_the_bound_goes_alone() -> None:
    bound = BytesInFlight(100)
    with bound.hold(1000, 1.0):
        assert bound.taken == 100
        with pytest.raises(RemoteTimeoutError, match=r"no room for 1 bytes in 0 s: 100 of 100 .*ARROWSTREAM_"):
            bound.hold(1, 0.01).__enter__()
    assert bound.taken == 0


def test_what_fails_is_given_back() -> None:
    bound = BytesInFlight(100)
    with pytest.raises(KeyError), bound.hold(60, 1.0):
        raise KeyError
    assert bound.taken == 0


def test_the_environment_sets_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "_shared", [])
    assert in_flight.bytes_in_flight().limit == 256 << 20
    monkeypatch.setattr(in_flight, "_shared", [])
    monkeypatch.setenv(in_flight.VARIABLE, "64mb")
    assert in_flight.bytes_in_flight().limit == 64 << 20
    assert in_flight.bytes_in_flight() is in_flight.bytes_in_flight()


def test_all_downloads_of_a_process_share_one_bound(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    piece = 1 << 18
    monkeypatch.setattr(remote, "RANGE_BYTES", piece)
    bound = BytesInFlight(2 * piece + 2)
    monkeypatch.setattr(in_flight, "_shared", [bound])
    content = os.urandom(8 * piece)
    storages = [Storage(s3.new_prefix(), options={**s3.options, "client": name}) for name in ("obstore", "fsspec")]
    for storage in storages:
        storage.write("shard", content)
    now, most, lock = [0], [0], threading.Lock()

    def counted(send: object) -> object:
        def send_range(self: object, key: str, start: int, stop: int, take: object) -> object:
            with lock:
                now[0] += stop - start
                most[0] = max(most[0], now[0])
            try:
                return send(self, key, start, stop, take)  # type: ignore[operator]
            finally:
                with lock:
                    now[0] -= stop - start

        return send_range

    from arrowstream.storage.fsspec_client import FsspecClient
    from arrowstream.storage.obstore_client import ObstoreClient

    for client in (FsspecClient, ObstoreClient):
        monkeypatch.setattr(client, "send_range", counted(client.send_range))
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        for number in range(8):
            executor.submit(storages[number % 2].download, "shard", tmp_path / str(number), num_bytes=len(content))
    assert {(tmp_path / str(number)).read_bytes() for number in range(8)} == {content}
    assert 0 < most[0] <= bound.limit
    assert bound.taken == 0
