"""The cache against a model: whatever is fetched, deleted, damaged and limited, in whatever order."""

import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from arrowstream import ipc
from arrowstream.cache import Room, ShardCache
from arrowstream.cache.names import TEMPORARY
from arrowstream.errors import CacheLimitError
from arrowstream.storage import Storage
from tests.reading.datasets import read_index, shard_files, write_samples

NUM_SHARDS = 7
_remotes: dict[str | None, Path] = {}


def remote_with(compression: str | None) -> Path:
    """Write a dataset once for all runs."""
    if compression not in _remotes:
        folder = Path(tempfile.mkdtemp(prefix="arrowstream-machine-"))
        _remotes[compression] = write_samples(folder / "remote", 160, compression=compression)
    return _remotes[compression]


def teardown_module() -> None:
    for remote in _remotes.values():
        shutil.rmtree(remote.parent)
    _remotes.clear()


class CacheMachine(RuleBasedStateMachine):
    """Two processes' worth of caches over one directory; the model is the set of names that may lie there."""

    @initialize(
        compression=st.sampled_from([None, "zstd", "gz"]),
        keep_zip=st.booleans(),
        capacity=st.none() | st.integers(3, NUM_SHARDS),
    )
    def start(self, compression: str | None, keep_zip: bool, capacity: int | None) -> None:
        self.remote = remote_with(compression)
        self.index = read_index(self.remote)
        assert self.index.num_shards >= NUM_SHARDS
        self.shards = [self.index.shard(number) for number in range(NUM_SHARDS)]
        self.folder = Path(tempfile.mkdtemp(prefix="arrowstream-machine-"))
        self.directory = self.folder / "cache"
        largest = max(shard.raw_bytes + 2 * shard.file_bytes for shard in self.shards)
        self.limit = capacity * largest if capacity is not None else None
        self.caches = []
        for _ in range(2):
            cache = ShardCache(Storage(self.remote), self.directory, keep_zip=keep_zip)
            cache.room = Room(self.limit)
            cache.room.add(self.directory, self.index, 0)
            self.caches.append(cache)
        self.maps: list[tuple[pa.Table, int]] = []
        self.read: set[int] = set()

    def teardown(self) -> None:
        shutil.rmtree(getattr(self, "folder", "/nonexistent"), ignore_errors=True)

    @rule(who=st.integers(0, 1), number=st.integers(0, NUM_SHARDS - 1))
    def fetch(self, who: int, number: int) -> None:
        path = self.caches[who].fetch(self.shards[number], number)
        table = ipc.open_file(path).read_all()
        assert table.num_rows == self.shards[number].num_samples
        self.maps = [*self.maps[-3:], (table, number)]
        assert self.caches[1 - who].has(self.shards[number])

    @rule(who=st.integers(0, 1), number=st.integers(0, NUM_SHARDS - 1))
    def fetch_ahead(self, who: int, number: int) -> None:
        path = self.caches[who].fetch_ahead(self.shards[number], number)
        assert (path is not None) == self.caches[who].has(self.shards[number])
        assert path is not None or self.limit is not None

    @rule(who=st.integers(0, 1), number=st.integers(0, NUM_SHARDS - 1), batch=st.just(0))
    def fetch_record_batch(self, who: int, number: int, batch: int) -> None:
        cache, shard = self.caches[who], self.shards[number]
        if cache.fetch_footer(shard) is not None:
            rows = ipc.open_file(cache.fetch_batch(shard, batch, number)).read_all()
            assert rows.num_rows == min(shard.rows_per_batch, shard.num_samples)

    @rule(number=st.integers(0, NUM_SHARDS - 1))
    def delete(self, number: int) -> None:
        self.caches[0].path(self.shards[number]).unlink(missing_ok=True)

    @rule(number=st.integers(0, NUM_SHARDS - 1), keep=st.integers(0, 4000))
    def damage(self, number: int, keep: int) -> None:
        """Somebody copies half a file over a shard: a new file, for a mapped one may not be cut."""
        path = self.caches[0].path(self.shards[number])
        if path.exists():
            half = path.read_bytes()[:keep]
            path.unlink()
            path.write_bytes(half)

    @rule()
    def die(self) -> None:
        """A process dies in the middle of a fetch: its reservation is there, and nobody holds it."""
        temporary = self.directory / TEMPORARY
        temporary.mkdir(parents=True, exist_ok=True)
        (temporary / "dead.room").write_bytes(b"")
        (temporary / "dead.arrived").write_bytes(bytes(3000))

    @rule()
    def vanish(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    @rule(order=st.none() | st.permutations(range(NUM_SHARDS)))
    def plan(self, order: list[int] | None) -> None:
        import numpy as np

        uses = None if order is None else np.array([*order, *[10**6] * (self.index.num_shards - NUM_SHARDS)])
        for cache in self.caches:
            cache.room.follow(None if uses is None else lambda uses=uses: uses, None)

    @rule(who=st.integers(0, 1), number=st.integers(0, NUM_SHARDS - 1))
    def too_small(self, who: int, number: int) -> None:
        """A limit below one shard is an error, and nothing is deleted for it."""
        cache = self.caches[who]
        if cache.has(self.shards[number]):
            return
        before = shard_files(self.directory)
        room, cache.room = cache.room, Room(100)
        cache.room.add(self.directory, self.index, 0)
        try:
            cache.fetch(self.shards[number], number)
            raise AssertionError("a shard found room where there is none")
        except CacheLimitError:
            assert shard_files(self.directory) == before
        finally:
            cache.room = room

    @invariant()
    def what_is_whole_is_right(self) -> None:
        for cache in getattr(self, "caches", [])[:1]:
            for shard in self.shards:
                if cache.has(shard):
                    assert ipc.open_file(cache.path(shard)).read_all().num_rows == shard.num_samples

    @invariant()
    def what_is_mapped_stays_readable(self) -> None:
        for table, number in getattr(self, "maps", []):
            ids = table["id"].to_pylist()
            first = sum(shard.num_samples for shard in self.shards[:number])
            assert ids == list(range(first, first + len(ids)))

    @invariant()
    def the_limit_is_kept(self) -> None:
        if getattr(self, "limit", None) is not None:
            dead = self.directory / TEMPORARY / "dead.arrived"
            allowed = self.limit + (dead.stat().st_size if dead.exists() else 0)
            assert sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file()) <= allowed


CacheMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestCache = CacheMachine.TestCase
