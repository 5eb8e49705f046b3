"""Delimited text: what is read, of which types, and how a file that is wrong is told."""

import csv
import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arrowstream import ipc
from arrowstream.errors import CorruptShardError, IndexFormatError
from tests.formats.text_files import (
    GOLDEN_SAMPLES,
    dataset_of,
    describe,
    golden_shards,
    golden_texts,
    index_files,
    rows_of,
    samples_of,
    shard_of_text,
    times_refused,
    transcode,
)


@pytest.mark.parametrize(
    ("text", "options", "columns", "rows"),
    [
        pytest.param("a,b\n1,x\n2,y\n", {}, {"a": "int", "b": "str"}, [(1, "x"), (2, "y")], id="a header"),
        pytest.param("a,b\r\n1,x\r\n2,y", {}, {"a": "int", "b": "str"}, [(1, "x"), (2, "y")], id="CRLF, no last end"),
        pytest.param("a,b\r1,x\r2,y\r", {}, {"a": "int", "b": "str"}, [(1, "x"), (2, "y")], id="CR"),
        pytest.param("\ufeffa,b\n1,x\n", {}, {"a": "int", "b": "str"}, [(1, "x")], id="a byte-order mark"),
        pytest.param("\n\r\na,b\n\n1,x\n\n", {}, {"a": "int", "b": "str"}, [(1, "x")], id="blank lines"),
        pytest.param("1,x\n", {"header": False}, {"f0": "int", "f1": "str"}, [(1, "x")], id="no header"),
        pytest.param(
            "1,x\n",
            {"header": False, "columns": {"n": "int", "t": "str"}},
            {"n": "int", "t": "str"},
            [(1, "x")],
            id="names",
        ),
        pytest.param('a,b\n"1","x,""y""\nz"\n', {}, {"a": "int", "b": "str"}, [(1, 'x,"y"\nz')], id="quotes"),
        pytest.param('"a\nb",c\n1,2\n', {}, {"a\nb": "int", "c": "int"}, [(1, 2)], id="a header over two lines"),
        pytest.param(
            'a;b\n1;"x\\"y"\n', {"separator": ";", "escape": "\\"}, {"a": "int", "b": "str"}, [(1, 'x"y')], id="escapes"
        ),
        pytest.param("a,b\n'1','x,y'\n", {"quote": "'"}, {"a": "int", "b": "str"}, [(1, "x,y")], id="other quotes"),
        pytest.param('a,b\n5",6"\n', {"quote": None}, {"a": "str", "b": "str"}, [('5"', '6"')], id="no quotes"),
        pytest.param("a,b\n,\n1,\n", {}, {"a": "int", "b": "str"}, [(None, ""), (1, "")], id="empty cells"),
        pytest.param(
            'a,b\n"",""\n1,NA\n', {}, {"a": "int", "b": "str"}, [(None, ""), (1, "NA")], id="quoted empty cells"
        ),
        pytest.param(
            "a,b\nNA,NA\n1,\n",
            {"null_values": ["NA"]},
            {"a": "int", "b": "str"},
            [(None, None), (1, "")],
            id="null markers",
        ),
        pytest.param(
            'a,b\n,""\n1,\n',
            {"null_values": [""], "quoted_nulls": False},
            {"a": "int", "b": "str"},
            [(None, ""), (1, None)],
            id="quotes tell empty from missing",
        ),
        pytest.param("a,b\n", {}, {"a": "str", "b": "str"}, [], id="a header alone"),
        pytest.param("a,b", {}, {"a": "str", "b": "str"}, [], id="a header without an end"),
    ],
)
def test_files_as_the_world_has_them_are_read(
    text: str, options: dict[str, Any], columns: dict[str, str], rows: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    found = describe("csv", text, **options)
    assert (found.num_samples, dict(found.columns)) == (len(rows), columns)
    expected = [dict(zip(columns, row, strict=True)) for row in rows]
    assert rows_of("csv", text, tmp_path / "dataset", **options) == expected


@pytest.mark.parametrize(
    ("cells", "encoding"),
    [
        (["1", "-2", "0"], "int"),
        (["1", "", "3"], "int"),
        (["9223372036854775807"], "int"),
        (["9223372036854775808"], "str"),
        (["007", "1"], "str"),
        (["+49"], "str"),
        (["1", "2.5"], "float"),
        (["2.5", "1"], "float"),
        (["1e5", "nan", "-inf"], "float"),
        (["00.5"], "str"),
        (["9007199254740993", "0.5"], "str"),
        (["0.5", "9007199254740993"], "str"),
        (["0.12345678901234567890"], "float"),
        (["1", "x"], "str"),
        (["0x10"], "str"),
        ([" 5"], "str"),
        (["true"], "str"),
        (["", ""], "str"),
    ],
)
def test_types_are_the_narrowest_that_lose_nothing(cells: list[str], encoding: str) -> None:
    assert describe("csv", "a,b\n" + "".join(f"{cell},\n" for cell in cells)).columns["a"] == encoding


def test_a_late_row_widens_a_column_of_the_whole_file(tmp_path: Path) -> None:
    text = "a,b\n" + "1,2\n" * 600_000 + "x,2.5\n"  # more than two blocks
    found = describe("csv", text)
    assert (found.num_samples, found.columns) == (600_001, {"a": "str", "b": "float"})
    index_files(tmp_path / "d", "csv", [text], columns=found.columns, num_samples=[found.num_samples])
    dataset = dataset_of(tmp_path / "d")
    assert (dataset[0], dataset[-1]) == ({"a": "1", "b": 2.0}, {"a": "x", "b": 2.5})
    reader = ipc.open_file(tmp_path / "d" / "cache" / "0.txt.arrow")
    sizes = [reader.get_batch(number).nbytes for number in range(reader.num_record_batches)]
    assert len(sizes) > 4
    assert all(1 << 19 < size < 1 << 21 for size in sizes[:-1])


def test_declared_types_win_over_what_the_cells_look_like(tmp_path: Path) -> None:
    columns = {"zip": "str", "when": "timestamp[us]", "small": "int8", "flag": "bool", "meta": "json"}
    text = 'zip,when,small,flag,meta,rest\n007,2024-02-29 12:00:00,7,true,"{""k"": [1]}",1.5\n'
    found = describe("csv", text, columns=columns)
    assert found.columns == {**columns, "rest": "float"}
    [row] = rows_of("csv", text, tmp_path / "d", columns=columns)
    assert (row["zip"], row["when"].isoformat()) == ("007", "2024-02-29T12:00:00")
    assert (row["small"], row["flag"], row["meta"], row["rest"]) == (7, True, {"k": [1]}, 1.5)


def test_cells_longer_than_a_block_are_read(tmp_path: Path) -> None:
    cells = ["x" * 3_000_000, "short", "y\n" * 9_000_000]
    text = "a,b\n" + "".join(f'1,"{cell}"\n' for cell in cells)
    assert [row["b"] for row in rows_of("csv", text, tmp_path / "d")] == cells


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a,b\n1,2\n3\n", {}, "line 3: has 1 cells, expected 2: 3"),
        ("a,b\n1,2\n\n\n3,4,5\n", {}, "line 5: has 3 cells, expected 2: 3,4,5"),
        ('a,b\n1,"x\ny\nz"\n3\n', {}, "line 5: has 1 cells, expected 2: 3"),
        ('\n\n"a\nb",c\n1,2\n3\n', {}, "line 6: has 1 cells, expected 2: 3"),
        ("1,2\n3\n", {"header": False}, "line 2: has 1 cells, expected 2: 3"),
        ("a,b\n1,2\nx,3\n", {"columns": {"a": "int"}}, "line 3, column 'a': expected int64, got 'x'"),
        ('a,b\n1,"\n"\n\nx,3\n', {"columns": {"a": "int"}}, "line 5, column 'a': expected int64, got 'x'"),
        ("a,b\n1,300\n", {"columns": {"b": "int8"}}, "line 2, column 'b': expected int8, got '300'"),
        (
            "1,2\nx,3\n",
            {"header": False, "columns": {"a": "int", "b": "int"}},
            "line 2, column 'a': expected int64, got 'x'",
        ),
        (b"a,b\n1,2\n\xff,3\n", {}, "line 3, column 'a': expected string, got invalid UTF8 data; convert the file"),
        (b"a\xff,b\n1,2\n", {}, "line 1: is not UTF-8"),
        ("", {}, "is empty, expected a header"),
        ("a,b,a\n", {}, "line 1: names the column 'a' twice"),
        ("a,b\n1,2\n", {"columns": {"c": "int"}}, "has no column 'c'; its header has: a, b"),
        ("x" * (1 << 21), {}, "line 1: "),
        ("a,b\n" + "1,2\n" * 300_000 + "3\n", {}, "line 300002: has 1 cells, expected 2: 3"),
    ],
)
def test_a_wrong_line_is_named(text: str | bytes, options: dict[str, Any], said: str) -> None:
    with pytest.raises(CorruptShardError, match=re.escape(said)):
        describe("csv", text, **options)


def test_a_file_that_is_not_what_the_index_says_is_named_with_its_line(tmp_path: Path) -> None:
    index_files(tmp_path / "d", "csv", ["a,b\n1,2\n3,y\n"], columns={"a": "int", "b": "int"}, num_samples=[2])
    with pytest.raises(CorruptShardError, match=r"0\.txt: line 3, column 'b': expected int64, got 'y'; fetched"):
        samples_of(tmp_path / "d")


@pytest.mark.parametrize(("said_by_index", "said"), [(1, "holds more than the 1 rows"), (3, "holds 2 rows")])
def test_another_number_of_rows_is_refused(said_by_index: int, said: str, tmp_path: Path) -> None:
    index_files(tmp_path / "d", "csv", ["a\n1\n2\n"], columns={"a": "int"}, num_samples=[said_by_index])
    with pytest.raises(CorruptShardError, match=said):
        samples_of(tmp_path / "d")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seperator": ";"}, "there is no 'seperator'; there are: layout, separator"),
        ({"separator": ";;"}, "separator is ';;', expected one ASCII character"),
        ({"separator": '"'}, "separates cells and quotes them"),
        ({"header": "no"}, "header is 'no', expected true or false"),
        ({"null_values": [1]}, "null_values is [1], expected a list of texts"),
        ({"layout": "fancy"}, 'layout is \'fancy\', expected "plain" or "mosaic"'),
        ({"columns": {"a": "nit"}}, "column 'a': no encoding is named 'nit'; did you mean 'int'?"),
        ({"columns": {"a": "jpeg"}}, "column 'a': text holds no binary"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(IndexFormatError, match=re.escape(said)):
        describe("csv", "a,b\n1,2\n", **options)


def test_the_separator_is_the_formats_own() -> None:
    assert describe("tsv", "a\tb\n1\tx,y\n").columns == {"a": "int", "b": "str"}
    assert describe("xsv", "a|b\n1|x,y\n", separator="|").columns == {"a": "int", "b": "str"}
    with pytest.raises(IndexFormatError, match='expected a "separator"'):
        describe("xsv", "a|b\n1|x\n")


def test_the_rows_of_a_file_without_a_header_have_the_declared_names(tmp_path: Path) -> None:
    with pytest.raises(CorruptShardError, match="line 1: has 3 cells, expected 2"):
        describe("csv", "1,2,3\n", header=False, columns={"a": "int", "b": "int"})


@pytest.mark.parametrize("name", ["csv", "tsv", "xsv"])
def test_what_mosaicml_streaming_wrote_is_read(name: str, tmp_path: Path) -> None:
    shards = golden_shards(name)
    columns = dict(zip(shards[0]["column_names"], shards[0]["column_encodings"], strict=True))
    options = {key: shards[0][key] for key in ("newline", "separator") if key in shards[0]}
    # 3^39 fits into 64 bits, and 3^40 would not.
    index_files(
        tmp_path / "d",
        name,
        golden_texts(name),
        columns=columns,
        num_samples=[shard["samples"] for shard in shards],
        layout="mosaic",
        **options,
    )
    samples = samples_of(tmp_path / "d")
    assert samples == GOLDEN_SAMPLES
    assert [math.copysign(1, sample["ratio"]) for sample in samples[:8]] == [1, -1, 1, 1, 1, -1, 1, 1]
    assert {type(value) for sample in samples for value in sample.values()} == {int, float, str}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a||b--1||x--2--", "line 3: has 1 cells, expected 2"),
        ("a||b--1||x--y||x--", "line 3, column 'a': expected int64, got 'y'"),
        ("a||b--1||x", "was cut off: its last line does not end with '--'"),
        ("b||a--1||x--", "line 1: is b'b||a--', expected the header b'a||b--'"),
        (b"a||b--1||\xff--", "of the lines from 2 on, one is not UTF-8"),
    ],
)
def test_a_wrong_line_of_mosaics_layout_is_named(text: str | bytes, said: str, tmp_path: Path) -> None:
    options = {"layout": "mosaic", "separator": "||", "newline": "--"}
    index_files(tmp_path / "d", "xsv", [text], columns={"a": "int", "b": "str"}, num_samples=[2], **options)
    with pytest.raises(CorruptShardError, match=re.escape(said)):
        samples_of(tmp_path / "d")


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["", "NA", "null", 'a"b', "x,y", "\n", "\r\n", " ", "\ufeff", "1", "-"]
)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(-(1 << 63), (1 << 63) - 1), st.none() | st.floats(allow_nan=False), _TEXT, _TEXT
        ),
        max_size=12,
    ),
    lineterminator=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    separator=st.sampled_from([",", ";", "\t", "|"]),
)
def test_whatever_pythons_csv_module_writes_is_read_back(
    rows: list[tuple[Any, ...]],
    lineterminator: str,
    quoting: int,
    separator: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # Before Python 3.13 the module leaves a carriage return unquoted where rows end with a newline alone.
    assume(
        lineterminator == "\r\n"
        or quoting != csv.QUOTE_MINIMAL
        or not any("\r" in cell for row in rows for cell in row[2:])
    )
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=lineterminator, quoting=quoting, delimiter=separator)
    writer.writerow(["whole", "real", "text", 'na"me'])
    writer.writerows(rows)
    declared = {"whole": "int", "real": "float", "text": "str", 'na"me': "str"}
    options = {"separator": separator, "columns": declared}
    read = rows_of("csv", file.getvalue(), tmp_path_factory.mktemp("d"), **options)
    assert read == [dict(zip(declared, row, strict=True)) for row in rows]


@pytest.mark.parametrize("layout", ["plain", "mosaic"])
def test_damaged_files_give_named_errors_alone(layout: str, tmp_path: Path) -> None:
    text = b"a,b,c\n" + b"".join(b"%d,%d.5,word %d\n" % (n, n, n) for n in range(30))
    shard = shard_of_text("csv", text, 30, {"a": "int", "b": "float", "c": "str"}, {"layout": layout})
    transcode(text, shard, tmp_path)
    assert times_refused(text, shard, tmp_path, times=200) > 60
