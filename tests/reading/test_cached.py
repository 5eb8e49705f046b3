"""A remote and a cache: shards come once, stay whole, and anything in the cache may vanish."""

import contextlib
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import StreamingDataset, ipc
from arrowstream.cache import cached_name
from arrowstream.cache.stock import Stock
from arrowstream.plan.order import Order
from arrowstream.prefetch import NUM_THREADS
from arrowstream.shard import BatchMemory, OpenShard, file_number
from tests.reading.datasets import (
    assert_holds,
    ids,
    read_index,
    shard_files,
    states,
    temporaries,
    write_large_rows,
    write_samples,
)
from tests.reading.http_server import serve

NUM_SAMPLES = 100
DEADLINE_S = 60
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "remote", NUM_SAMPLES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# Coming ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["", "file://", "file://localhost"])
def test_shards_appear_in_the_cache_when_they_are_read(remote: Path, cache: Path, scheme: str) -> None:
    before = states(remote)
    dataset = StreamingDataset(remote=f"{scheme}{remote}", local=cache)
    assert dataset[0]["id"] == 0
    assert [path.name for path in shard_files(cache)] == ["shard.00000.arrow"]
    assert_holds(dataset, NUM_SAMPLES)
    assert [path.name for path in shard_files(cache)] == [path.name for path in shard_files(remote)]
    assert temporaries(cache) == []
    assert states(remote) == before


@pytest.mark.parametrize("compression", [None, "zstd:7", "lz4", "gz", "br:1", "bz2", "snappy"])
def test_a_cached_shard_is_an_arrow_file_without_compression(tmp_path: Path, cache: Path, compression: str) -> None:
    remote = write_samples(tmp_path / "remote", NUM_SAMPLES, compression=compression)
    assert_holds(StreamingDataset(remote=remote, local=cache), NUM_SAMPLES)
    rows = []
    for path in shard_files(cache):
        before = pa.total_allocated_bytes()
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
        assert pa.total_allocated_bytes() == before  # mapped, nothing had to be unpacked
        rows += table.column("id").to_pylist()
    assert rows == list(range(NUM_SAMPLES))


@pytest.mark.parametrize("compression", [None, "zstd", "gz"])
def test_the_cache_is_a_dataset_of_its_own(tmp_path: Path, cache: Path, compression: str) -> None:
    remote = write_samples(tmp_path / "remote", NUM_SAMPLES, compression=compression)
    assert ids(StreamingDataset(remote=remote, local=cache)) == list(range(NUM_SAMPLES))
    assert (cache / "index.json").read_bytes() == (remote / "index.json").read_bytes()
    shutil.rmtree(remote)
    assert_holds(StreamingDataset(local=cache), NUM_SAMPLES)


def test_a_split_is_a_subdirectory_of_both(tmp_path: Path, cache: Path) -> None:
    write_samples(tmp_path / "root" / "val", 30)
    dataset = StreamingDataset(remote=tmp_path / "root", local=cache, split="val")
    assert_holds(dataset, 30)
    assert len(shard_files(cache / "val")) == dataset.num_shards


def test_a_second_dataset_reads_what_the_first_fetched(remote: Path, cache: Path) -> None:
    assert ids(StreamingDataset(remote=remote, local=cache)) == list(range(NUM_SAMPLES))
    fetched = states(cache)
    for path in shard_files(remote):
        path.unlink()  # there is nothing to fetch any more
    assert_holds(StreamingDataset(remote=remote, local=cache), NUM_SAMPLES)
    assert states(cache) == fetched


def test_without_a_cache_directory_a_remote_one_has_its_own(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with serve(remote) as server:
        dataset = StreamingDataset(remote=server.url)
        assert_holds(dataset, NUM_SAMPLES)
        (directory,) = (tmp_path / "temporary").glob("*/*")
        assert len(shard_files(directory)) == dataset.num_shards
        assert server.asked.count("shard.00000.arrow") == 1
        assert_holds(StreamingDataset(remote=server.url), NUM_SAMPLES)
        assert server.asked.count("shard.00000.arrow") == 1


# Going ----------------------------------------------------------------------------------------------------------------


def test_a_deleted_shard_is_fetched_again(remote: Path, cache: Path) -> None:
    dataset = StreamingDataset(remote=remote, local=cache)
    assert_holds(dataset, NUM_SAMPLES)
    for path in shard_files(cache):
        path.unlink()
    assert_holds(dataset, NUM_SAMPLES)  # what is mapped is safe
    assert_holds(StreamingDataset(remote=remote, local=cache), NUM_SAMPLES)
    assert len(shard_files(cache)) == len(shard_files(remote))


def test_the_whole_cache_may_vanish_in_the_middle_of_an_epoch(remote: Path, cache: Path) -> None:
    dataset = StreamingDataset(remote=remote, local=cache, shuffle=True, batch_size=1, predownload=1)
    found = []
    for sample in dataset:
        found.append(sample["id"])
        for path in shard_files(cache):
            path.unlink(missing_ok=True)
    assert sorted(found) == list(range(NUM_SAMPLES))


def test_a_file_may_vanish_as_soon_as_it_has_its_name(
    remote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vanished = []
    put = Stock.put

    def put_too_late(stock: Stock, directory: Path, name: str, *arguments: Any) -> None:
        if name not in vanished:
            (directory / name).unlink()
            vanished.append(name)
        put(stock, directory, name, *arguments)

    monkeypatch.setattr(Stock, "put", put_too_late)
    assert_holds(StreamingDataset(remote=remote, local=cache), NUM_SAMPLES)
    assert {path.name for path in shard_files(remote)} <= set(vanished)


def test_a_shard_that_vanishes_while_it_is_opened_counts_as_deleted(
    remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = read_index(remote).shard(0)
    path = remote / shard.basename
    text = path.read_bytes()
    monkeypatch.setattr("arrowstream.shard.file_number", lambda path: path.unlink() or file_number(path))
    opened = OpenShard(path, shard, lambda _: lambda _: lambda _: {}, trusted=True, memory=BatchMemory())
    monkeypatch.undo()
    assert opened.batch(0).num_rows > 0
    assert opened.is_deleted()
    path.write_bytes(text)
    assert opened.is_deleted()  # another file has the name


@pytest.mark.parametrize("damage", [b"", b"ARROW1\0\0", None])
def test_a_cached_file_that_somebody_damaged_is_fetched_again(remote: Path, cache: Path, damage: bytes | None) -> None:
    assert ids(StreamingDataset(remote=remote, local=cache)) == list(range(NUM_SAMPLES))
    for path in shard_files(cache):
        path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    assert_holds(StreamingDataset(remote=remote, local=cache), NUM_SAMPLES)


def test_other_data_of_the_same_size_is_noticed(remote: Path, cache: Path) -> None:
    write = {"num_samples": NUM_SAMPLES, "exist_ok": True}
    write_samples(remote, salt="a", **write)
    sizes = [path.stat().st_size for path in shard_files(remote)]
    assert_holds(StreamingDataset(remote=remote, local=cache), NUM_SAMPLES, salt="a")
    write_samples(remote, salt="b", **write)
    assert [path.stat().st_size for path in shard_files(remote)] == sizes
    assert_holds(StreamingDataset(remote=remote, local=cache), NUM_SAMPLES, salt="b")
    assert (cache / "index.json").read_bytes() == (remote / "index.json").read_bytes()


def test_a_dataset_in_use_does_not_mix_old_data_and_new(remote: Path, cache: Path) -> None:
    write_samples(remote, NUM_SAMPLES, salt="a", exist_ok=True)
    dataset = StreamingDataset(remote=remote, local=cache)
    assert dataset[0]["text"].startswith("a")
    write_samples(remote, NUM_SAMPLES, salt="b", exist_ok=True)
    with pytest.raises(Exception, match=r"shard\.0000\d\.arrow: .*the index says") as caught:
        dataset[NUM_SAMPLES - 1]
    assert type(caught.value).__name__ == "CorruptShardError"


# Ahead of time --------------------------------------------------------------------------------------------------------


def test_shards_are_asked_for_in_the_order_in_which_they_are_needed(tmp_path: Path, cache: Path) -> None:
    remote = write_samples(tmp_path / "remote", 600)
    counts = read_index(remote).samples_per_shard
    order = Order(counts, shuffle=True, seed=5, epoch=0, block_size=16)
    shards = np.repeat(np.arange(len(counts)), counts)[order.samples_at(np.arange(600))]
    needed = [f"shard.{number:05d}.arrow" for number in dict.fromkeys(shards.tolist())]
    with serve(remote) as server:
        dataset = StreamingDataset(
            remote=server.url, local=cache, shuffle=True, shuffle_seed=5, shuffle_block_size=16, batch_size=10
        )
        assert sorted(ids(dataset)) == list(range(600))
        asked = [name for name in server.asked if name != "index.json"]
    assert sorted(asked) == sorted(needed)  # each of them once
    for turn, name in enumerate(asked):
        # A thread that has taken its shard may be slow to ask for it, and so may all but the one that asks now.
        assert len(set(needed[: needed.index(name)]) - set(asked[:turn])) < NUM_THREADS


def test_an_iteration_fetches_no_further_than_it_looks_ahead(tmp_path: Path, cache: Path) -> None:
    remote = write_samples(tmp_path / "remote", 20_000, size_limit=1 << 17)
    counts = read_index(remote).samples_per_shard
    dataset = StreamingDataset(remote=remote, local=cache, predownload=64)
    assert next(iter(dataset))["id"] == 0
    # Positions are worked out 4,096 at a time: two such chunks hold the sample and the 64 behind it.
    touched = int(np.searchsorted(np.cumsum(counts), 2 * 4096)) + 1
    assert touched < len(counts) // 2
    assert 1 <= len(shard_files(cache)) <= touched


# Several at once ------------------------------------------------------------------------------------------------------


def read_all(remote: Path, cache: Path, outcome: Path, shuffle: bool) -> None:
    found = ids(StreamingDataset(remote=remote, local=cache, shuffle=shuffle, predownload=1000))
    outcome.write_text("right" if sorted(found) == list(range(len(found))) else "wrong")


@pytest.mark.parametrize("compression", [None, "zstd", "gz"])
def test_processes_that_share_a_cache_find_only_whole_files_there(
    tmp_path: Path, cache: Path, compression: str
) -> None:
    remote = write_samples(tmp_path / "remote", 600, compression=compression)
    index = read_index(remote)
    contents = {cached_name(shard): shard.content for shard in map(index.shard, range(index.num_shards))}
    outcomes = [tmp_path / f"outcome{number}" for number in range(3)]
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=read_all, args=(remote, cache, outcome, number > 0))
        for number, outcome in enumerate(outcomes)
    ]
    for child in children:
        child.start()
    while any(child.exitcode is None for child in children):
        for path in shard_files(cache):
            assert ipc.content_of(ipc.open_file(path).schema) == contents[path.name]
    for child in children:
        child.join(DEADLINE_S)
    assert [outcome.read_text() for outcome in outcomes] == ["right"] * 3
    assert len(shard_files(cache)) == len(contents)
    assert temporaries(cache) == []


def test_two_datasets_of_one_process_share_a_cache(remote: Path, cache: Path) -> None:
    with serve(remote) as server:
        datasets = [StreamingDataset(remote=server.url, local=cache, predownload=1000) for _ in range(2)]
        pairs = list(zip(*datasets, strict=True))
        assert [ids(side) for side in zip(*pairs, strict=True)] == [list(range(NUM_SAMPLES))] * 2
        asked = [name for name in server.asked if name != "index.json"]
    assert sorted(asked) == [path.name for path in shard_files(remote)]


# Killed ---------------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from arrowstream.dataset import StreamingDataset
for sample in StreamingDataset(remote=sys.argv[1], local=sys.argv[2], batch_size=1, predownload=1):
    print(sample["id"], flush=True)
    sys.stdin.readline()
"""


def start_reading(remote: str, cache: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, remote, str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def kill(process: "subprocess.Popen[str]") -> None:
    with process:
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_a_process_killed_between_samples_leaves_a_cache_that_works(remote: Path, cache: Path) -> None:
    process = start_reading(str(remote), cache)
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(30):
        assert int(process.stdout.readline()) == number
        process.stdin.write("\n")
    kill(process)
    assert_holds(StreamingDataset(remote=remote, local=cache), NUM_SAMPLES)
    assert temporaries(cache) == []


def test_a_process_killed_in_the_middle_of_a_download_leaves_nothing_that_stays(remote: Path, cache: Path) -> None:
    with serve(remote) as server:
        server.gate.clear()
        process = start_reading(server.url, cache)
        assert server.stuck.wait(DEADLINE_S)
        kill(process)
        assert len(temporaries(cache)) >= 1
        assert shard_files(cache) == []
        server.gate.set()
        assert_holds(StreamingDataset(remote=server.url, local=cache), NUM_SAMPLES)
    assert temporaries(cache) == []


def test_a_process_killed_while_it_fetches_frees_its_claims(remote: Path, cache: Path) -> None:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            for _ in itertools.count():
                shutil.rmtree(cache, ignore_errors=True)
                list(StreamingDataset(remote=remote, local=cache))
        os._exit(1)
    while not shard_files(cache):
        pass
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert_holds(StreamingDataset(remote=remote, local=cache), NUM_SAMPLES)
    assert temporaries(cache) == []


def test_large_shards_are_read_from_the_cache_as_written(tmp_path: Path, cache: Path) -> None:
    remote = write_large_rows(tmp_path / "remote", compression="zstd")
    here, there = StreamingDataset(remote=remote, local=cache), StreamingDataset(local=remote)
    for number in range(here.size):
        assert np.array_equal(here[number]["noise"], there[number]["noise"])
