"""Samples of shards that are not in the cache: by record batches, checked, until a shard would have cost less."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import StreamingDataset, ipc
from arrowstream.cache.names import BATCHES
from arrowstream.cache.ranges import TAIL_BYTES
from arrowstream.errors import CorruptShardError
from arrowstream.writer import MDSWriter
from tests.reading.datasets import noise, read_index, shard_files, temporaries, write_large_rows, write_samples
from tests.reading.http_server import serve
from tests.servers import S3Server

ROW_BYTES = 1 << 17
NUM_SAMPLES = 160  # 20 MiB in one shard of record batches of about 1 MiB


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large_rows(tmp_path_factory.mktemp("random") / "plain", NUM_SAMPLES)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large_rows(tmp_path_factory.mktemp("random") / "packed", NUM_SAMPLES, compression="zstd:1")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def assert_is_row(sample: dict, number: int) -> None:
    assert sample["id"] == number
    assert np.array_equal(sample["noise"], noise(number, ROW_BYTES))


def batch_files(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / BATCHES).rglob("*.arrow") if path.is_file())


@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_a_cold_sample_takes_three_requests_and_little_more_than_its_record_batch(
    kind: str, cache: Path, request: pytest.FixtureRequest
) -> None:
    remote = request.getfixturevalue(kind)
    with serve(remote) as server:
        dataset = StreamingDataset(remote=server.url, local=cache)
        assert_is_row(dataset[77], 77)
        assert server.asked == ["index.json", "shard.00000.arrow", "shard.00000.arrow"]
        assert dataset.cost().num_requests == 3
        assert dataset.cost().num_bytes < (2 << 20) + TAIL_BYTES
        assert shard_files(cache) == []
        rows = read_index(remote).shard(0).rows_per_batch
        neighbours = range(77 // rows * rows, (77 // rows + 1) * rows)
        for number in neighbours:
            assert_is_row(dataset[number], number)
        assert len(server.asked) == 3  # they came with it
        # Another process, later, finds what lies there.
        assert_is_row(StreamingDataset(remote=server.url, local=cache)[77], 77)
        assert server.asked[3:] == ["index.json"]


def test_a_cold_sample_from_s3_takes_three_requests(plain: Path, cache: Path, s3: S3Server) -> None:
    from arrowstream.storage import Storage

    prefix = s3.new_prefix()
    for name in ("index.json", "shard.00000.arrow"):
        Storage(prefix, options=s3.options).upload(plain / name, name)
    dataset = StreamingDataset(remote=prefix, local=cache, storage_options=s3.options)
    assert_is_row(dataset[77], 77)
    assert dataset.cost().num_requests == 3


def test_taken_samples_fetch_the_record_batches_that_they_are_in(plain: Path, cache: Path) -> None:
    with serve(plain) as server:
        dataset = StreamingDataset(remote=server.url, local=cache)
        table = dataset.take([3, 150, 2, 3], columns=["id"])
        assert table["id"].to_pylist() == [3, 150, 2, 3]
        assert len(server.asked) == 4  # the index, the footer, two record batches
        assert len(batch_files(cache)) == 2


def test_much_of_a_shard_is_fetched_as_the_shard(plain: Path, cache: Path) -> None:
    with serve(plain) as server:
        dataset = StreamingDataset(remote=server.url, local=cache)
        assert dataset.take(np.arange(0, NUM_SAMPLES, 8), columns=["id"]).num_rows == 20
        assert len(shard_files(cache)) == 1
        assert batch_files(cache) == []


def test_miss_after_miss_ends_in_the_shard_for_at_most_twice_its_cost(plain: Path, cache: Path) -> None:
    size = read_index(plain).shard(0).file_bytes
    dataset = StreamingDataset(remote=plain, local=cache)
    for number in range(0, NUM_SAMPLES, 8):
        assert_is_row(dataset[number], number)
    assert len(shard_files(cache)) == 1
    assert 1 < len(batch_files(cache)) < 10
    assert size < dataset.cost().num_bytes < 2 * size


def test_a_small_shard_is_fetched_at_once(tmp_path: Path, cache: Path) -> None:
    remote = write_samples(tmp_path / "remote", 100)
    with serve(remote) as server:
        assert StreamingDataset(remote=server.url, local=cache)[0]["id"] == 0
        assert server.asked == ["index.json", "shard.00000.arrow"]


@pytest.mark.parametrize(("random_access", "shards", "batches"), [("shard", 1, 0), ("record_batch", 0, 20)])
def test_the_choice_can_be_made(plain: Path, cache: Path, random_access: str, shards: int, batches: int) -> None:
    dataset = StreamingDataset(remote=plain, local=cache, random_access=random_access)
    rows = read_index(plain).shard(0).rows_per_batch
    for number in itertools.islice(range(0, NUM_SAMPLES, rows), 20):
        assert_is_row(dataset[number], number)
    assert (len(shard_files(cache)), len(batch_files(cache))) == (shards, min(batches, -(-NUM_SAMPLES // rows)))
    assert temporaries(cache) == []


def test_another_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="'batch', expected one of auto, shard, record_batch"):
        StreamingDataset(local="anywhere", random_access="batch")


def test_an_iteration_fetches_whole_shards(plain: Path, cache: Path) -> None:
    dataset = StreamingDataset(remote=plain, local=cache)
    assert_is_row(dataset[77], 77)
    assert [sample["id"] for sample in dataset] == list(range(NUM_SAMPLES))
    assert len(shard_files(cache)) == 1


# Verified -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_a_flipped_byte_in_a_range_is_noticed(
    kind: str, tmp_path: Path, cache: Path, request: pytest.FixtureRequest
) -> None:
    good = request.getfixturevalue(kind)
    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "index.json").write_bytes((good / "index.json").read_bytes())
    damaged = bytearray((good / "shard.00000.arrow").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (remote / "shard.00000.arrow").write_bytes(damaged)
    dataset = StreamingDataset(remote=remote, local=cache, random_access="record_batch")
    rows = read_index(remote).shard(0).rows_per_batch
    where = (good / "shard.00000.arrow").stat().st_size // 2
    table = ipc.batch_table(ipc.open_file(good / "shard.00000.arrow").schema)
    (hit,) = (number for number, (offset, length, _) in enumerate(table) if offset <= where < offset + length)
    with pytest.raises(CorruptShardError, match=f"record batch {hit}: its xxh3_64 is"):
        dataset[hit * rows]
    for number in range(0, NUM_SAMPLES, rows):
        if number != hit * rows:
            assert_is_row(dataset[number], number)


def test_a_footer_that_does_not_vouch_for_itself_means_the_shard(plain: Path, tmp_path: Path, cache: Path) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "index.json").write_bytes((plain / "index.json").read_bytes())
    contents = bytearray((plain / "shard.00000.arrow").read_bytes())
    place = contents.rindex(b"arrowstream.batches")
    for digit in (place - 60, place + 60):
        contents[digit] ^= 1
    (remote / "shard.00000.arrow").write_bytes(contents)
    with pytest.raises(CorruptShardError, match=r"its xxh3_64 is .*, the index says"):
        StreamingDataset(remote=remote, local=cache, random_access="record_batch")[77]


def test_a_damaged_file_of_a_record_batch_is_fetched_again(plain: Path, cache: Path) -> None:
    assert_is_row(StreamingDataset(remote=plain, local=cache)[77], 77)
    (file,) = batch_files(cache)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    assert_is_row(StreamingDataset(remote=plain, local=cache)[77], 77)


def test_record_batches_count_and_go_like_shards(plain: Path, cache: Path) -> None:
    limit = 4 << 20
    dataset = StreamingDataset(remote=plain, local=cache, cache_limit=limit, random_access="record_batch")
    rows = read_index(plain).shard(0).rows_per_batch
    for number in range(0, NUM_SAMPLES, rows):
        assert_is_row(dataset[number], number)
        assert sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) <= limit
    assert 1 < len(batch_files(cache)) < 5


def test_columns_with_dictionaries_are_fetched_with_their_shard(tmp_path: Path, cache: Path) -> None:
    table = pa.table(
        {
            "word": pa.array([f"w{n % 5}" for n in range(40)]).dictionary_encode(),
            "fill": [noise(n, 1 << 18).tobytes() for n in range(40)],
        }
    )
    with MDSWriter(out=tmp_path / "remote", columns=table.schema, size_limit=None) as writer:
        for row in table.to_pylist():
            writer.write(row)
    dataset = StreamingDataset(remote=tmp_path / "remote", local=cache, random_access="record_batch")
    assert dataset[33]["word"] == "w3"
    assert len(shard_files(cache)) == 1


# What was compressed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gz", "zstd"])
@pytest.mark.parametrize("keep_zip", [False, True])
def test_what_was_compressed_is_kept_if_that_is_wanted(
    tmp_path: Path, cache: Path, compression: str, keep_zip: bool
) -> None:
    remote = write_samples(tmp_path / "remote", 100, compression=compression)
    names = sorted(path.name for path in shard_files(remote))

    def read() -> list[int]:
        return [sample["id"] for sample in StreamingDataset(remote=server.url, local=cache, keep_zip=keep_zip)]

    with serve(remote) as server:
        assert read() == list(range(100))
        kept = sorted(
            path.name for path in cache.rglob("shard.*") if path.is_file() and path.read_bytes()[:6] != b"ARROW1"
        )
        if compression == "gz":
            assert kept == (names if keep_zip else [])
        for path in cache.glob("shard.*.arrow"):
            path.unlink()
        assert read() == list(range(100))
        asked = [name for name in server.asked if name != "index.json"]
        assert sorted(asked) == sorted(names * (1 if keep_zip else 2))
        for path in [*cache.glob("shard.*.gz"), *cache.glob(".arrowstream/transport/*")]:
            path.write_bytes(path.read_bytes()[:-1] + b"!")
        for path in cache.glob("shard.*.arrow"):
            path.unlink()
        assert read() == list(range(100))  # what is damaged is fetched again
    assert temporaries(cache) == []


def test_two_shards_that_would_lie_in_one_file_are_refused(tmp_path: Path, cache: Path) -> None:
    from arrowstream.errors import IndexFormatError

    remote = write_samples(tmp_path / "remote", 100, compression="gz")
    index = (remote / "index.json").read_text().replace("shard.00001.arrow.gz", "shard.00000.arrow")
    (remote / "index.json").write_text(index)
    with pytest.raises(IndexFormatError, match=r"both 'shard\.00000\.arrow' once they are unpacked"):
        StreamingDataset(remote=remote, local=cache)[0]
