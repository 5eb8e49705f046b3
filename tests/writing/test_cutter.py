"""Where shards end: no row is lost or moved, and no file is larger than it may be."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream import ipc
from arrowstream.ipc import BATCH_BYTES
from arrowstream.writer.cutter import ShardCutter

SCHEMA = pa.schema(
    {
        "small": pa.int8(),
        "flag": pa.bool_(),
        "text": pa.string(),
        "list": pa.list_(pa.int16()),
        "struct": pa.struct({"a": pa.float64(), "b": pa.binary()}),
        "tensor": pa.fixed_shape_tensor(pa.float32(), [2, 2]),
    }
)
WORDS = ["", "word", "a longer text " * 20, "x" * 5000]


def _cut(schema: pa.Schema, limit: int | None, chunks: Sequence[pa.RecordBatch]) -> list[list[pa.RecordBatch]]:
    cutter = ShardCutter(schema, limit)
    shards = [shard for chunk in chunks for shard in cutter.add(chunk)]
    last = cutter.finish()
    return [*shards, last] if last else shards


def _file_bytes(schema: pa.Schema, shard: list[pa.RecordBatch]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        ipc.write_file(path, schema, shard)
        return path.stat().st_size


def _rows(first: int, count: int, words: Sequence[str | None], with_nulls: bool) -> pa.RecordBatch:
    numbers = range(first, first + count)
    text = [words[number % len(words)] for number in numbers]
    null = [with_nulls and number % 3 == 0 for number in numbers]

    def column(values: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array([None if missing else value for value, missing in zip(values, null, strict=True)], kind)

    tensors = column([[number] * 4 for number in numbers], pa.list_(pa.float32(), 4))
    return pa.record_batch(
        [
            column([number % 100 for number in numbers], pa.int8()),
            column([number % 2 == 0 for number in numbers], pa.bool_()),
            pa.array(text, pa.string()),
            column([list(range(number % 5)) for number in numbers], pa.list_(pa.int16())),
            column([{"a": number, "b": b"1" * (number % 9)} for number in numbers], SCHEMA.field("struct").type),
            pa.ExtensionArray.from_storage(SCHEMA.field("tensor").type, tensors),
        ],
        schema=SCHEMA,
    )


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(0, 300), max_size=8),
    words=st.lists(st.sampled_from([*WORDS, None]), min_size=1, max_size=6),
    limit=st.one_of(st.none(), st.integers(1, 200_000)),
    nulls=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_any_chunking_keeps_the_rows_and_the_limit(
    counts: list[int], words: list[str | None], limit: int | None, nulls: list[bool]
) -> None:
    starts = np.cumsum([0, *counts]).tolist()
    chunks = [
        _rows(start, count, words, null)
        for start, count, null in zip(starts[:-1], counts, nulls[: len(counts)], strict=True)
    ]
    shards = _cut(SCHEMA, limit, chunks)
    given_rows = pa.Table.from_batches(chunks, SCHEMA)
    assert pa.Table.from_batches([batch for shard in shards for batch in shard], SCHEMA).equals(given_rows)
    for shard in shards:
        rows = [batch.num_rows for batch in shard]
        assert set(rows[:-1]) <= {rows[0]}
        assert 0 < rows[-1] <= rows[0]
        assert limit is None or sum(rows) == 1 or _file_bytes(SCHEMA, shard) <= limit
    if limit is None:
        assert len(shards) == (1 if sum(counts) else 0)


def test_a_null_here_and_there_does_not_break_the_limit() -> None:
    # Joined with one null, the rows beside it take a validity bitmap: an eighth more for a column of bytes.
    schema = pa.schema({"a": pa.int8()})
    full = pa.record_batch([pa.array(np.ones(8191, np.int8))], schema=schema)
    null = pa.record_batch([pa.array([None], pa.int8())], schema=schema)
    shards = _cut(schema, 1 << 20, [full, null] * 200)
    assert len(shards) == 2
    assert max(_file_bytes(schema, shard) for shard in shards) <= 1 << 20


@pytest.mark.parametrize("rows_per_chunk", [1, 7, 1000, 100_000])
def test_record_batches_hold_about_a_mebibyte(rows_per_chunk: int) -> None:
    schema = pa.schema({"a": pa.binary(1000)})
    size = 20_000 if rows_per_chunk > 1 else 5_000
    column = pa.array([bytes(1000)] * size, pa.binary(1000))
    whole = pa.record_batch([column], schema=schema)
    chunks = [whole.slice(start, rows_per_chunk) for start in range(0, size, rows_per_chunk)]
    (shard,) = _cut(schema, None, chunks)
    assert all(BATCH_BYTES * 0.75 < batch.nbytes < BATCH_BYTES * 1.25 for batch in shard[:-1])
    assert size * 1000 / (1.25 * BATCH_BYTES) < len(shard) < size * 1000 / (0.75 * BATCH_BYTES) + 1


def test_a_limit_is_made_use_of() -> None:
    schema = pa.schema({"a": pa.int64(), "b": pa.string()})
    chunk = pa.record_batch(
        [pa.array(range(100_000)), pa.array(["some text of no great length"] * 100_000)], schema=schema
    )
    shards = _cut(schema, 1 << 20, [chunk])
    assert all(_file_bytes(schema, shard) > 0.95 * (1 << 20) for shard in shards[:-1])


def test_a_sample_larger_than_a_shard_has_one_of_its_own() -> None:
    schema = pa.schema({"a": pa.binary()})
    chunk = pa.record_batch(
        [pa.array([b"1", bytes(100_000), b"2", b"3", bytes(100_000), bytes(100_000)])], schema=schema
    )
    shards = _cut(schema, 50_000, [chunk])
    assert [[batch.num_rows for batch in shard] for shard in shards] == [[1], [1], [2], [1], [1]]


def test_nothing_in_gives_nothing_out() -> None:
    cutter = ShardCutter(SCHEMA, 1000)
    assert list(cutter.add(_rows(0, 0, WORDS, False))) == []
    assert cutter.finish() == []
    assert cutter.finish() == []


def test_a_large_dictionary_is_not_written_with_every_shard() -> None:
    words = pa.array([f"word number {number}" for number in range(50_000)])
    dictionary_bytes = words.nbytes
    column = pa.DictionaryArray.from_arrays(pa.array(range(50_000), pa.int32()), words)
    chunk = pa.record_batch({"word": column})
    shards = _cut(chunk.schema, dictionary_bytes // 4, [chunk])
    assert 4 <= len(shards) < 16
    read = [word for shard in shards for batch in shard for word in batch.column("word").to_pylist()]
    assert read == words.to_pylist()


def test_an_ordered_dictionary_keeps_its_order() -> None:
    kind = pa.dictionary(pa.int32(), pa.string(), ordered=True)
    sizes = pa.array(["small", "medium", "large", "huge"])
    column = pa.DictionaryArray.from_arrays(pa.array([3, None, 0, 2], pa.int32()), sizes, ordered=True)
    [[batch]] = _cut(pa.schema({"size": kind}), None, [pa.record_batch([column], schema=pa.schema({"size": kind}))])
    written = batch.column("size")
    assert written.to_pylist() == ["huge", None, "small", "large"]
    assert written.type == kind
    assert written.dictionary.to_pylist() == ["small", "large", "huge"]
