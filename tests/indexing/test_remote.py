"""Files in a bucket are indexed by ranges of them, and streamed from there."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream import StreamingDataset, index_files
from arrowstream.errors import RemoteNotFoundError
from arrowstream.format import Description
from arrowstream.registry import load_format
from arrowstream.storage import RangedFile, Storage
from tests.servers import S3Server


def fill(s3: S3Server, prefix: str, num_files: int, rows: int = 50) -> None:
    files = s3fs.S3FileSystem(skip_instance_cache=True, **s3.options)
    for number in range(num_files):
        sink = io.BytesIO()
        ids = np.arange(number * rows, (number + 1) * rows)
        noise = np.random.default_rng(number).bytes(rows * 4000)
        ballast = [noise[4000 * row : 4000 * (row + 1)] for row in range(rows)]
        pq.write_table(pa.table({"id": ids, "ballast": ballast}), sink)
        files.pipe_file(f"{prefix}/part-{number}.parquet", sink.getvalue())


def test_a_bucket_is_indexed_and_streamed(s3: S3Server, tmp_path: Path) -> None:
    prefix = s3.new_prefix()
    fill(s3, prefix, 12)
    with pytest.raises(RemoteNotFoundError, match=f"12 .parquet files.*arrowstream index {prefix}"):
        StreamingDataset(remote=prefix, local=tmp_path / "a", storage_options=s3.options)[0]
    index = index_files(prefix, storage_options=s3.options)
    assert index.num_samples == 600
    dataset = StreamingDataset(remote=prefix, local=tmp_path / "a", storage_options=s3.options)
    assert [int(sample["id"]) for sample in dataset] == list(range(600))


def test_the_index_of_a_bucket_may_lie_elsewhere(s3: S3Server, tmp_path: Path) -> None:
    prefix = s3.new_prefix()
    fill(s3, prefix, 3)
    index_files(f"{prefix}/", out=tmp_path / "cache", columns=["id"], storage_options=s3.options)
    assert not Storage(prefix, options=s3.options).exists("index.json")
    dataset = StreamingDataset(remote=prefix, local=tmp_path / "cache", storage_options=s3.options)
    assert [sample["id"] for sample in dataset] == list(range(150))


def test_a_listing_tells_lengths_and_versions(s3: S3Server) -> None:
    prefix = s3.new_prefix()
    storage = Storage(prefix, options=s3.options)
    storage.write("a/b", b"12345")
    storage.write("c", b"")
    first = storage.entries()
    assert [(entry.key, entry.num_bytes) for entry in first] == [("a/b", 5), ("c", 0)]
    assert all(entry.version for entry in first)
    storage.write("a/b", b"54321")
    assert storage.entries()[0].version != first[0].version
    assert storage.entries()[1] == first[1]


def test_a_footer_costs_one_request_and_a_long_one_two(tmp_path: Path) -> None:
    def describe(table: pa.Table) -> tuple[Description, int]:
        pq.write_table(table, tmp_path / "file.parquet")
        file = RangedFile(Storage(tmp_path), "file.parquet", (tmp_path / "file.parquet").stat().st_size)
        return load_format("parquet").describe(file, {}), file.num_requests

    noise = np.random.default_rng(0)
    narrow, requests = describe(pa.table({"x": noise.random(1_000_000)}))
    assert (narrow.num_samples, requests) == (1_000_000, 1)
    wide, requests = describe(pa.table({f"column {number}": noise.random(500) for number in range(1500)}))
    assert (len(wide.columns), requests) == (1500, 2)


def test_text_is_read_once_in_large_ranges(tmp_path: Path) -> None:
    contents = os.urandom(20 << 20)
    (tmp_path / "file").write_bytes(contents)
    file = RangedFile(Storage(tmp_path), "file", len(contents))
    parts = list(iter(lambda: file.read(100_000), b""))
    assert b"".join(parts) == contents
    assert file.num_requests <= 8
    assert file.digest == xxhash.xxh3_64_hexdigest(contents)


@given(
    num_bytes=st.integers(0, 400_000),
    steps=st.lists(st.tuples(st.sampled_from(["seek", "read", "end"]), st.integers(0, 450_000)), max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_it_reads_as_a_file_of_this_machine_does(
    tmp_path_factory: pytest.TempPathFactory, num_bytes: int, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("ranged")
    contents = np.random.default_rng(num_bytes).bytes(num_bytes)
    (folder / "file").write_bytes(contents)
    near, far = io.BytesIO(contents), RangedFile(Storage(folder), "file", num_bytes)
    for step, amount in steps:
        if step == "read":
            assert far.read(amount) == near.read(amount)
        elif step == "seek":
            assert far.seek(amount) == near.seek(amount)
        else:
            assert far.seek(-min(amount, num_bytes), os.SEEK_END) == near.seek(-min(amount, num_bytes), os.SEEK_END)
        assert far.tell() == near.tell()
    assert far.digest in (None, xxhash.xxh3_64_hexdigest(contents))
