"""Every fault between a whole epoch and a real store: all samples come as they were written, or the named error does.

Never a hang, never an epoch that is short, and nothing that stays in the cache.
"""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from arrowstream.errors import (
    CorruptShardError,
    MissingShardError,
    RemoteAccessError,
    RemoteThrottledError,
    RemoteTimeoutError,
    StorageError,
    UnwritableError,
)
from arrowstream.storage import remote as module
from arrowstream.torch import StreamingDataset
from tests.faults import Kind, Proxy, run_proxy
from tests.reading.datasets import assert_is_sample, deliver, noise, temporaries, write_large_rows, write_samples
from tests.reading.test_bad_places import mounted
from tests.servers import S3Server

NUM_SAMPLES = 240  # 12 shards
BATCH_SIZE = 8
TIMEOUT_S = 1.0
ATTEMPTS = 8  # where one request of five fails, none fails so often
QUICK_S = 25.0  # far above what is waited for, far below for ever


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACK_OFF_S", 0.01)


@pytest.fixture(scope="module")
def a_proxy(s3: S3Server) -> Iterator[Proxy]:
    with run_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxy(a_proxy: Proxy) -> Iterator[Proxy]:
    a_proxy.requests.clear()
    yield a_proxy
    a_proxy.faults.clear()


@pytest.fixture(scope="module")
def remotes(s3: S3Server) -> dict[str | None, str]:
    """The same samples, without compression and with that of Arrow's own format."""
    places = {compression: s3.new_prefix() for compression in (None, "zstd")}
    for compression, out in places.items():
        write_samples(out, NUM_SAMPLES, compression=compression, storage_options=s3.options)
    return places


@pytest.fixture(scope="module")
def large(s3: S3Server) -> str:
    """One shard of several record batches."""
    out = s3.new_prefix()
    write_large_rows(out, storage_options=s3.options)
    return out


def open_dataset(s3: S3Server, proxy: Proxy, remote: str, cache: Path, **arguments: Any) -> StreamingDataset:
    client = arguments.pop("client", "obstore")
    options = {**s3.options, "endpoint_url": proxy.url, "client": client}
    defaults = {"download_timeout": TIMEOUT_S, "download_retry": ATTEMPTS, "batch_size": BATCH_SIZE, "shuffle": True}
    return StreamingDataset(remote=remote, local=cache, storage_options=options, **{**defaults, **arguments})


def load(dataset: StreamingDataset, num_workers: int) -> Iterator[dict[str, Any]]:
    """Go through an epoch as a training does, sample by sample."""
    method = "fork" if num_workers else None
    loader = DataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        num_workers=num_workers,
        multiprocessing_context=method,
        collate_fn=list,
        timeout=QUICK_S if num_workers else 0,
    )
    for batch in deliver(loader):
        yield from batch


def assert_epoch_is_whole(dataset: StreamingDataset, num_workers: int) -> None:
    begin = time.monotonic()
    samples = list(load(dataset, num_workers))
    assert sorted(sample["id"] for sample in samples) == list(range(NUM_SAMPLES))
    for sample in samples:
        assert_is_sample(sample, sample["id"])
    assert time.monotonic() - begin < QUICK_S


def assert_leaves_nothing(cache: Path) -> None:
    assert temporaries(cache) == []


PASSING: list[tuple[Kind, dict[str, Any]]] = [
    ("status", {"status": 429}),
    ("status", {"status": 429, "retry_after": "0"}),
    ("status", {"status": 503, "code": "SlowDown"}),
    ("status", {"status": 503, "retry_after": "0"}),
    ("status", {"status": 500}),
    ("reset", {}),
    ("cut", {}),
    ("cut-reset", {}),
    ("stall", {}),
    ("silent", {}),
]
NAMES = [" ".join([kind, *map(str, how.values())]) for kind, how in PASSING]


@pytest.mark.parametrize(("client", "num_workers"), [("obstore", 2), ("fsspec", 0)])
@pytest.mark.parametrize(("kind", "how"), PASSING, ids=NAMES)
def test_an_epoch_is_whole_though_one_request_of_five_fails(
    s3: S3Server,
    proxy: Proxy,
    remotes: dict[str | None, str],
    tmp_path: Path,
    client: str,
    num_workers: int,
    kind: Kind,
    how: dict[str, Any],
) -> None:
    proxy.fail(kind, 100, every=5, **how)
    timeout_s = TIMEOUT_S if kind in ("stall", "silent") else QUICK_S
    dataset = open_dataset(s3, proxy, remotes[None], tmp_path, client=client, download_timeout=timeout_s)
    assert_epoch_is_whole(dataset, num_workers)
    assert len(proxy.faults) < 500 - NUM_SAMPLES // 20
    assert_leaves_nothing(tmp_path)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_store_that_is_gone_for_a_while_is_waited_for(
    s3: S3Server, proxy: Proxy, remotes: dict[str | None, str], tmp_path: Path, num_workers: int
) -> None:
    dataset = open_dataset(s3, proxy, remotes[None], tmp_path, download_retry=20)
    assert dataset.size == NUM_SAMPLES
    proxy.fail("reset", 15)
    assert_epoch_is_whole(dataset, num_workers)
    assert not proxy.faults
    assert_leaves_nothing(tmp_path)


LASTING: list[tuple[Kind, dict[str, Any], type[Exception], str]] = [
    ("status", {"status": 429}, RemoteThrottledError, r"429.*asks for fewer requests"),
    ("status", {"status": 503, "code": "SlowDown"}, RemoteThrottledError, r"503.*asks for fewer requests"),
    ("status", {"status": 503, "code": "SlowDown", "retry_after": "9"}, RemoteThrottledError, r"asks for fewer"),
    ("status", {"status": 403, "code": "AccessDenied"}, RemoteAccessError, r"access refused"),
    ("status", {"status": 404, "code": "NoSuchKey"}, MissingShardError, r"does not exist, but the index names it"),
    ("status", {"status": 500}, StorageError, r"cannot read, 2 attempts in"),
    ("reset", {}, StorageError, r"cannot read, 2 attempts in"),
    ("cut", {}, StorageError, r"cannot read, 2 attempts in"),
    ("silent", {}, RemoteTimeoutError, r"cannot read, 2 attempts in .* no answer in time"),
    ("stall", {}, RemoteTimeoutError, r"cannot read, 2 attempts in .* no answer in time"),
    ("flip", {}, CorruptShardError, r"its xxh3_64 is .*, the index says .*; fetched 2 times"),
]
LASTING_NAMES = [" ".join([kind, *map(str, how.values())]) for kind, how, _, _ in LASTING]


@pytest.mark.parametrize(("kind", "how", "error", "text"), LASTING, ids=LASTING_NAMES)
def test_a_fault_that_begins_in_the_middle_and_stays_ends_the_epoch_with_its_name(
    s3: S3Server,
    proxy: Proxy,
    remotes: dict[str | None, str],
    tmp_path: Path,
    kind: Kind,
    how: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    num_workers = 2  # whose errors have further to go
    dataset = open_dataset(
        s3, proxy, remotes[None], tmp_path, download_retry=2, shuffle=False, predownload=1, num_canonical_nodes=1
    )
    assert dataset.size == NUM_SAMPLES  # workers take the index from the cache then
    samples = load(dataset, num_workers)
    delivered = [next(samples)["id"]]
    proxy.fail(kind, 1000, **how)
    begin = time.monotonic()
    with pytest.raises(error, match=rf"(?s)shard\.\d+\.arrow.*{text}") as caught:
        delivered.extend(sample["id"] for sample in samples)
    assert type(caught.value) is error
    assert time.monotonic() - begin < QUICK_S
    assert len(set(delivered)) == len(delivered) < NUM_SAMPLES
    proxy.faults.clear()
    assert_epoch_is_whole(open_dataset(s3, proxy, remotes[None], tmp_path), 0)
    assert_leaves_nothing(tmp_path)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_byte_that_flips_on_its_way_is_fetched_again(
    s3: S3Server, proxy: Proxy, remotes: dict[str | None, str], tmp_path: Path, num_workers: int, compression: str
) -> None:
    dataset = open_dataset(s3, proxy, remotes[compression], tmp_path)
    assert dataset.size == NUM_SAMPLES
    proxy.fail("flip")
    assert_epoch_is_whole(dataset, num_workers)
    assert not proxy.faults
    assert_leaves_nothing(tmp_path)


def test_a_byte_that_flips_in_the_range_of_a_record_batch_is_fetched_again(
    s3: S3Server, proxy: Proxy, large: str, tmp_path: Path
) -> None:
    dataset = open_dataset(s3, proxy, large, tmp_path, random_access="record_batch")
    assert dataset[0]["id"] == 0  # the footer has come
    for number in (47, 20):
        proxy.fail("flip")
        assert dataset[number]["noise"].tolist() == noise(number, 1 << 17).tolist()
        assert not proxy.faults
    proxy.fail("flip", 100)
    with pytest.raises(CorruptShardError, match=r"record batch \d+"):
        dataset[33]
    proxy.faults.clear()
    assert dataset[33]["noise"].tolist() == noise(33, 1 << 17).tolist()
    assert_leaves_nothing(tmp_path)


@pytest.mark.parametrize("flips", [1, 2])
def test_an_index_with_a_flipped_byte_is_an_error_or_the_right_one(
    s3: S3Server, proxy: Proxy, remotes: dict[str | None, str], tmp_path: Path, flips: int
) -> None:
    proxy.fail("flip", flips)
    try:
        assert_epoch_is_whole(open_dataset(s3, proxy, remotes[None], tmp_path), 0)
    except (CorruptShardError, ValueError, StorageError) as error:
        assert remotes[None] in str(error)  # noqa: PT017
    proxy.faults.clear()
    assert_epoch_is_whole(open_dataset(s3, proxy, remotes[None], tmp_path), 0)


def test_an_epoch_is_whole_on_a_disk_that_holds_a_third_of_it(
    s3: S3Server, proxy: Proxy, remotes: dict[str | None, str], tmp_path: Path
) -> None:
    with mounted(tmp_path / "cache", "size=112k") as cache:
        dataset = open_dataset(
            s3, proxy, remotes[None], cache, shuffle=False, num_canonical_nodes=1, predownload=BATCH_SIZE
        )
        assert_epoch_is_whole(dataset, 0)
        assert_leaves_nothing(cache)


def test_several_processes_on_a_small_disk_read_a_whole_epoch_or_name_the_disk(
    s3: S3Server, proxy: Proxy, remotes: dict[str | None, str], tmp_path: Path
) -> None:
    with mounted(tmp_path / "cache", "size=112k") as cache:
        dataset = open_dataset(
            s3, proxy, remotes[None], cache, shuffle=False, num_canonical_nodes=1, predownload=BATCH_SIZE
        )
        # What one process deletes keeps its space while the other has it mapped; a cache_limit is known to both.
        try:
            assert_epoch_is_whole(dataset, 2)
        except UnwritableError as error:
            assert re.search(rf"{cache}.*No space left on device", str(error), re.DOTALL)  # noqa: PT017
        assert_leaves_nothing(cache)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_disk_that_is_too_small_for_one_shard_is_named(
    s3: S3Server, proxy: Proxy, large: str, tmp_path: Path, num_workers: int
) -> None:
    with mounted(tmp_path / "cache", "size=2m") as cache:
        dataset = open_dataset(s3, proxy, large, cache)
        needed = rf"{cache}: No space left on device; \d\S+ MiB are needed .*, \d\S+ MiB are free, .* give cache_limit="
        with pytest.raises(UnwritableError, match=needed):
            list(load(dataset, num_workers))
        assert_leaves_nothing(cache)


@contextlib.contextmanager
def read_only(directory: Path, place: Path) -> Iterator[Path]:
    """Show a directory at another place, where it may only be read."""
    with mounted(place, "size=4k"):  # or skip
        subprocess.run(["mount", "--bind", str(directory), str(place)], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_cache_that_may_only_be_read_serves_what_it_holds_and_names_what_it_does_not(
    s3: S3Server, proxy: Proxy, remotes: dict[str | None, str], tmp_path: Path, num_workers: int
) -> None:
    filled = tmp_path / "filled"
    assert_epoch_is_whole(open_dataset(s3, proxy, remotes[None], filled), 0)
    with read_only(filled, tmp_path / "cache") as cache:
        assert_epoch_is_whole(open_dataset(s3, proxy, remotes[None], cache), num_workers)
    (filled / "shard.00005.arrow").unlink()
    with read_only(filled, tmp_path / "other") as cache:
        dataset = open_dataset(s3, proxy, remotes[None], cache)
        with pytest.raises(UnwritableError, match="Read-only file system"):
            list(load(dataset, num_workers))


@pytest.mark.parametrize("limit", [None, "60kb"])
def test_a_clock_that_jumps_harms_no_epoch(
    s3: S3Server,
    proxy: Proxy,
    remotes: dict[str | None, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str | None,
) -> None:
    dataset = open_dataset(
        s3, proxy, remotes[None], tmp_path, cache_limit=limit, shuffle=False, num_canonical_nodes=1, predownload=8
    )
    year_s = 365 * 86400
    for epoch, jump_s in enumerate((-20 * year_s, 30 * year_s)):
        found = []
        for sample in load(dataset, 0):
            found.append(sample["id"])
            assert_is_sample(sample, sample["id"])
            if len(found) == NUM_SAMPLES // 3:
                now = time.time() + jump_s
                monkeypatch.setattr(time, "time", lambda now=now: now)
                monkeypatch.setattr(time, "time_ns", lambda now=now: int(now * 1e9))
            if len(found) == NUM_SAMPLES // 2:
                for number, path in enumerate(sorted(tmp_path.glob("shard.*"))):
                    when = time.time() + (year_s if number % 2 else -year_s)
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, to keep the limit
                        os.utime(path, (when, when))
        assert found == list(range(NUM_SAMPLES)), epoch
    if limit is None:
        assert dataset.cost().num_requests == 1 + len(dataset.samples_per_shard)  # each was fetched once
    assert_leaves_nothing(tmp_path)
