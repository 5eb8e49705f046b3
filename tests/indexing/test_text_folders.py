"""Folders of text become a dataset by their index alone, whatever else lies in them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arrowstream import StreamingDataset, index_files
from arrowstream.cli import main
from arrowstream.errors import CorruptShardError, IndexFormatError


def rows(first: int, stop: int) -> list[dict[str, Any]]:
    return [{"id": number, "score": number / 4, "text": f"row, {number}"} for number in range(first, stop)]


def delimited(samples: list[dict[str, Any]], separator: str) -> bytes:
    lines = [["id", "score", "text"], *([str(row["id"]), str(row["score"]), f'"{row["text"]}"'] for row in samples)]
    return "".join(separator.join(cells) + "\n" for cells in lines).encode()


def lines(samples: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(sample) + "\n" for sample in samples).encode()


def zstd(text: bytes) -> bytes:
    with pa.BufferOutputStream() as sink:
        with pa.CompressedOutputStream(sink, "zstd") as packed:
            packed.write(text)
        return sink.getvalue().to_pybytes()


FOLDERS: dict[str, dict[str, bytes]] = {
    "csv": {"a.csv": delimited(rows(0, 5), ","), "b.csv": delimited(rows(5, 12), ",")},
    "csv, wrapped": {
        "a.csv.gz": gzip.compress(delimited(rows(0, 5), ",")),
        "b.csv.zst": zstd(delimited(rows(5, 12), ",")),
    },
    "tsv": {"a.tsv": delimited(rows(0, 5), "\t"), "b.tab": delimited(rows(5, 12), "\t")},
    "jsonl": {"a.jsonl": lines(rows(0, 5)), "b.ndjson": lines(rows(5, 9)), "c.json": lines(rows(9, 12))},
    "jsonl, wrapped": {"a.jsonl.gz": gzip.compress(lines(rows(0, 5))), "b.json.zst": zstd(lines(rows(5, 12)))},
    "mixed": {
        "1.csv": delimited(rows(0, 3), ","),
        "2/x.jsonl.gz": gzip.compress(lines(rows(3, 6))),
        "3.tsv": delimited(rows(6, 9), "\t"),
        "10.ndjson": lines(rows(9, 12)),
    },
    "beside what is no data": {
        "a.csv": delimited(rows(0, 12), ","),
        "b.jsonl": b"",
        "c.csv": delimited([], ","),
        "dataset_info.json": b"[1",
        "README.md": b"#",
        ".hidden.json": b"[1",
    },
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_command_finds_all_files_of_text_in_their_order(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    for file, contents in FOLDERS[name].items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(contents)
    assert main(["index", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 12
    assert list(StreamingDataset(remote=folder)) == rows(0, 12)
    cached = StreamingDataset(remote=folder, local=tmp_path / "cache")
    assert [cached[number] for number in range(12)] == rows(0, 12)


def test_text_and_parquet_share_columns_of_the_wider_type(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    (tmp_path / "b.jsonl").write_text('{"x": 0.5}\n')
    pq.write_table(pa.table({"x": pa.array([3], pa.int32())}), tmp_path / "c.parquet")
    assert dict(index_files(tmp_path).groups[1].columns) == {"x": "float64"}
    assert [sample["x"] for sample in StreamingDataset(remote=tmp_path)] == [1.0, 2.0, 0.5, 3.0]


@pytest.mark.parametrize(
    ("name", "contents", "reason"),
    [
        ("bad.csv", b"a,b\n1,2\n3\n", "line 3"),
        ("bad.tsv", b"a\ta\n", "line 1: names the column 'a' twice"),
        ("bad.jsonl", b'{"a": 1}\n[1]\n', "line 2: expected an object"),
        ("bad.json", b'[\n  {"a": 1}\n]\n', "line 1: is no JSON"),
        ("bad.csv.gz", gzip.compress(b"a,b\n1,2\n3\n"), "line 3"),
        ("bad.csv.gz", gzip.compress(b"a,b\n1,2\n3\n")[:-6], "gz"),
    ],
)
def test_a_file_that_is_no_such_text_is_named(tmp_path: Path, name: str, contents: bytes, reason: str) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(CorruptShardError) as caught:
        index_files(tmp_path)
    assert f"{tmp_path}/{name}: " in str(caught.value)
    assert reason in str(caught.value)
    assert not (tmp_path / "index.json").exists()


def test_an_option_that_a_format_does_not_take_is_named_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a;b\n1;2\n")
    (tmp_path / "b.jsonl").write_text('{"a": 1, "b": 2}\n')
    with pytest.raises(IndexFormatError, match=r"b\.jsonl: options: there is no 'separator'"):
        index_files(tmp_path, options={"separator": ";"})
    index_files(tmp_path, pattern="*.csv", options={"separator": ";"})
    assert StreamingDataset(remote=tmp_path)[0] == {"a": 1, "b": 2}
