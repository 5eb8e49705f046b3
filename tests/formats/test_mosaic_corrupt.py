"""Shards of mosaicml-streaming that are damaged or hostile are refused, by file, row and column."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import ipc
from arrowstream.decode import Decoder
from arrowstream.errors import CorruptShardError, ShardError, UnknownEncodingError
from arrowstream.index import Shard, parse_index
from arrowstream.registry import load_format
from tests.formats.mosaic_golden import GOLDEN
from tests.golden.mosaic import values


def make_file(path: Path, *rows: bytes, config: bytes = b"{}") -> Path:
    """Write a shard by hand."""
    start = 4 + 4 * (len(rows) + 1) + len(config)
    offsets = np.cumsum([start, *map(len, rows)]).astype("<u4")
    path.write_bytes(struct.pack("<I", len(rows)) + offsets.tobytes() + config + b"".join(rows))
    return path


def read(path: Path, columns: dict[str, str], num_samples: int, **said: Any) -> pa.Table:
    """Bring a shard into a cache, as it is done on arrival."""
    shard = Shard(
        basename=path.name,
        num_samples=num_samples,
        raw_bytes=path.stat().st_size,
        file_bytes=path.stat().st_size,
        content="c",
        hashes={},
        format="mosaic",
        compression=None,
        columns=columns,
        **said,
    )
    ready = path.with_suffix(".ready")
    load_format("mosaic").transcode(path, ready, shard)
    reader = ipc.open_file(ready)
    ipc.validate(reader, ready, num_samples)
    return reader.read_all()


def one_value(encoding: str, payload: bytes) -> Callable[[Path], pa.Table]:
    """A file whose second row holds a value of varying size."""

    def open_it(path: Path) -> pa.Table:
        good = {"str": b"a", "str_int": b"1", "str_float": b"1", "str_decimal": b"1", "json": b"1"}.get(encoding)
        rows = [payload] if good is None else [good, payload]
        return read(make_file(path, *(struct.pack("<I", len(row)) + row for row in rows)), {"c": encoding}, len(rows))

    return open_it


def test_a_file_by_hand_is_read(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a.mds", struct.pack("<Iq", 2, -5) + b"hi", struct.pack("<Iq", 0, 7))
    assert read(path, {"n": "int", "s": "str"}, 2).to_pylist() == [{"n": -5, "s": "hi"}, {"n": 7, "s": ""}]


def test_columns_lie_in_the_order_that_the_index_names(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a.mds", struct.pack("<bi", 1, 2))
    said = {"options": {"column_sizes": {"b": 1, "a": 4}}}
    assert read(path, {"a": "int32", "b": "int8"}, 1, **said).to_pylist() == [{"a": 2, "b": 1}]


# The file -------------------------------------------------------------------------------------------------------------

ROWS = (struct.pack("<Iq", 2, -5) + b"hi", struct.pack("<Iq", 0, 7))
COLUMNS = {"n": "int", "s": "str"}


def patched(offset: int, *words: int) -> Callable[[bytes], bytes]:
    new = struct.pack(f"<{len(words)}I", *words)
    return lambda data: data[:offset] + new + data[offset + len(new) :]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "is 0 bytes long, too short for 2 rows"),
        (lambda data: data[:15], "is 15 bytes long, too short for 2 rows"),
        (lambda data: data[:-1], "the offsets of its rows do not rise from 16 or more to the file's 43 bytes"),
        (lambda data: data + b"x", "do not rise from 16 or more to the file's 45 bytes"),
        (patched(0, 3), "holds 3 rows, the index says 2"),
        (patched(0, 2**32 - 1), "holds 4294967295 rows, the index says 2"),
        (patched(4, 8), "do not rise from 16"),
        (patched(8, 45), "do not rise from 16"),
        (patched(8, 3), "do not rise from 16"),
        (patched(8, 31), "row 0 has values whose sizes do not add up to its own"),
        (patched(18, 3), "row 0 has values whose sizes do not add up to its own"),
        (patched(18, 2**32 - 1), "row 0 has values whose sizes do not add up to its own"),
        (patched(8, 18), "row 0 is shorter than the 4 bytes that it begins with"),
    ],
)
def test_damage_to_the_layout_is_told_with_the_file(
    damage: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    path = make_file(tmp_path / "a.mds", *ROWS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptShardError) as caught:
        read(path, COLUMNS, 2)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_sizes_that_are_not_those_of_the_encodings_are_refused(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a.mds", *ROWS)
    with pytest.raises(CorruptShardError, match=r"the index says that its values take \{'n': 4, 's': None\}"):
        read(path, COLUMNS, 2, options={"column_sizes": {"n": 4, "s": None}})


@pytest.mark.parametrize("encoding", ["jpg", "ndarray:bool", "bool", "ndarray:complex64"])
def test_encodings_that_it_does_not_have_are_refused(encoding: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownEncodingError, match=encoding):
        read(make_file(tmp_path / "a.mds", b"x"), {"c": encoding}, 1)


def test_an_index_without_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptShardError, match="the index names no columns"):
        read(make_file(tmp_path / "a.mds", b""), {}, 1)


# Values ---------------------------------------------------------------------------------------------------------------


def image(width: int, height: int, mode: bytes, num_bytes: int) -> bytes:
    return struct.pack("<III", width, height, len(mode)) + mode + bytes(num_bytes)


@pytest.mark.parametrize(
    ("encoding", "payload", "words"),
    [
        ("str", b"\xff", "row 1 of the column 'c' (str) is not UTF-8"),
        ("str_int", b"1.5", "row 1 of the column 'c' (str_int) is not a number that str_int writes, but '1.5'"),
        ("str_float", b"one", "row 1 of the column 'c' (str_float) is not a number"),
        ("str_decimal", b"", "row 1 of the column 'c' (str_decimal) is not a number"),
        ("json", b"{", "row 1 of the column 'c' (json) is not JSON"),
        ("ndarray", b"", "is shorter than the 1 bytes"),
        ("ndarray", b"\x22", "is shorter than the 1 bytes"),
        ("ndarray", b"\xff\x04\x01a", "is an array of another dtype than uint8, "),
        ("ndarray", b"\x08\x04\x02a", "is an array of another number of elements than its shape"),
        ("ndarray", b"\x08\xff", "is shorter than what it begins with says"),
        ("ndarray", b"\x08\x0b" + b"\xff" * 16, "is an array of another number of elements than its shape"),
        ("ndarray:int16", b"\x04\x01a", "is an array of another number of elements than its shape"),
        ("ndarray:int16", b"\x0b" + struct.pack("<QQ", 2**32, 0), "has a dimension beyond 2147483647"),
        ("ndarray:int16", b"\x0b" + struct.pack("<QQ", 2**63, 2), "is an array of another number of elements"),
        ("pil", b"\0" * 11, "is shorter than the 12 bytes"),
        ("pil", image(2, 2, b"L", 3), "has another number of pixels than its width and height"),
        ("pil", image(2**32 - 1, 2**32 - 1, b"RGB", 3), "has another number of pixels than its width and height"),
        ("pil", image(9, 1, b"1", 1), "has another number of pixels than its width and height"),
        ("pil", image(1, 1, b"QQ", 1), "has the mode 'QQ', which Pillow does not have"),
        ("pil", struct.pack("<III", 1, 1, 2**32 - 1), "names a mode that Pillow does not have"),
        ("pil", struct.pack("<III", 1, 1, 4) + b"R", "is shorter than what it begins with says"),
        ("list[png]", b"\0\0\0", "is shorter than what it begins with says"),
        ("list[png]", struct.pack("<II", 0, 2**32 - 1), "is shorter than what it begins with says"),
        ("list[png]", struct.pack("<III", 0, 1, 2) + b"a", "holds images whose sizes do not add up to its own"),
        ("jpegarray", struct.pack("<IIII", 3, 2**31, 2**31, 2**31), "holds images whose sizes do not add up"),
        ("list[pil]", struct.pack("<III", 0, 1, 14) + image(2, 1, b"L", 1), "holds an image that has another number"),
    ],
)
def test_values_that_are_not_what_they_claim_are_refused(
    encoding: str, payload: bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(CorruptShardError) as caught:
        one_value(encoding, payload)(tmp_path / "a.mds")
    assert str(tmp_path / "a.mds") in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("str_int", " 1_000 "), ("str_float", "Infinity"), ("str_decimal", "sNaN"), ("str_decimal", "1e5")],
)
def test_numbers_in_another_spelling_are_read_as_python_reads_them(encoding: str, text: str, tmp_path: Path) -> None:
    assert one_value(encoding, text.encode())(tmp_path / "a.mds")["c"][1].as_py() == text


# Whatever happens to the bytes ----------------------------------------------------------------------------------------

# What images and pickles hold is looked at when they are decoded, by Pillow and by whoever trusts the pickle.
OPAQUE = {"jpeg", "png", "jpegarray", "list[jpeg]", "list[png]", "pkl"}


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits, cut, repeat a stretch, or splice extreme lengths into a file, most often near its front."""
    new = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place = min(int(rng.exponential(len(new) / 8)), len(new) - 4)
        kind = rng.integers(5)
        if kind == 0:
            new[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            new = new[: max(place, 4)]
        elif kind == 2:
            new[place:place] = new[place : place + int(rng.integers(1, 9))]
        else:
            word = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(new), int(rng.integers(2**32))]))
            new[place : place + 4] = struct.pack("<I", word)
    return bytes(new)


@pytest.mark.parametrize("seed", range(6))
def test_mutated_shards_are_read_or_refused_by_name(seed: int, tmp_path: Path) -> None:
    index = parse_index((GOLDEN / "none" / "index.json").read_bytes(), "index.json")
    shard = index.shard(seed % 2)
    data = (GOLDEN / "none" / shard.basename).read_bytes()
    rng = np.random.default_rng(seed)
    path = tmp_path / "a.mds"
    refused = 0
    for _ in range(60):
        path.write_bytes(mutated(data, rng))
        try:
            table = read(path, dict(shard.columns), shard.num_samples, options=shard.options)
        except ShardError:
            refused += 1
            continue
        # What was let in can be read to the last value.
        batch = table.select([name for name in shard.columns if name not in OPAQUE]).to_batches()[0]
        read_row = Decoder(batch.schema, allow_unsafe_types=False, source="a.mds").bind(batch)
        for row in range(batch.num_rows):
            assert read_row(row).keys() == {name for name in values.ENCODINGS if name not in OPAQUE}
    assert 20 < refused < 60
