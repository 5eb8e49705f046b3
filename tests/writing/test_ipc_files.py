"""The files themselves: their table of record batches is true, and any Arrow tool opens them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from arrowstream import ipc
from arrowstream.errors import CorruptShardError, MissingShardError
from tests.writing.directories import run_python


def _batches(*, num_batches: int = 3) -> list[pa.RecordBatch]:
    rng = np.random.default_rng(0)
    return [
        pa.record_batch(
            {
                "id": pa.array(range(100)),
                "text": pa.array([f"row {number} of {rows}" * 3 for number in range(100)]),
                "maybe": pa.array([None if number % 3 else number / 7 for number in range(100)]),
                "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(rng.random((100, 2, 3), np.float32)),
                "nested": pa.array([{"a": [number] * (number % 4)} for number in range(100)]),
            }
        ).slice(0, rows)
        for rows in [*[100] * (num_batches - 1), 42]
    ]


def _table_of(path: Path) -> list[tuple[int, int, str]]:
    digits = pa.ipc.open_file(str(path)).schema.metadata[b"arrowstream.batches"].decode()
    entries = [digits[place : place + 40] for place in range(0, len(digits), 40)]
    return [(int(entry[:12], 16), int(entry[12:24], 16), entry[24:]) for entry in entries]


@pytest.mark.parametrize(("codec", "level"), [(None, None), ("zstd", 3), ("zstd", 19), ("lz4", None)])
@pytest.mark.parametrize("num_batches", [1, 3])
def test_the_table_of_batches_is_true(tmp_path: Path, codec: str | None, level: int | None, num_batches: int) -> None:
    batches = _batches(num_batches=num_batches)
    path = tmp_path / "shard"
    ipc.write_file(path, batches[0].schema, batches, codec=codec, level=level)
    content = path.read_bytes()
    table = _table_of(path)
    assert len(table) == len(batches)
    for (offset, length, digest), batch in zip(table, batches, strict=True):
        message = content[offset : offset + length]
        assert xxhash.xxh3_64_hexdigest(message) == digest
        assert pa.ipc.read_record_batch(pa.py_buffer(message), batch.schema).equals(batch)
    metadata = pa.ipc.open_file(str(path)).schema.metadata
    assert metadata[b"arrowstream.rows_per_batch"] == str(batches[0].num_rows).encode()


def test_the_front_and_the_footer_say_the_same(tmp_path: Path) -> None:
    batches = _batches()
    path = tmp_path / "shard"
    content = ipc.write_file(path, batches[0].schema, batches)
    with path.open("rb") as file:
        file.seek(8)  # behind the magic number, the file is a stream
        stream = pa.ipc.open_stream(file).schema
    assert stream.equals(pa.ipc.open_file(str(path)).schema, check_metadata=True)
    assert stream.metadata[b"arrowstream.content"].decode() == content


def test_the_same_rows_have_the_same_identity_and_others_another(tmp_path: Path) -> None:
    batches = _batches()
    schema = batches[0].schema
    first = ipc.write_file(tmp_path / "1", schema, batches)
    assert ipc.write_file(tmp_path / "2", schema, batches) == first
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert ipc.write_file(tmp_path / "3", schema, batches[:2]) != first
    renamed = [batch.rename_columns([f"{name}_" for name in schema.names]) for batch in batches]
    assert ipc.write_file(tmp_path / "4", renamed[0].schema, renamed) != first


@pytest.mark.parametrize(("codec", "level"), [(None, None), ("zstd", 3), ("lz4", None)])
def test_uncompressing_keeps_rows_batches_and_identity(tmp_path: Path, codec: str | None, level: int | None) -> None:
    batches = _batches()
    packed, plain = tmp_path / "packed", tmp_path / "plain"
    content = ipc.write_file(packed, batches[0].schema, batches, codec=codec, level=level)
    ipc.uncompress(packed, plain, content)
    reader = ipc.open_file(plain)
    assert [reader.get_batch(number) for number in range(reader.num_record_batches)] == batches
    assert ipc.content_of(reader.schema) == content
    assert plain.stat().st_size == ipc.file_bytes(batches[0].schema, batches)
    before = pa.total_allocated_bytes()
    column = reader.get_batch(0).column("text")
    assert column.to_pylist() == batches[0].column("text").to_pylist()
    assert pa.total_allocated_bytes() == before  # mapped, not decompressed
    for offset, length, digest in _table_of(plain):
        assert xxhash.xxh3_64_hexdigest(plain.read_bytes()[offset : offset + length]) == digest


def _dictionary(values: list[str], indices: list[int | None]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(values, pa.string()))


def _nested(dictionary: pa.DictionaryArray) -> pa.RecordBatch:
    struct = pa.StructArray.from_arrays([dictionary], names=["inner"])
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 1, 3], pa.int32()), dictionary)
    return pa.record_batch({"plain": dictionary, "struct": struct, "list": lists})


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_batches_with_different_dictionaries_become_one_file(tmp_path: Path, codec: str | None) -> None:
    batches = [
        _nested(_dictionary(["red", "green"], [0, None, 1])),
        _nested(_dictionary(["blue", "red"], [0, 1, 0])),
        _nested(_dictionary([], [None, None, None])),
    ]
    path, plain = tmp_path / "shard", tmp_path / "plain"
    content = ipc.write_file(path, batches[0].schema, batches, codec=codec)
    ipc.uncompress(path, plain, content)
    expected = [row for batch in batches for row in batch.to_pylist()]
    for file in (path, plain):
        read = pa.ipc.open_file(str(file)).read_all()
        assert read.to_pylist() == expected
        assert read.schema.types == batches[0].schema.types
    assert plain.stat().st_size == ipc.file_bytes(batches[0].schema, batches)


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_a_file_without_batches_is_a_file(tmp_path: Path, codec: str | None) -> None:
    schema = _batches()[0].schema
    path, plain = tmp_path / "shard", tmp_path / "plain"
    content = ipc.write_file(path, schema, [], codec=codec)
    assert len(content) == 16
    ipc.uncompress(path, plain, content)
    for file in (path, plain):
        reader = ipc.open_file(file)
        assert (reader.num_record_batches, reader.schema.remove_metadata()) == (0, schema)
        assert ipc.content_of(reader.schema) == content
        ipc.validate(reader, file, 0)


def test_what_was_written_before_in_the_metadata_is_replaced(tmp_path: Path) -> None:
    batches = _batches()
    old = {b"arrowstream.content": b"of another file", b"arrowstream.batches": b"also", b"mine": b"kept"}
    path = tmp_path / "shard"
    content = ipc.write_file(path, batches[0].schema.with_metadata(old), batches)
    metadata = pa.ipc.open_file(str(path)).schema.metadata
    assert metadata[b"arrowstream.content"].decode() == content
    assert len(_table_of(path)) == 3
    assert metadata[b"mine"] == b"kept"


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    batches = _batches(num_batches=1)
    path = tmp_path / "shard"
    ipc.write_file(path, batches[0].schema, batches)
    content = path.read_bytes()
    for length in [0, 1, 7, 8, len(content) // 2, *range(len(content) - 20, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(CorruptShardError, match=f"{length} bytes that are no whole Arrow IPC file"):
            ipc.open_file(path)
    path.unlink()
    with pytest.raises(MissingShardError, match="shard: does not exist"):
        ipc.open_file(path)


READERS = {
    "pyarrow": "import pyarrow as pa; rows = pa.ipc.open_file(pa.OSFile(path)).read_all()['id'].to_pylist()",
    "polars": "import polars as pl; rows = pl.scan_ipc(path, glob=False).select('id').collect()['id'].to_list()",
    "duckdb": (
        "import duckdb, pyarrow.dataset as ds; shard = ds.dataset(path, format='ipc')\n"
        "rows = [row for row, in duckdb.sql('select id from shard').fetchall()]"
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("codec", [None, "zstd", "lz4"])
def test_other_tools_open_a_shard_without_arrowstream(tmp_path: Path, reader: str, codec: str | None) -> None:
    batches = _batches()
    path = tmp_path / "shard.arrow"
    ipc.write_file(path, batches[0].schema, batches, codec=codec)
    code = f"import sys; path = sys.argv[1]\n{READERS[reader]}\nassert 'arrowstream' not in sys.modules\nprint(rows)"
    expected = [row for batch in batches for row in batch["id"].to_pylist()]
    assert run_python(code, path).strip() == str(expected)
