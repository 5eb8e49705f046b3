"""Writers of text: what they write is what other tools read, and what mosaicml-streaming would have written."""

import csv
import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrowstream
from arrowstream import CSVWriter, JSONWriter, StreamingDataset, TSVWriter, XSVWriter, scan
from arrowstream.errors import EncodingError, IndexFormatError
from arrowstream.registry import load_format
from arrowstream.writer import ShardWriter
from tests.formats.text_files import GOLDEN_SAMPLES, golden_shards, golden_texts
from tests.writing.directories import index_of, shards_of

COLUMNS = {"count": "int", "ratio": "float", "text": "str"}
WRITERS: dict[str, tuple[type[ShardWriter], dict[str, Any]]] = {
    "csv": (CSVWriter, {}),
    "csv-crlf": (CSVWriter, {"newline": "\r\n"}),
    "tsv": (TSVWriter, {}),
    "xsv": (XSVWriter, {"separator": ";"}),
    "jsonl": (JSONWriter, {}),
}


def _write(name: str, out: Path, rows: list[dict[str, Any]], columns: Any = COLUMNS, **arguments: Any) -> Path:
    kind, own = WRITERS[name]
    with kind(out=out, columns=columns, **{**own, **arguments}) as writer:
        for row in rows:
            writer.write(row)
    return out


ROWS = [
    {"count": number - 50, "ratio": number / 7, "text": ["", None, 'say "é"', "a,b;c\td\r\ne", " x "][number % 5]}
    for number in range(300)
]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("compression", [None, "gz", "zstd:1"])
def test_what_is_written_is_streamed(name: str, compression: str | None, tmp_path: Path) -> None:
    out = _write(name, tmp_path / "out", ROWS, size_limit=2000, compression=compression, hashes=["sha1"])
    local = StreamingDataset(local=out)
    assert local.num_shards > 3
    assert [local[number] for number in range(len(ROWS))] == ROWS
    remote = StreamingDataset(remote=out, local=tmp_path / "cache", shuffle=True, batch_size=4)
    found = list(remote)
    assert found != ROWS
    assert sorted(found, key=lambda row: row["count"]) == ROWS
    assert scan(remote).select(pl.col("ratio").sum()).collect().item() == pytest.approx(sum(r["ratio"] for r in ROWS))


@pytest.mark.parametrize("name", WRITERS)
def test_shards_keep_to_the_size_limit_in_bytes_of_text(name: str, tmp_path: Path) -> None:
    out = _write(name, tmp_path / "out", ROWS, size_limit=1000)
    header = {"jsonl": 0, "csv-crlf": 18}.get(name, 17)
    sizes = [path.stat().st_size - header for path in shards_of(out)]
    assert all(size <= 1000 for size in sizes)
    assert all(size > 1000 - 80 for size in sizes[:-1])
    raw_bytes = index_of(out)["groups"][0]["shards"]["raw_bytes"]
    assert [path.stat().st_size for path in shards_of(out)] == raw_bytes


def test_a_row_larger_than_a_shard_has_one_of_its_own(tmp_path: Path) -> None:
    rows = [{"text": letter * size} for letter, size in (("a", 10), ("b", 500), ("c", 10), ("d", 10))]
    out = _write("csv", tmp_path / "out", rows, columns={"text": "str"}, size_limit=100)
    assert index_of(out)["groups"][0]["shards"]["samples"] == [1, 1, 2]


def test_csv_is_what_other_tools_read(tmp_path: Path) -> None:
    rows = [row for row in ROWS if row["text"] is not None]
    [path] = shards_of(_write("csv", tmp_path / "out", rows))
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [{name: str(value) for name, value in row.items()} for row in rows]
    assert pd.read_csv(path, keep_default_na=False).to_dict("records") == rows
    assert pl.read_csv(path).fill_null("").to_dicts() == rows


def test_json_lines_are_what_other_tools_read(tmp_path: Path) -> None:
    [path] = shards_of(_write("jsonl", tmp_path / "out", ROWS))
    assert [json.loads(line) for line in path.read_text().split("\n")[:-1]] == ROWS


@pytest.mark.parametrize("name", ["csv", "tsv", "xsv"])
def test_mosaics_layout_is_written_byte_for_byte(name: str, tmp_path: Path) -> None:
    shards = golden_shards(name)
    options = {"layout": "mosaic", **{key: shards[0][key] for key in ("newline", "separator") if key in shards[0]}}
    schema = pa.schema({"count": pa.int64(), "ratio": pa.float64(), "text": pa.string()})
    first = 0
    for shard, text in zip(shards, golden_texts(name), strict=True):
        rows = GOLDEN_SAMPLES[first : first + shard["samples"]]
        batch = pa.RecordBatch.from_pylist(rows, schema)
        written = load_format(name).write(tmp_path / "shard", schema, [batch], codec=None, level=None, options=options)
        assert (tmp_path / "shard").read_bytes() == text
        assert written.raw_bytes == len(text)
        first += shard["samples"]
    assert first == len(GOLDEN_SAMPLES)


def test_separators_of_several_characters_give_mosaics_shards(tmp_path: Path) -> None:
    with XSVWriter(columns=COLUMNS, separator="||", newline="--\n", out=tmp_path / "xsv", size_limit=400) as writer:
        for sample in GOLDEN_SAMPLES:
            writer.write(sample)
    assert [path.read_bytes() for path in shards_of(tmp_path / "xsv")] == golden_texts("xsv")
    dataset = StreamingDataset(local=tmp_path / "xsv")
    assert [dataset[number] for number in range(40)] == GOLDEN_SAMPLES


def test_json_writer_gives_mosaics_shards(tmp_path: Path) -> None:
    with JSONWriter(columns=COLUMNS, out=tmp_path / "json", size_limit=800) as writer:
        for sample in GOLDEN_SAMPLES:
            writer.write(sample)
    assert [path.read_bytes() for path in shards_of(tmp_path / "json")] == golden_texts("json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a||b", r"column 'text', row 7: 'a\|\|b' holds '\|\|'"),
        ("a\nb", r"column 'text', row 7: 'a\\nb' holds '\\n'"),
        ("a|", r"column 'text', row 7: 'a\|' holds '\|\|'"),  # a||| would be cut after a
        (None, r"column 'text', row 7: is missing"),
    ],
)
def test_what_rows_without_quotes_cannot_carry_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    writer = XSVWriter(columns={"text": "str", "n": "int"}, separator="||", out=tmp_path / "out")
    for number in range(7):
        writer.write({"text": "fine", "n": number})
    writer.write({"text": text, "n": 7})
    with pytest.raises(EncodingError, match=said):
        writer.finish()
    assert not (tmp_path / "out" / "index.json").exists()


@pytest.mark.parametrize(
    ("kind", "columns", "said"),
    [
        (CSVWriter, {"x": "jpeg"}, "column 'x': text holds no binary"),
        (CSVWriter, {"x": pa.list_(pa.int64())}, "column 'x': text holds no list<item: int64>"),
        (JSONWriter, {"x": "bytes"}, "column 'x': JSON holds no bytes"),
        (JSONWriter, {"x": pa.timestamp("us")}, r"column 'x': JSON holds no timestamp\[us\]"),
        (JSONWriter, {"x": "str_decimal"}, "column 'x': JSON holds no str_decimal"),
    ],
)
def test_columns_that_text_cannot_hold_are_refused_before_anything_is_written(
    kind: type[ShardWriter], columns: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(EncodingError, match=said):
        kind(columns=columns, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_separator_that_cannot_separate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="separates cells and quotes them"):
        XSVWriter(columns=COLUMNS, separator='"', out=tmp_path / "out")


def test_csv_holds_what_reads_back_as_it_was(tmp_path: Path) -> None:
    columns = {
        "small": "int8",
        "single": "float32",
        "flag": "bool",
        "meta": "json",
        "big": "str_int",
        "day": pa.date32(),
        "moment": pa.timestamp("us"),
        "zoned": pa.timestamp("us", "UTC"),
        "price": pa.decimal128(12, 2),
    }
    moment = dt.datetime(2024, 2, 29, 12, 30, 1, 5)
    row = {
        "small": np.int8(-7),
        "single": np.float32(0.1),
        "flag": True,
        "meta": {"k": [1, "a,b\n"]},
        "big": 3**99,
        "day": dt.date(1969, 12, 31),
        "moment": moment,
        "zoned": moment.replace(tzinfo=dt.UTC),
        "price": Decimal("-12.50"),
    }
    rows = [row, dict.fromkeys(row)]
    dataset = StreamingDataset(local=_write("csv", tmp_path / "out", rows, columns=columns))
    assert [dataset[0], dataset[1]] == rows
    assert type(dataset[0]["single"]) is np.float32


def test_json_lines_hold_nested_values(tmp_path: Path) -> None:
    columns = {
        "tags": pa.list_(pa.string()),
        "box": pa.struct([("x", pa.float64()), ("y", pa.list_(pa.int32()))]),
        "any": "json",
        "flag": "bool",
        "big": "str_int",
    }
    rows = [
        {"tags": ["a", None], "box": {"x": 0.1, "y": [1, 2]}, "any": [1, {"k": None}], "flag": False, "big": 3**99},
        dict.fromkeys(columns),
    ]
    dataset = StreamingDataset(local=_write("jsonl", tmp_path / "out", rows, columns=columns))
    assert [dataset[0], dataset[1]] == rows


def test_a_column_alone_keeps_its_missing_and_its_empty_values(tmp_path: Path) -> None:
    rows = [{"text": text} for text in ("", None, "x", None, "")]
    for name in ("csv", "jsonl"):
        dataset = StreamingDataset(local=_write(name, tmp_path / name, rows, columns={"text": "str"}))
        assert [dataset[number] for number in range(5)] == rows


def test_the_writers_are_found_at_the_top() -> None:
    assert {"CSVWriter", "TSVWriter", "XSVWriter", "JSONWriter"} <= set(arrowstream.__all__)
    assert {name for name in WRITERS if "-" not in name} <= set(map(str, (w.format_name for w, _ in WRITERS.values())))


_CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", '"', ",", "\n", "\r", "NA"]
)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(sorted(WRITERS)),
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "count": st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
                "ratio": st.none() | st.floats(allow_nan=False),
                "text": st.none() | _CELL,
            }
        ),
        max_size=10,
    ),
)
def test_any_table_is_read_back_as_it_was_written(
    name: str, rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = _write(name, tmp_path_factory.mktemp("d") / "out", rows, size_limit=100)
    dataset = StreamingDataset(local=out)
    assert [dataset[number] for number in range(len(rows))] == rows


def test_a_shard_tells_its_content_apart(tmp_path: Path) -> None:
    contents = []
    for row in ({"text": "a"}, {"text": "b"}):
        out = _write("csv", tmp_path / row["text"], [row], columns={"text": "str"})
        contents += index_of(out)["groups"][0]["shards"]["content"]
    assert len(set(contents)) == 2
