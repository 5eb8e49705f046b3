"""A stream of record batches of any sizes becomes a file with record batches of one size, in little memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream import ipc
from arrowstream.errors import CorruptShardError


def batch(values: np.ndarray, width: int = 8) -> pa.RecordBatch:
    return pa.record_batch({"n": values, "bytes": pa.array([b"x" * width] * len(values), pa.binary())})


def written(path: Path, num_rows: int) -> pa.ipc.RecordBatchFileReader:
    reader = ipc.open_file(path)
    ipc.validate(reader, path, num_rows)
    assert ipc.content_of(reader.schema) == "c" * 16
    for number in range(reader.num_record_batches):
        ipc.check_batch(path, reader.schema, number)
    assert reader.read_all().column("n").to_pylist() == list(range(num_rows))
    return reader


@given(
    sizes=st.lists(st.integers(0, 5000), max_size=8),
    width=st.sampled_from([0, 100, 3000]),
    extra=st.sampled_from([0, 0, 0, -1, 1]),
)
@settings(max_examples=30, deadline=None)
def test_any_stream_is_cut_anew_and_counted(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], width: int, extra: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "file"
    num_rows, starts = sum(sizes), np.cumsum([0, *sizes])
    batches = [batch(np.arange(start, start + size), width) for start, size in zip(starts[:-1], sizes, strict=True)]
    schema = batch(np.arange(0)).schema
    claimed = max(num_rows + extra, 0)
    if claimed != num_rows:
        with pytest.raises(CorruptShardError, match=str(claimed)):
            ipc.write_batches(path, schema, batches, num_rows=claimed, content="c" * 16)
        return
    ipc.write_batches(path, schema, batches, num_rows=num_rows, content="c" * 16)
    reader = written(path, num_rows)
    assert ipc.rows_per_batch_of(reader.schema) == (reader.get_batch(0).num_rows if num_rows else 0)
    if sum(each.nbytes for each in batches) > 4 * ipc.BATCH_BYTES:
        assert 0.5 <= reader.get_batch(0).nbytes / ipc.BATCH_BYTES <= 2


def test_rows_that_become_a_thousand_times_larger_are_cut_smaller(tmp_path: Path) -> None:
    def rows() -> Iterator[pa.RecordBatch]:
        for start in range(0, 400_000, 50_000):
            yield batch(np.arange(start, start + 50_000), 4)
        for start in range(400_000, 401_000, 50):
            yield batch(np.arange(start, start + 50), 100_000)

    path = tmp_path / "file"
    before = pa.total_allocated_bytes()
    ipc.write_batches(path, batch(np.arange(0)).schema, rows(), num_rows=401_000, content="c" * 16)
    assert pa.total_allocated_bytes() - before < 1 << 20
    reader = written(path, 401_000)
    assert max(reader.get_batch(number).nbytes for number in range(reader.num_record_batches)) <= 64 << 20


def test_one_huge_row_among_small_ones_does_not_make_all_record_batches_tiny(tmp_path: Path) -> None:
    widths = [1000] * 9000 + [40 << 20] + [1000] * 9000
    rows = (
        pa.record_batch({"n": [number], "bytes": pa.array([b"x" * width], pa.binary())})
        for number, width in enumerate(widths)
    )
    path = tmp_path / "file"
    ipc.write_batches(path, batch(np.arange(0)).schema, rows, num_rows=len(widths), content="c" * 16)
    assert ipc.rows_per_batch_of(written(path, len(widths)).schema) >= 16


def test_record_batches_share_one_dictionary(tmp_path: Path) -> None:
    batches = [
        pa.record_batch({"n": np.arange(start, start + 3), "w": pa.array(words).dictionary_encode()})
        for start, words in ((0, ["a", "b", "a"]), (3, ["c", "a", "c"]))
    ]
    path = tmp_path / "file"
    ipc.write_batches(path, batches[0].schema, batches, num_rows=6, content="c" * 16)
    assert written(path, 6).read_all().column("w").to_pylist() == ["a", "b", "a", "c", "a", "c"]


def test_an_absurd_number_of_rows_takes_no_memory(tmp_path: Path) -> None:
    rows = [batch(np.arange(start, start + 1000), 1000) for start in range(0, 10_000, 1000)]
    with pytest.raises(CorruptShardError, match="more than a shard can have"):
        ipc.write_batches(tmp_path / "file", rows[0].schema, rows, num_rows=2**60, content="c" * 16)
