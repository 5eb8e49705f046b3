"""Shards that are fetched ahead: within bytes, with their own errors, and without holding up anybody's end."""

import subprocess
import sys
from pathlib import Path

import pytest

from arrowstream import StreamingDataset, prefetch
from arrowstream.errors import CorruptShardError, MissingShardError, RemoteNotFoundError
from arrowstream.prefetch import NUM_THREADS
from tests.reading.datasets import ids, read_index, shard_files, temporaries, write_samples
from tests.reading.http_server import serve

NUM_SAMPLES = 300
DEADLINE_S = 60


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("prefetch") / "remote", NUM_SAMPLES)


def test_no_more_bytes_are_fetched_ahead_than_are_allowed(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = read_index(remote)
    sizes = [index.shard(number).raw_bytes for number in range(index.num_shards)]
    monkeypatch.setattr(prefetch, "MAX_BYTES_AHEAD", 3 * max(sizes))
    dataset = StreamingDataset(remote=remote, local=tmp_path / "cache", predownload=NUM_SAMPLES)
    starts = {0, *dataset.samples_per_shard.cumsum().tolist()}
    opened = 0
    for number, sample in enumerate(dataset):
        assert sample["id"] == number
        opened += number in starts
        ahead = len(shard_files(tmp_path / "cache")) - opened
        assert ahead <= 3 * max(sizes) // min(sizes)
    assert opened == index.num_shards


def test_an_error_in_the_background_comes_as_itself_with_its_cause(tmp_path: Path) -> None:
    remote = write_samples(tmp_path / "remote", NUM_SAMPLES)
    missing = shard_files(remote)[-1]
    missing.unlink()
    found = []
    with pytest.raises(MissingShardError, match=f"{missing.name}: does not exist, but the index names it") as caught:
        found.extend(StreamingDataset(remote=remote, local=tmp_path / "cache", predownload=NUM_SAMPLES))
    assert isinstance(caught.value.__cause__, RemoteNotFoundError)
    assert ids(found) == list(range(len(found)))
    assert len(found) > NUM_SAMPLES // 2


def test_a_shard_that_is_damaged_ends_the_epoch_where_it_is_needed(tmp_path: Path) -> None:
    remote = write_samples(tmp_path / "remote", NUM_SAMPLES)
    damaged = shard_files(remote)[5]
    contents = bytearray(damaged.read_bytes())
    contents[len(contents) // 2] ^= 1
    damaged.write_bytes(contents)
    dataset = StreamingDataset(remote=remote, local=tmp_path / "cache")
    found = []
    with pytest.raises(CorruptShardError, match=rf"{damaged.name}: its xxh3_64 is .*; fetched 2 times"):
        found.extend(dataset)
    assert len(found) == dataset.samples_per_shard[:5].sum()


EXIT = """
import sys
from arrowstream.dataset import StreamingDataset
dataset = StreamingDataset(remote=sys.argv[1], local=sys.argv[2], predownload=10_000, download_timeout=1000)
samples = iter(dataset)
first = next(samples)["id"]
print(first, flush=True)
sys.stdin.readline()
"""


def test_a_process_that_exits_is_not_held_up_by_what_it_is_fetching(remote: Path, tmp_path: Path) -> None:
    with serve(remote) as server:
        cache = tmp_path / "cache"
        assert StreamingDataset(remote=server.url, local=cache)[0]["id"] == 0
        server.gate.clear()  # every answer stops in its middle, and waits longer than the deadline
        command = [sys.executable, "-c", EXIT, server.url, str(cache)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert server.stuck.wait(DEADLINE_S)
            said, _ = process.communicate("\n", timeout=DEADLINE_S / 2)
        assert (said, process.returncode) == ("0\n", 0)
        assert 0 < len({path.name.partition(".")[0] for path in temporaries(cache)}) <= NUM_THREADS
        server.gate.set()
        assert ids(StreamingDataset(remote=server.url, local=cache)) == list(range(NUM_SAMPLES))
    assert temporaries(cache) == []
