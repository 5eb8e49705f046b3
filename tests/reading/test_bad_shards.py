"""Shards that are damaged, missing or not what the index says: a named error, which file, what was expected."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from arrowstream import MDSWriter, StreamingDataset, ipc
from arrowstream.columns import parse_encoding
from arrowstream.errors import (
    ArrowStreamError,
    CorruptShardError,
    MissingShardError,
    StorageError,
    UnknownEncodingError,
    UnknownFormatError,
    UnsafeTypeError,
)
from tests.reading.datasets import (
    COLUMNS,
    assert_is_sample,
    deliver,
    ids,
    sample,
    shard_files,
    temporaries,
    write_by_hand,
    write_samples,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

NUM_SAMPLES = 100
#: Reading where the files are, and by way of a cache.
WAYS = ["in-place", "cached"]


def open_dataset(data: Path, way: str, **arguments: Any) -> StreamingDataset:
    if way == "in-place":
        return StreamingDataset(local=data, **arguments)
    return StreamingDataset(remote=data, local=data.parent / "cache", **arguments)


def assert_fails(
    data: Path, way: str, error: type[ArrowStreamError], *words: str, number: int = NUM_SAMPLES - 1
) -> None:
    """Reading the sample fails, and so does every way to read the whole, in this process and in a loader's workers."""
    dataset = open_dataset(data, way, batch_size=8)
    with pytest.raises(error) as caught:
        dataset[number]
    for word in words:
        assert word in str(caught.value)
    with pytest.raises(error):
        list(open_dataset(data, way))
    delivered = []
    with pytest.raises(error) as caught:
        delivered.extend(deliver(DataLoader(dataset, batch_size=8, num_workers=2, multiprocessing_context="fork")))
    for word in words:
        assert word in str(caught.value)
    assert number not in ids(delivered)
    if way == "cached":
        assert temporaries(data.parent / "cache") == []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "data", NUM_SAMPLES)


def last_shard(data: Path) -> Path:
    return shard_files(data)[-1]


def change_index(data: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = data / "index.json"
    tree = json.loads(path.read_text())
    change(tree["groups"][0])
    path.write_text(json.dumps(tree))


# Bytes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 12, 0.25, 0.5, 0.9, -20, -10, -8, -1])
def test_a_shard_that_was_cut_off_is_refused_in_place(data: Path, kept: float) -> None:
    path = last_shard(data)
    contents = path.read_bytes()
    path.write_bytes(contents[: int(kept * len(contents)) if isinstance(kept, float) else kept or None if kept else 0])
    with pytest.raises(CorruptShardError) as caught:
        open_dataset(data, "in-place")[NUM_SAMPLES - 1]
    for word in (str(path), f"{path.stat().st_size} bytes", "no whole Arrow IPC file"):
        assert word in str(caught.value)


def test_a_shard_that_was_cut_off_ends_every_epoch(data: Path) -> None:
    path = last_shard(data)
    path.write_bytes(path.read_bytes()[:-1])
    assert_fails(data, "in-place", CorruptShardError, str(path), "no whole Arrow IPC file")


@pytest.mark.parametrize("kept", [0, 0.5, -1])
def test_a_remote_shard_that_was_cut_off_is_refused(data: Path, kept: float) -> None:
    path = last_shard(data)
    contents = path.read_bytes()
    path.write_bytes(contents[: int(kept * len(contents)) if kept >= 0 else -1])
    found, expected = path.stat().st_size, len(contents)
    assert_fails(data, "cached", StorageError, str(path), f"{found} bytes", f"expected {expected}", "upload it again")


@pytest.mark.parametrize("place", [0, 0.1, 0.5, 0.9, -1])
@pytest.mark.parametrize("compression", [None, "zstd", "gz"])
def test_a_flipped_byte_does_not_enter_the_cache(tmp_path: Path, place: float, compression: str | None) -> None:
    data = write_samples(tmp_path / "data", NUM_SAMPLES, compression=compression)
    path = last_shard(data)
    contents = bytearray(path.read_bytes())
    contents[int(place * len(contents)) if place >= 0 else -1] ^= 1
    path.write_bytes(contents)
    with pytest.raises(CorruptShardError) as caught:
        open_dataset(data, "cached")[NUM_SAMPLES - 1]
    assert re.search(r"its xxh3_64 is [0-9a-f]{16}, the index says [0-9a-f]{16}", str(caught.value))
    assert str(path) in str(caught.value)
    assert "write it again" in str(caught.value)
    assert not (tmp_path / "cache" / "shard.00000.arrow").exists()
    assert temporaries(tmp_path / "cache") == []


def test_a_flipped_byte_ends_every_epoch(data: Path) -> None:
    path = last_shard(data)
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    assert_fails(data, "cached", CorruptShardError, str(path), "xxh3_64")


def test_the_hash_that_was_asked_for_is_checked(tmp_path: Path) -> None:
    data = write_samples(tmp_path / "data", NUM_SAMPLES, hashes=["sha1"])
    change_index(data, lambda group: group["shards"]["hashes"]["sha1"].__setitem__(-1, "0" * 40))
    assert ids(open_dataset(data, "cached")) == list(range(NUM_SAMPLES))  # nobody asked for sha1
    with pytest.raises(CorruptShardError, match=f"its sha1 is [0-9a-f]{{40}}, the index says {'0' * 40}"):
        StreamingDataset(remote=data, local=tmp_path / "other", validate_hash="sha1")[NUM_SAMPLES - 1]


def test_a_hash_that_was_not_written_is_named(data: Path, tmp_path: Path) -> None:
    dataset = StreamingDataset(remote=data, local=tmp_path / "cache", validate_hash="sha1")
    with pytest.raises(ValueError, match="validate_hash='sha1' was not written; hashes: xxh3_64"):
        dataset[0]


def renew_checksums(path: Path) -> None:
    """Make the file's own checksums of its record batches those of the damaged ones."""
    contents = path.read_bytes()
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).schema.metadata[ipc.BATCHES].decode()
    renewed = ""
    for start in range(0, len(table), 40):
        entry = table[start : start + 40]
        offset, length = int(entry[:12], 16), int(entry[12:24], 16)
        renewed += entry[:24] + xxhash.xxh3_64_hexdigest(contents[offset : offset + length])
    assert renewed != table
    path.write_bytes(contents.replace(table.encode(), renewed.encode()))


def corrupt_offsets(path: Path) -> None:
    """Let the offsets of a text column, which lie in the file as they are, point outside their text."""
    contents = path.read_bytes()
    offsets = np.arange(0, 4 * 9, 4, dtype=np.int32).tobytes()
    assert contents.count(offsets) == 1
    path.write_bytes(contents.replace(offsets, np.array([0, 4, 8, 2**30, 16, 20, 24, 28, 32], np.int32).tobytes()))
    renew_checksums(path)


def text_batch(texts: list[str]) -> tuple[pa.Schema, pa.RecordBatch]:
    schema = pa.schema([parse_encoding("str").field("text")])
    return schema, pa.record_batch([pa.array(texts)], schema=schema)


@pytest.mark.parametrize("way", WAYS)
def test_offsets_that_point_outside_are_refused_though_every_hash_is_right(tmp_path: Path, way: str) -> None:
    schema, batch = text_batch(["abcd"] * 8)
    data = write_by_hand(tmp_path / "data", schema, [batch], columns={"text": "str"}, damage=corrupt_offsets)
    with pytest.raises(CorruptShardError, match=r"shard\.00000\.arrow: .*record batch 0 is corrupt"):
        list(open_dataset(data, way))


@pytest.mark.parametrize("way", WAYS)
def test_text_that_is_not_utf_8_is_refused_though_every_hash_is_right(tmp_path: Path, way: str) -> None:
    def damage(path: Path) -> None:
        contents = path.read_bytes()
        assert contents.count(b"abcd" * 8) == 1
        path.write_bytes(contents.replace(b"abcd" * 8, b"ab\xffd" * 8))
        renew_checksums(path)

    schema, batch = text_batch(["abcd"] * 8)
    data = write_by_hand(tmp_path / "data", schema, [batch], columns={"text": "str"}, damage=damage)
    with pytest.raises(CorruptShardError, match=r"shard\.00000\.arrow: .*record batch 0 is corrupt"):
        list(open_dataset(data, way))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sizes", [[0, 8], [3, 1, 4], [2, 2, 3], [4, 3, 4], [0, 0, 5]])
def test_record_batches_of_different_sizes_are_refused(tmp_path: Path, way: str, sizes: list[int]) -> None:
    schema, _ = text_batch([])
    batches = [text_batch(["abcd"] * size)[1] for size in sizes]
    data = write_by_hand(tmp_path / "data", schema, batches, columns={"text": "str"})
    with pytest.raises(CorruptShardError, match=r"shard\.00000\.arrow: .*(not of one size|rows, the index says)"):
        list(open_dataset(data, way))


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    def damage(path: Path) -> None:
        path.write_bytes(path.read_bytes().replace(b"unlikely", b"unl\xffkely"))

    schema = pa.schema([parse_encoding("int").field("unlikely")])
    batch = pa.record_batch([pa.array([1, 2])], schema=schema)
    data = write_by_hand(tmp_path / "data", schema, [batch], columns={}, damage=damage)
    for way in WAYS:
        with pytest.raises(CorruptShardError, match=r"shard\.00000\.arrow: "):
            list(open_dataset(data, way))


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_of_the_frame_never_ends_in_a_foreign_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = write_samples(tmp_path_factory.mktemp("flipped") / "data", 4)
    (path,) = shard_files(directory)
    contents = bytearray(path.read_bytes())
    contents[data.draw(st.integers(0, len(contents) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(contents)
    refusal, found = "", []
    try:
        found = list(StreamingDataset(local=directory))
    except ArrowStreamError as error:
        refusal = str(error)
    assert str(path) in refusal or len(found) == 4


# What the index says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_shard_that_is_missing_is_named(data: Path, way: str) -> None:
    path = last_shard(data)
    path.unlink()
    assert_fails(data, way, MissingShardError, str(path), "does not exist, but the index names it")
    with pytest.raises(FileNotFoundError):
        open_dataset(data, way)[NUM_SAMPLES - 1]


def test_a_wrapped_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    data = write_samples(tmp_path / "data", NUM_SAMPLES, compression="gz")
    last_shard(data).unlink()
    with pytest.raises(MissingShardError, match=r"\.arrow\.gz: does not exist"):
        open_dataset(data, "cached")[NUM_SAMPLES - 1]


@pytest.mark.parametrize("change", [-1, 1, 10**9])
def test_a_shard_of_another_length_is_refused(data: Path, change: int) -> None:
    path = last_shard(data)
    expected = path.stat().st_size + change
    change_index(data, lambda group: group["shards"]["file_bytes"].__setitem__(-1, expected))
    with pytest.raises(StorageError, match=f"{path.name}: holds {expected - change} bytes, expected {expected}"):
        open_dataset(data, "cached")[NUM_SAMPLES - 1]


@pytest.mark.parametrize("change", [-1, 1, 2**40])
def test_a_wrapped_shard_that_unpacks_to_another_length_is_refused(tmp_path: Path, change: int) -> None:
    data = write_samples(tmp_path / "data", NUM_SAMPLES, compression="gz")

    def add(group: dict[str, Any]) -> None:
        group["shards"]["raw_bytes"][-1] += change

    change_index(data, add)
    with pytest.raises(CorruptShardError, match=rf"{last_shard(data).name}: .*decompresses to .* the index says \d+"):
        open_dataset(data, "cached")[NUM_SAMPLES - 1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_a_shard_of_another_number_of_rows_is_refused(data: Path, way: str, change: int) -> None:
    counts = json.loads((data / "index.json").read_text())["groups"][0]["shards"]["samples"]
    change_index(data, lambda group: group["shards"]["samples"].__setitem__(0, counts[0] + change))
    with pytest.raises(
        CorruptShardError, match=rf"shard\.00000\.arrow: .*holds {counts[0]} rows, the index says {counts[0] + change}"
    ):
        open_dataset(data, way)[0]


@pytest.mark.parametrize("way", WAYS)
def test_a_shard_of_other_content_is_refused(data: Path, way: str) -> None:
    change_index(data, lambda group: group["shards"]["content"].__setitem__(0, "0123456789abcdef"))
    with pytest.raises(
        CorruptShardError, match=r"shard\.00000\.arrow: .*holds the content '.*', the index says '0123456789abcdef'"
    ):
        open_dataset(data, way)[0]


def test_shards_that_changed_places_are_refused(data: Path) -> None:
    first, second = shard_files(data)[:2]
    contents = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(contents)
    with pytest.raises(CorruptShardError, match="the file or the index was replaced"):
        open_dataset(data, "in-place")[0]


def test_a_format_that_is_not_installed_is_named(data: Path) -> None:
    change_index(data, lambda group: group.__setitem__("format", "hologram"))
    assert_fails(data, "cached", UnknownFormatError, "no installed format is named 'hologram'", "installed:", "mds")


# Encodings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_an_encoding_that_does_not_exist_is_named(tmp_path: Path, way: str) -> None:
    schema = pa.schema([pa.field("text", pa.string(), metadata={b"mds.encoding": b"rot13"})])
    batch = pa.record_batch([pa.array(["a"] * 100)], schema=schema)
    data = write_by_hand(tmp_path / "data", schema, [batch], columns={"text": "rot13"})
    assert_fails(data, way, UnknownEncodingError, "shard.00000.arrow", "'text'", "no encoding is named 'rot13'")


@pytest.mark.parametrize("way", WAYS)
def test_an_encoding_of_another_type_is_named(tmp_path: Path, way: str) -> None:
    schema = pa.schema([pa.field("text", pa.int64(), metadata={b"mds.encoding": b"str"})])
    batch = pa.record_batch([pa.array([1, 2])], schema=schema)
    data = write_by_hand(tmp_path / "data", schema, [batch], columns={"text": "str"})
    with pytest.raises(TypeError, match=r"shard\.00000\.arrow: column 'text': encoding 'str' is stored as string"):
        open_dataset(data, way)[0]


@pytest.mark.parametrize("way", WAYS)
def test_pickles_are_read_only_on_request(tmp_path: Path, way: str) -> None:
    with MDSWriter(out=tmp_path / "data", columns={"id": "int", "thing": "pkl"}) as writer:
        for number in range(100):
            writer.write({"id": number, "thing": {number}})
    assert_fails(
        tmp_path / "data", way, UnsafeTypeError, "shard.00000.arrow", "'thing'", "pkl", "pass allow_unsafe_types=True"
    )
    assert open_dataset(tmp_path / "data", way, allow_unsafe_types=True)[7]["thing"] == {7}


def test_what_is_refused_is_what_was_written(data: Path) -> None:
    # The other tests damage this dataset: undamaged, every way reads it.
    for way in WAYS:
        loader = DataLoader(open_dataset(data, way, batch_size=8), batch_size=8)
        assert [text for batch in loader for text in batch["text"]] == [sample(n)["text"] for n in range(NUM_SAMPLES)]
    assert COLUMNS.keys() == open_dataset(data, "in-place")[0].keys()


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_flipped_byte_in_place_is_an_error_or_changes_no_sample(tmp_path: Path, compression: str | None) -> None:
    directory = write_samples(tmp_path / "data", 20, size_limit=None, compression=compression)
    [path] = directory.glob("*.arrow")
    whole = path.read_bytes()
    refused = 0
    for place in range(8, len(whole), 37):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        dataset = StreamingDataset(local=directory)
        try:
            for number in range(20):
                assert_is_sample(dataset[number], number)
        except ArrowStreamError as error:
            refused += str(path) in str(error)
    # Most of the file are rows; the rest are the schema and the footer, of which not every byte has a meaning.
    assert refused > len(range(8, len(whole), 37)) / 2
