"""Any format becomes any other, as long as that one can hold the columns."""

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import LocalDataset, MDSWriter, StreamingDataset, index_files
from arrowstream.cli import main
from arrowstream.format import Format
from arrowstream.registry import format_names, load_format
from arrowstream.storage import Storage
from arrowstream.writer import writer_of
from tests.formats.mosaic_golden import copy_golden, own_temporary_folder
from tests.formats.text_files import GOLDEN, GOLDEN_SAMPLES
from tests.golden.mosaic import values
from tests.servers import S3Server

__all__ = ["own_temporary_folder"]

OPTIONS = {"xsv": {"separator": ";"}}
WRITABLE = [name for name in format_names() if type(load_format(name)).write is not Format.write]
SAMPLES = [
    {"id": number, "score": number / 7, "text": ["", 'with "quotes", commas;', "two\nlines", "ß\ttab"][number % 4]}
    for number in range(40)
]
COLUMNS = {"id": "int64", "score": "float64", "text": "str"}


def write(name: str, out: Path) -> Path:
    if name == "arrow":
        out.mkdir()
        with pa.ipc.new_file(str(out / "a.arrow"), pa.Table.from_pylist(SAMPLES).schema) as writer:
            writer.write_table(pa.Table.from_pylist(SAMPLES), max_chunksize=7)
        index_files(out)
        return out
    with writer_of(name)(out=out, columns=COLUMNS, size_limit=1500, **OPTIONS.get(name, {})) as writer:
        for sample in SAMPLES:
            writer.write(sample)
    return out


def convert(source: Path | str, out: Path, target: str, *more: str) -> int:
    options = [f"--option={name}={value}" for name, value in OPTIONS.get(target, {}).items()]
    return main(["convert", str(source), str(out), "--to", target, "--jobs", "1", "--json", *options, *more])


def test_every_format_but_that_of_foreign_files_writes() -> None:
    assert set(format_names()) - set(WRITABLE) == {"arrow"}


@pytest.mark.parametrize("target", WRITABLE)
@pytest.mark.parametrize("source", [*WRITABLE, "arrow"])
def test_every_format_becomes_every_other(tmp_path: Path, source: str, target: str) -> None:
    assert convert(write(source, tmp_path / "in"), tmp_path / "out", target) == 0
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    if target != "mosaic":
        assert {group["format"] for group in index["groups"]} == {target}
    assert list(StreamingDataset(local=tmp_path / "out")) == SAMPLES
    assert list(StreamingDataset(remote=tmp_path / "out", local=tmp_path / "cache")) == SAMPLES


@pytest.mark.parametrize("name", ["csv", "tsv", "xsv", "json", "json-newline"])
def test_text_of_mosaicml_streaming_streams_and_becomes_other_formats(tmp_path: Path, name: str) -> None:
    source = Path(shutil.copytree(GOLDEN / name, tmp_path / "in"))
    for place in ({"local": source}, {"remote": source, "local": tmp_path / "cache"}):
        assert list(StreamingDataset(**place)) == GOLDEN_SAMPLES
    assert [LocalDataset(source)[number] for number in (39, 0)] == [GOLDEN_SAMPLES[39], GOLDEN_SAMPLES[0]]
    for target in ("mds", "mosaic", "parquet", "jsonl", "csv"):
        assert convert(source, tmp_path / target, target) == 0
        assert list(StreamingDataset(local=tmp_path / target)) == GOLDEN_SAMPLES


def test_text_of_mosaicml_streaming_streams_from_a_bucket(tmp_path: Path, s3: S3Server) -> None:
    for name in ("csv", "json-newline"):
        url = s3.new_prefix()
        bucket = Storage(url, options=s3.options)
        for path in (GOLDEN / name).iterdir():
            bucket.write(path.name, path.read_bytes())
        dataset = StreamingDataset(remote=url, local=tmp_path / name, storage_options=s3.options)
        assert list(dataset) == GOLDEN_SAMPLES
        assert not list((tmp_path / name).glob("*.meta"))


@pytest.mark.parametrize("name", ["none", "zstd"])
def test_rows_of_mosaicml_streaming_become_other_formats_and_come_back(tmp_path: Path, name: str) -> None:
    source = copy_golden(name, tmp_path)
    columns = list(StreamingDataset(local=source, allow_unsafe_types=True).schema.names)
    for target in ("mds", "parquet"):
        assert convert(source, tmp_path / target, target) == 0
        assert convert(tmp_path / target, tmp_path / f"{target}-back", "mosaic") == 0
        dataset = StreamingDataset(local=tmp_path / f"{target}-back", allow_unsafe_types=True)
        assert dataset.size == values.NUM_SAMPLES
        for number in range(dataset.size):
            sample = dataset[number]
            assert set(sample) == set(columns)
            wrong = [
                column for column in columns if not values.is_same(column, sample[column], values.value(column, number))
            ]
            assert wrong == []


def test_a_missing_text_stays_one(tmp_path: Path) -> None:
    samples = [{"id": 0, "text": None}, {"id": 1, "text": ""}, {"id": None, "text": "x"}]
    with MDSWriter(out=tmp_path / "in", columns={"id": "int", "text": "str"}) as writer:
        for sample in samples:
            writer.write(sample)
    for target in ("csv", "tsv", "xsv", "jsonl", "parquet"):
        assert convert(tmp_path / "in", tmp_path / target, target) == 0
        assert list(StreamingDataset(local=tmp_path / target)) == samples


RICH: dict[str, tuple[pa.DataType, Any]] = {
    "when": (pa.timestamp("us", "UTC"), dt.datetime(2020, 1, 2, tzinfo=dt.UTC)),
    "tags": (pa.list_(pa.string()), ["a", "b"]),
    "record": (pa.struct({"a": pa.int64(), "b": pa.list_(pa.float64())}), {"a": 1, "b": [0.5]}),
    "kind": (pa.dictionary(pa.int32(), pa.string()), "x"),
    "pairs": (pa.map_(pa.string(), pa.int64()), [("k", 1)]),
}


@pytest.mark.parametrize("target", ["mds", "parquet"])
def test_types_of_arrow_become_what_they_were(tmp_path: Path, target: str) -> None:
    with MDSWriter(out=tmp_path / "in", columns={name: kind for name, (kind, _) in RICH.items()}) as writer:
        writer.write({name: value for name, (_, value) in RICH.items()})
    assert convert(tmp_path / "in", tmp_path / "out", target) == 0
    assert convert(tmp_path / "out", tmp_path / "back", "mds") == 0
    assert list(StreamingDataset(local=tmp_path / "back")) == [{name: value for name, (_, value) in RICH.items()}]


@pytest.mark.parametrize(
    ("spec", "value", "target", "said"),
    [
        ("bytes", b"x", "csv", "column 'x': text holds no binary"),
        ("ndarray:float32:2", np.zeros(2, np.float32), "tsv", "column 'x': text holds no "),
        ("bytes", b"x", "jsonl", "column 'x': JSON holds no bytes"),
        ("bool", True, "mosaic", "column 'x': mosaicml-streaming has no encoding 'bool'"),
        (pa.timestamp("us"), dt.datetime(2020, 1, 1), "mosaic", "column 'x': mosaicml-streaming has no encoding"),
        ("int", None, "mosaic", "column 'x' (int): row 0: is None, and 'mosaic' files hold no missing values"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_the_column(
    tmp_path: Path, spec: Any, value: Any, target: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with MDSWriter(out=tmp_path / "in", columns={"x": spec}) as writer:
        writer.write_batch({"x": pa.array([value])} if value is None else {"x": [value]})
    assert convert(tmp_path / "in", tmp_path / "out", target) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "index.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "arrow"], "the format 'arrow' only reads; write mds"),
        (["--to", "xsv"], "the writer of xsv needs the option 'separator'"),
        (["--to", "csv", "--option", "separator=;"], "the writer of csv has no option 'separator'; it has: newline"),
        (["--to", "cvs"], "no installed format is named 'cvs'"),
    ],
)
def test_a_target_that_cannot_be_written_is_refused(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("mds", tmp_path / "in")
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out"), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
