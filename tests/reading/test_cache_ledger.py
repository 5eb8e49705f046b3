"""How much a cache holds is known without a look at every file; what lies about it is found out."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrowstream import StreamingDataset
from arrowstream.cache import ShardCache
from arrowstream.cache.ledger import Ledger
from arrowstream.cache.locks import locked
from arrowstream.cache.names import LEDGER, LOCK, TEMPORARY
from arrowstream.cache.reservations import SUFFIX
from arrowstream.cache.room import ROOM, Room
from arrowstream.cache.shelf import Shelf
from arrowstream.storage import Storage
from tests.reading.datasets import assert_holds, ids, read_index, shard_files, temporaries, write_samples

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
NUM_SAMPLES = 600
DEADLINE_S = 30.0
YEAR_S = 365 * 86400


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("ledger") / "remote", NUM_SAMPLES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def surveys(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The directories that were looked through, file by file."""
    done: list[Path] = []
    survey = Shelf.survey

    def counted(self: Shelf) -> tuple[int, list]:
        done.append(self.directory)
        return survey(self)

    monkeypatch.setattr(Shelf, "survey", counted)
    return done


def held_bytes(cache: Path) -> int:
    paths = (path for path in cache.rglob("*") if path.is_file() and path.suffix != SUFFIX)  # which holds nothing
    return sum(path.stat().st_size for path in paths)


def largest_shard(remote: Path) -> int:
    index = read_index(remote)
    return max(index.shard(number).raw_bytes for number in range(index.num_shards))


def cache_of(remote: Path, cache: Path, limit: int) -> ShardCache:
    opened = ShardCache(Storage(remote), cache)
    opened.room = Room(limit, timeout_s=DEADLINE_S)
    opened.room.add(cache, read_index(remote), 0)
    return opened


def fetch_all(opened: ShardCache, remote: Path, limit: int) -> None:
    index = read_index(remote)
    for number in range(index.num_shards):
        opened.fetch(index.shard(number), number)
        assert held_bytes(opened.directory) <= limit


@pytest.mark.parametrize("compression", [None, "zstd", "gz"])
@pytest.mark.parametrize("keep_zip", [False, True])
def test_the_number_is_what_lies_there(tmp_path: Path, cache: Path, compression: str | None, keep_zip: bool) -> None:
    remote = write_samples(tmp_path / "remote", NUM_SAMPLES, compression=compression)
    limit = 20 * largest_shard(remote)
    dataset = StreamingDataset(remote=remote, local=cache, cache_limit=limit, keep_zip=keep_zip)
    for _ in range(2):
        assert sorted(ids(dataset)) == list(range(NUM_SAMPLES))
        assert Ledger(cache).read() == held_bytes(cache)


def test_nobody_looks_through_the_directory_while_there_is_room(remote: Path, cache: Path, surveys: list[Path]) -> None:
    assert_holds(StreamingDataset(remote=remote, local=cache, cache_limit="100mb"), NUM_SAMPLES)
    assert surveys == [cache]
    assert_holds(StreamingDataset(remote=remote, local=cache, cache_limit="100mb"), NUM_SAMPLES)
    assert surveys == [cache]


def test_a_full_directory_is_looked_through_once_in_several_fetches(
    tmp_path: Path, cache: Path, surveys: list[Path]
) -> None:
    remote = write_samples(tmp_path / "remote", 4 * NUM_SAMPLES)
    index = read_index(remote)
    limit = sum(index.shard(number).raw_bytes for number in range(index.num_shards)) // 2
    opened = cache_of(remote, cache, limit)
    fetch_all(opened, remote, limit)
    num_held = len(shard_files(cache))
    surveys.clear()
    fetch_all(opened, remote, limit)
    num_fetched = index.num_shards  # least recently used first: of what is read in order nothing is found again
    assert num_held > 32
    assert 0 < len(surveys) <= -(-num_fetched // (num_held // 8)) + 1


LIES = {
    "a number of nobody": lambda text: b"",
    "half a number": lambda text: text[:20],
    "a digit that flipped": lambda text: text[:42] + bytes([text[42] ^ 1]) + text[43:],
    "a number of before the machine was started": lambda text: text[:8] + bytes(32) + text[40:],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_number_that_cannot_be_right_is_not_believed(
    remote: Path, cache: Path, surveys: list[Path], lie: str
) -> None:
    limit = 8 * largest_shard(remote)
    fetch_all(cache_of(remote, cache, limit), remote, limit)
    file = cache / LEDGER
    file.write_bytes(LIES[lie](file.read_bytes()))
    assert Ledger(cache).read() is None
    surveys.clear()
    fetch_all(cache_of(remote, cache, limit), remote, limit)
    assert surveys
    assert Ledger(cache).read() == held_bytes(cache)


def test_a_number_that_is_too_large_deletes_nothing(remote: Path, cache: Path) -> None:
    """Whoever is killed between what he writes down and what he does leaves one."""
    limit = 100 * largest_shard(remote)
    index = read_index(remote)
    opened = cache_of(remote, cache, limit)
    for number in range(5):
        opened.fetch(index.shard(number), number)
    Ledger(cache).write(limit)
    cache_of(remote, cache, limit).fetch(index.shard(5), 5)
    assert len(shard_files(cache)) == 6
    assert Ledger(cache).read() == held_bytes(cache)


def test_what_others_put_into_the_directory_is_noticed(remote: Path, cache: Path) -> None:
    limit = 10 * largest_shard(remote)
    opened = cache_of(remote, cache, limit)
    fetch_all(opened, remote, limit)
    shards = shard_files(cache)
    for shard in shards[:4]:
        shard.unlink()
    foreign = cache / "notes.txt"
    foreign.write_bytes(bytes(3 * largest_shard(remote)))
    os.utime(cache, (0, 0))  # whatever the time is called
    fetch_all(opened, remote, limit)
    assert foreign.exists()


def test_whoever_is_killed_over_a_fetch_takes_no_room_for_good(remote: Path, cache: Path) -> None:
    limit = 6 * largest_shard(remote)
    opened = cache_of(remote, cache, limit)
    fetch_all(opened, remote, limit)
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with opened.room.scratch(cache, 4 * largest_shard(remote)) as scratch:
            scratch.file("arrived").write_bytes(bytes(largest_shard(remote)))
            os.write(told, b".")
            signal.pause()
        os._exit(1)
    os.read(ready, 1)
    assert Ledger(cache).read() == held_bytes(cache) + 3 * largest_shard(remote)  # those are still to come
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    fetch_all(opened, remote, limit)
    assert held_bytes(cache) > limit - 2 * largest_shard(remote)
    assert temporaries(cache) == []


@pytest.mark.parametrize("when_s", [0, 100 * YEAR_S])
def test_who_lives_is_told_by_locks_and_not_by_the_clock(remote: Path, cache: Path, when_s: int) -> None:
    """Files of the dead go, however new they look, and those of the living stay, however old."""
    limit = 12 * largest_shard(remote)
    opened = cache_of(remote, cache, limit)
    fetch_all(opened, remote, limit)
    with opened.room.scratch(cache, largest_shard(remote)) as scratch:
        living = scratch.file("arrived")
        living.write_bytes(bytes(100))
        dead = [cache / TEMPORARY / name for name in ("dead.room", "dead.arrived")]
        for path in dead:
            path.write_bytes(bytes(100))
        for path in (*(cache / TEMPORARY).iterdir(), cache / LOCK, cache / LEDGER, cache):
            os.utime(path, (when_s, when_s))
        opened.room.sweep(cache)
        assert living.exists()
        assert not any(path.exists() for path in dead)
        fetch_all(cache_of(remote, cache, limit), remote, 2 * limit)
        assert living.exists()
    with locked(cache / LOCK, ROOM, timeout_s=DEADLINE_S, what="testing") as held:
        assert held
    assert temporaries(cache) == []
    assert held_bytes(cache) <= limit
