"""A cache that may hold less than the data: the limit is kept, what is needed last goes, nothing local ever does."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from arrowstream import Stream, StreamingDataset
from arrowstream.cache.locks import locked
from arrowstream.cache.names import LOCK, TEMPORARY
from arrowstream.cache.reservations import SUFFIX
from arrowstream.cache.room import ROOM
from arrowstream.errors import CacheLimitError, UnwritableError
from tests.reading.datasets import (
    assert_holds,
    assert_is_sample,
    ids,
    read_index,
    shard_files,
    states,
    temporaries,
    write_samples,
)
from tests.reading.http_server import serve

NUM_SAMPLES = 600
DEADLINE_S = 60


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("limit") / "remote", NUM_SAMPLES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def used_bytes(cache: Path) -> int:
    """Sum up what lies in a cache, each file once though it may be renamed meanwhile; reservations hold nothing."""
    sizes = {}
    for folder, _, files in os.walk(cache):
        for name in files:
            if not name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    status = Path(folder, name).stat()
                    sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


@contextlib.contextmanager
def watched(cache: Path) -> Iterator[list[int]]:
    """Measure a directory over and over while the block runs."""
    measured: list[int] = []
    enough = threading.Event()

    def measure() -> None:
        while not enough.wait(0.001):
            if (cache / LOCK).exists():
                # While nobody can delete for room, or reserve it: else what came after is added to what went before.
                with locked(cache / LOCK, ROOM, timeout_s=DEADLINE_S, what="measuring") as held:
                    assert held
                    measured.append(used_bytes(cache))

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield measured
    finally:
        enough.set()
        thread.join()


def largest_shard(remote: Path) -> int:
    index = read_index(remote)
    return max(index.shard(number).raw_bytes for number in range(index.num_shards))


# The limit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zstd", "gz"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_limit_is_kept_at_every_moment(tmp_path: Path, cache: Path, compression: str | None, shuffle: bool) -> None:
    remote = write_samples(tmp_path / "remote", NUM_SAMPLES, compression=compression)
    limit = 10 * largest_shard(remote)
    dataset = StreamingDataset(
        remote=remote, local=cache, cache_limit=limit, shuffle=shuffle, shuffle_block_size=32, num_canonical_nodes=1
    )
    with watched(cache) as measured:
        for _ in range(2):
            assert sorted(ids(dataset)) == list(range(NUM_SAMPLES))
    assert max(measured) <= limit
    assert used_bytes(cache) <= limit
    assert temporaries(cache) == []
    assert 3 < len(shard_files(cache)) < 10


def test_random_access_keeps_the_limit_and_forgets_what_was_opened_least_recently(remote: Path, cache: Path) -> None:
    limit = 6 * largest_shard(remote)
    dataset = StreamingDataset(remote=remote, local=cache, cache_limit=limit)
    starts = np.cumsum(dataset.samples_per_shard) - dataset.samples_per_shard
    for number in starts.tolist():
        assert_is_sample(dataset[number], number)
        assert used_bytes(cache) <= limit
    names = [f"shard.{number:05d}.arrow" for number in range(dataset.num_shards)]
    held = [path.name for path in shard_files(cache)]
    assert held == names[-len(held) :]


def test_streams_share_the_limit(tmp_path: Path) -> None:
    remotes = [write_samples(tmp_path / f"remote{n}", 300, first=300 * n) for n in range(2)]
    streams = [Stream(remote=remote, local=tmp_path / "caches" / remote.name) for remote in remotes]
    limit = 8 * largest_shard(remotes[0])
    dataset = StreamingDataset(streams=streams, cache_limit=limit)
    assert sorted(ids(dataset)) == list(range(600))
    assert used_bytes(tmp_path / "caches") <= limit


@pytest.mark.parametrize("limit", ["30kb", 30 << 10])
def test_a_limit_below_what_is_needed_at_once_is_refused_with_the_minimum(
    remote: Path, cache: Path, limit: int | str
) -> None:
    arguments = {"remote": remote, "local": cache, "shuffle": True, "num_canonical_nodes": 4, "shuffle_block_size": 64}
    with pytest.raises(CacheLimitError, match=r"30\.0 KiB\).* reads shards of \d+ bytes") as caught:
        next(iter(StreamingDataset(cache_limit=limit, **arguments)))
    minimum = int(str(caught.value).split("reads shards of ")[1].split()[0])
    slack = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())  # the index and its names
    dataset = StreamingDataset(cache_limit=minimum + slack, **arguments)
    assert sorted(ids(dataset)) == list(range(NUM_SAMPLES))
    assert used_bytes(cache) <= minimum + slack


def test_a_limit_below_one_shard_is_refused(remote: Path, cache: Path) -> None:
    with pytest.raises(CacheLimitError, match="raise cache_limit= to at least"):
        StreamingDataset(remote=remote, local=cache, cache_limit="5kb")[0]
    assert temporaries(cache) == []


# Who goes -------------------------------------------------------------------------------------------------------------


def test_foreign_files_count_and_stay(remote: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "notes.arrow").write_bytes(bytes(20_000))
    limit = 20_000 + 6 * largest_shard(remote)
    dataset = StreamingDataset(remote=remote, local=cache, cache_limit=limit)
    assert ids(dataset) == list(range(NUM_SAMPLES))
    assert used_bytes(cache) <= limit
    assert (cache / "notes.arrow").read_bytes() == bytes(20_000)


def test_local_data_is_never_deleted(tmp_path: Path, remote: Path) -> None:
    local = write_samples(tmp_path / "local", 100, first=NUM_SAMPLES)
    before = states(local)
    streams = [Stream(remote=remote, local=tmp_path / "cache"), Stream(local=local)]
    dataset = StreamingDataset(streams=streams, cache_limit=6 * largest_shard(remote))
    for _ in range(2):
        assert ids(dataset) == list(range(NUM_SAMPLES + 100))
    assert states(local) == before


def test_what_a_finished_job_left_of_other_data_goes_first(tmp_path: Path, remote: Path, cache: Path) -> None:
    other = write_samples(tmp_path / "other", 100)
    for number, path in enumerate(shard_files(other)):
        path.rename(other / f"other.{number}.arrow")
    index = (other / "index.json").read_text()
    for number in range(len(list(other.glob("other.*")))):
        index = index.replace(f"shard.{number:05d}.arrow", f"other.{number}.arrow")
    (other / "index.json").write_text(index)
    assert_holds(StreamingDataset(remote=other, local=cache), 100)
    assert len(list(cache.glob("other.*"))) > 2
    dataset = StreamingDataset(remote=remote, local=cache, cache_limit=8 * largest_shard(remote))
    assert ids(dataset) == list(range(NUM_SAMPLES))
    assert list(cache.glob("other.*")) == []
    assert_holds(StreamingDataset(remote=other, local=cache), 100)  # it is fetched again


def test_an_epoch_begins_with_what_the_last_one_kept(remote: Path, cache: Path) -> None:
    num_shards = len(shard_files(remote))
    limit = used_of_all = sum(path.stat().st_size for path in shard_files(remote)) // 2
    with serve(remote) as server:
        dataset = StreamingDataset(remote=server.url, local=cache, cache_limit=limit, predownload=1)
        for _ in range(3):
            assert ids(dataset) == list(range(NUM_SAMPLES))
        asked = [name for name in server.asked if name != "index.json"]
    assert used_of_all > 0
    # In the same order each time LRU would find nothing at all: three times all shards.
    assert len(asked) < 3 * num_shards - num_shards // 2


# Others ---------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_worker_processes_keep_the_limit_together(remote: Path, cache: Path) -> None:
    from torch.utils.data import DataLoader

    limit = 12 * largest_shard(remote)
    dataset = StreamingDataset(
        remote=remote,
        local=cache,
        cache_limit=limit,
        shuffle=True,
        num_canonical_nodes=1,
        shuffle_block_size=32,
        batch_size=4,
    )
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context="fork")
    with watched(cache) as measured:
        for _ in range(2):
            assert sorted(ids(loader)) == list(range(NUM_SAMPLES))
    assert max(measured) <= limit
    assert used_bytes(cache) <= limit
    assert temporaries(cache) == []


FULL_DISK = """
import sys
from pathlib import Path
from arrowstream.dataset import StreamingDataset
remote, cache, passes = sys.argv[1:]
dataset = StreamingDataset(remote=remote, local=cache, shuffle=True, shuffle_block_size=32, num_canonical_nodes=1)
for _ in range(int(passes)):
    assert sorted(sample["id"] for sample in dataset) == list(range(dataset.size))
print(len(list(Path(cache).glob("shard.*"))))
"""


def on_small_disk(program: str, *arguments: object, num_bytes: int) -> "subprocess.CompletedProcess[str]":
    """Run a program with a file system of so many bytes at ``/mnt``, in a namespace of its own."""
    import sys

    mount = f'mount -t tmpfs -o size={num_bytes} tmpfs /mnt && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", program, *map(str, arguments)]
    with contextlib.suppress(FileNotFoundError):
        probe = subprocess.run(["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"], check=False)
        if probe.returncode == 0:
            return subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE_S)
    pytest.skip("no namespaces for users here, so no small disk")


def test_a_full_disk_deletes_what_is_not_needed_soon_and_says_so(remote: Path) -> None:
    done = on_small_disk(FULL_DISK, remote, "/mnt/cache", 2, num_bytes=40 * largest_shard(remote))
    assert done.returncode == 0, done.stderr
    assert 5 < int(done.stdout) < len(shard_files(remote))
    assert "the disk is full" in done.stderr


def test_a_disk_that_is_full_of_other_things_is_named(remote: Path) -> None:
    program = "open('/mnt/other', 'wb').write(bytes(180_000))\n" + FULL_DISK
    done = on_small_disk(program, remote, "/mnt/cache", 1, num_bytes=196_608)
    assert done.returncode == 1
    assert UnwritableError.__name__ in done.stderr
    assert "/mnt/cache" in done.stderr


def test_a_file_that_is_written_by_hand_into_the_temporary_folder_is_swept(remote: Path, cache: Path) -> None:
    (cache / TEMPORARY).mkdir(parents=True)
    (cache / TEMPORARY / "dead.arrived").write_bytes(bytes(1000))
    assert StreamingDataset(remote=remote, local=cache)[0]["id"] == 0
    assert temporaries(cache) == []
