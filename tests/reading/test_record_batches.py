"""Iterations by record batches: what is read is what whole shards hold, and each is fetched once, by its range."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.cache.names import BATCHES
from arrowstream.cli import main
from arrowstream.errors import CacheLimitError, CorruptShardError
from arrowstream.storage import Storage
from tests.faults import run_proxy
from tests.reading.datasets import noise, read_index, shard_files, temporaries
from tests.reading.http_server import Server, serve
from tests.reading.test_cache_limit import used_bytes, watched
from tests.servers import S3Server

NUM_SAMPLES = 640
ROW_BYTES = 1000
ROWS = 8  # of a record batch
DEADLINE_S = 60


@pytest.fixture(scope="module", autouse=True)
def small_record_batches() -> Iterator[None]:
    """Let writers cut record batches of a few KB, so that a small dataset has many."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("cutter", "shards"):
            patch.setattr(f"arrowstream.writer.{module}.BATCH_BYTES", ROWS * (ROW_BYTES + 20))
        yield


def write(out: Path, *, first: int = 0, num_samples: int = NUM_SAMPLES, **arguments: Any) -> Path:
    columns = {"id": "int", "text": "str", "noise": f"ndarray:uint8:{ROW_BYTES}"}
    with MDSWriter(out=out, columns=columns, **{"size_limit": 80_000, **arguments}) as writer:
        for number in range(first, first + num_samples):
            writer.write({"id": number, "text": f"é{number}", "noise": noise(number, ROW_BYTES)})
    return out


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("units") / "remote")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def by_batches(**arguments: Any) -> StreamingDataset:
    settings = {"shuffle": True, "shuffle_unit": "record_batch", "shuffle_block_size": 64, "num_canonical_nodes": 2}
    return StreamingDataset(**{"batch_size": 8, **settings, **arguments})


def batches_of(remote: Path) -> int:
    index = read_index(remote)
    return int((-(-index.samples_per_shard // index.rows_per_batch)).sum())


def batch_files(cache: Path) -> list[Path]:
    return sorted((cache / BATCHES).glob("*/*.arrow"))


def shard_ranges(server: Server) -> list[tuple[str, str]]:
    return [(name, part) for name, part in server.ranges if name != "index.json"]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one["id"], one["text"]) == (other["id"], other["text"])
        assert np.array_equal(one["noise"], noise(other["id"], ROW_BYTES))


# What is read, and what for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("compression", "shuffle"), [(None, True), (None, False), ("zstd", True), ("lz4", True)])
def test_an_epoch_is_that_of_whole_shards_and_fetches_every_record_batch_once(
    tmp_path: Path, cache: Path, compression: str | None, shuffle: bool
) -> None:
    remote = write(tmp_path / "remote", compression=compression)
    num_shards = len(shard_files(remote))
    assert batches_of(remote) > 4 * num_shards
    with serve(remote) as server:
        dataset = by_batches(remote=server.url, local=cache, shuffle=shuffle)
        expected = by_batches(local=remote, shuffle=shuffle)
        assert_same(list(dataset), list(expected))
        asked = shard_ranges(server)
        assert len(set(asked)) == len(asked) == batches_of(remote) + num_shards
        assert dataset.cost().num_requests == len(server.asked)
        assert_same(list(dataset), list(expected))  # the next epoch, of what lies there
        assert shard_ranges(server) == asked
    assert len(batch_files(cache)) == batches_of(remote)
    assert shard_files(cache) == temporaries(cache) == []


@pytest.mark.parametrize("form", ["numpy", "arrow", "torch"])
def test_batches_are_those_of_whole_shards(remote: Path, cache: Path, form: str) -> None:
    with serve(remote) as server:
        dataset = by_batches(remote=server.url, local=cache, random_access="record_batch")
        mapped = by_batches(local=remote)
        for _ in range(2):
            columns = ["noise", "text", "id"]
            found = list(dataset.batches(24, columns=columns, as_=form))
            assert [numbers(batch["id"]) for batch in found] == [
                numbers(batch["id"]) for batch in mapped.batches(24, columns=columns, as_=form)
            ]
            for batch in found:
                for number, text, row in zip(numbers(batch["id"]), batch["text"], batch["noise"], strict=True):
                    assert str(text) == f"é{number}"
                    assert np.array_equal(np.asarray(row.as_py() if form == "arrow" else row), noise(number, ROW_BYTES))
        asked = shard_ranges(server)
        assert len(set(asked)) == len(asked) == batches_of(remote) + len(shard_files(remote))
    assert shard_files(cache) == []


def numbers(column: Any) -> list[int]:
    found: list[int] = column.to_pylist() if isinstance(column, pa.ChunkedArray) else column.tolist()
    return found


def test_an_epoch_over_s3_makes_the_requests_that_it_counts(remote: Path, cache: Path, s3: S3Server) -> None:
    prefix = s3.new_prefix()
    for path in remote.iterdir():
        Storage(prefix, options=s3.options).upload(path, path.name)
    with run_proxy(s3.endpoint) as proxy:
        options = {**s3.options, "endpoint_url": proxy.url}
        dataset = by_batches(remote=prefix, local=cache, storage_options=options)
        assert_same(list(dataset), list(by_batches(local=remote)))
        gets = [line for line in proxy.requests if line.startswith("GET")]
        assert len(proxy.requests) == len(gets) == batches_of(remote) + len(shard_files(remote)) + 1
        assert dataset.cost().num_requests == len(gets)


def test_what_cannot_be_cut_is_fetched_as_a_whole(tmp_path: Path, cache: Path) -> None:
    remote = write(tmp_path / "remote", compression="gz")
    single = write(tmp_path / "single", num_samples=40, size_limit=5000)  # shards of one record batch
    for directory in (remote, single):
        with serve(directory) as server:
            local = cache / directory.name
            arguments = {} if directory == remote else {"shuffle_unit": "shard"}
            found = list(by_batches(remote=server.url, local=local, **arguments))
            assert_same(found, list(by_batches(local=directory, **arguments)))
            assert sorted(shard_ranges(server)) == sorted(set(shard_ranges(server)))
            assert len(shard_ranges(server)) == len(shard_files(directory)) == len(list(local.glob("shard.*")))


def test_a_subclass_sees_the_samples_and_no_shard_is_fetched_for_it(remote: Path, cache: Path) -> None:
    class Doubled(StreamingDataset):
        def __getitem__(self, key: Any) -> Any:
            return 2 * super().__getitem__(key)["id"]

    expected = [2 * sample["id"] for sample in by_batches(local=remote)]
    found = list(
        Doubled(remote=remote, local=cache, batch_size=8, shuffle=True, shuffle_unit="record_batch",
                shuffle_block_size=64, num_canonical_nodes=2)
    )  # fmt: skip
    assert found == expected
    assert shard_files(cache) == []


def test_shards_that_are_there_are_read_and_the_others_by_record_batches(remote: Path, cache: Path) -> None:
    with serve(remote) as server:
        whole = StreamingDataset(remote=server.url, local=cache, random_access="shard")
        starts = np.cumsum(whole.samples_per_shard) - whole.samples_per_shard
        there = starts[::2].tolist()
        assert [whole[number]["id"] for number in there] == there
        before = len(shard_ranges(server))
        assert before == len(there) == len(shard_files(cache))
        dataset = by_batches(remote=server.url, local=cache, random_access="record_batch")
        chosen = np.random.default_rng(3).permutation(NUM_SAMPLES)[:50]
        table = dataset.take(chosen, columns=["text", "id"])
        assert table["id"].to_pylist() == chosen.tolist()
        assert table["text"].to_pylist() == [f"é{number}" for number in chosen]
        for number in chosen[:10].tolist():
            assert np.array_equal(dataset[number]["noise"], noise(number, ROW_BYTES))
        assert_same(list(dataset), list(by_batches(local=remote)))
        found = [number for batch in dataset.batches(as_="numpy") for number in batch["id"].tolist()]
        assert sorted(found) == list(range(NUM_SAMPLES))
        asked = shard_ranges(server)[before:]
        index = read_index(remote)
        left = -(-index.samples_per_shard // index.rows_per_batch)[1::2]
        assert len(set(asked)) == len(asked) == left.sum() + len(left)
        assert len(shard_files(cache)) == len(there)


# Within a limit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("compression", "way"), [(None, "samples"), ("zstd", "batches")])
def test_a_cache_of_a_quarter_fetches_hardly_a_record_batch_twice(
    tmp_path: Path, cache: Path, compression: str | None, way: str
) -> None:
    remote = write(tmp_path / "remote", compression=compression)
    limit = sum(path.stat().st_size for path in shard_files(remote)) // 4
    window: dict[str, Any] = {"shuffle_block_size": 16, "num_canonical_nodes": 1}
    with serve(remote) as server, watched(cache) as measured:
        dataset = by_batches(remote=server.url, local=cache, cache_limit=limit, predownload=16, **window)
        if way == "samples":
            assert_same(list(dataset), list(by_batches(local=remote, **window)))
        else:
            found = [number for batch in dataset.batches(as_="numpy") for number in batch["id"].tolist()]
            assert found == [sample["id"] for sample in by_batches(local=remote, **window)]
        asked = shard_ranges(server)
        needed = batches_of(remote) + len(shard_files(remote))
        # What was fetched ahead may have to go for what is needed at once, when the threads fall behind.
        assert len(set(asked)) == needed <= len(asked) <= 1.1 * needed
    assert max(measured) <= limit
    assert used_bytes(cache) <= limit
    assert temporaries(cache) == []


def test_a_limit_below_the_window_is_refused_with_the_minimum(remote: Path, cache: Path) -> None:
    with pytest.raises(CacheLimitError, match=r"reads shards of \d+ bytes"):
        next(iter(by_batches(remote=remote, local=cache, cache_limit="60kb")))


# Faults -----------------------------------------------------------------------------------------------------------


def test_a_record_batch_that_is_damaged_ends_the_epoch_where_it_is_needed(tmp_path: Path, cache: Path) -> None:
    remote = write(tmp_path / "remote")
    damaged = shard_files(remote)[1]
    contents = bytearray(damaged.read_bytes())
    contents[len(contents) // 2] ^= 1
    damaged.write_bytes(contents)
    found = []
    with pytest.raises(CorruptShardError, match=rf"{damaged.name}: record batch \d+: its xxh3_64 is"):
        found.extend(by_batches(remote=remote, local=cache, shuffle=False, num_canonical_nodes=1))
    first = int(read_index(remote).samples_per_shard[0])
    assert [sample["id"] for sample in found] == list(range(len(found)))
    assert first < len(found) < 2 * first


def test_requests_that_fail_are_counted_too(remote: Path, cache: Path) -> None:
    with serve(remote) as server, run_proxy(server.url) as proxy:
        dataset = by_batches(remote=proxy.url, local=cache)
        dataset.size  # noqa: B018
        proxy.fail("status", 1, status=500)
        assert dataset[5]["id"] == 5
        assert dataset.cost().num_requests == len(proxy.requests) == 3


# Others -----------------------------------------------------------------------------------------------------------

RANK = """
import json, sys
from torch.utils.data import DataLoader
from arrowstream import StreamingDataset
from tests.reading.test_record_batches import ids_of
dataset = StreamingDataset(
    remote=sys.argv[1], local=sys.argv[2], batch_size=8, shuffle=True, shuffle_unit="record_batch",
    shuffle_block_size=64, num_canonical_nodes=2,
)
loader = DataLoader(dataset, batch_size=8, num_workers=2, collate_fn=ids_of, multiprocessing_context="fork")
print(json.dumps(sum(loader, [])))
"""


def ids_of(samples: list[dict[str, Any]]) -> list[int]:
    for sample in samples:
        assert np.array_equal(sample["noise"], noise(sample["id"], ROW_BYTES))
    return [sample["id"] for sample in samples]


def test_ranks_and_workers_fetch_each_record_batch_once_a_node(remote: Path, cache: Path) -> None:
    with serve(remote) as server:
        ranks = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", RANK, server.url, str(cache)],
                env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        read = [number for rank in ranks for number in json.loads(rank.communicate(timeout=DEADLINE_S)[0])]
        asked = shard_ranges(server)
    assert sorted(read) == list(range(NUM_SAMPLES))
    assert len(set(asked)) == len(asked) == batches_of(remote) + len(shard_files(remote))
    assert temporaries(cache) == []


# Told beforehand --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "compression"), [("record_batch", None), ("shard", None), ("record_batch", "gz")])
def test_the_plan_says_how_many_requests_an_epoch_makes(
    tmp_path: Path, cache: Path, unit: str, compression: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = write(tmp_path / "remote", compression=compression)
    settings = ["--shuffle-unit", unit, "--shuffle-block-size", "64", "--canonical-nodes", "2"]
    assert main(["plan", str(remote), "--batch-size", "8", *settings, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (node,) = told["nodes"]
    with serve(remote) as server:
        dataset = by_batches(remote=server.url, local=cache, shuffle_unit=unit)
        dataset.size  # noqa: B018
        before = dataset.cost()
        assert len(list(dataset)) == NUM_SAMPLES
        made = dataset.cost().num_requests - before.num_requests
        assert len(shard_ranges(server)) == made
        assert node["gets_per_step"] * told["steps"] == pytest.approx(made)
        assert node["downloads"] <= made
