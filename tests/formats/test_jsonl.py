"""JSON Lines: what is read, of which types, and how a file that is wrong is told."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream import scan
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
    ("values", "encoding"),
    [
        ([1, -(1 << 63)], "int"),
        ([1, None], "int"),
        ([1, 2.5], "float"),
        ([2.5, 1], "float"),
        ([1e300, 1e-320], "float"),
        ([True, False, None], "bool"),
        (["x", "é\n", ""], "str"),
        (["2024-02-29", "2024-02-29T12:00:00"], "str"),
        ([None, None], "str"),
        ([[1, 2], [], None], "list<item: int64>"),
        ([[1], [2.5]], "list<item: double>"),
        ([[], []], "list<item: null>"),
        ([{"x": 1}, {"y": ["2024-02-29"]}], "struct<x: int64, y: list<item: string>>"),
        ([[{"x": {}}]], "list<item: struct<x: struct<>>>"),
        ([1, "x"], "json"),
        ([1, True], "json"),
        ([[1, "x"]], "json"),
        ([1, [1]], "json"),
        ([1 << 63, 1], "json"),
        ([{"x": [1 << 70]}], "json"),
        ([{"a: int64, b": 1}], "json"),
        ([{f"key {n}": n} for n in range(300)], "json"),
    ],
)
def test_values_come_back_in_the_narrowest_type(values: list[Any], encoding: str, tmp_path: Path) -> None:
    text = "".join(json.dumps({"id": number, "v": value}) + "\n" for number, value in enumerate(values))
    assert describe("jsonl", text).columns == {"id": "int", "v": encoding}
    rows = rows_of("jsonl", text, tmp_path / "d")
    if encoding.startswith("struct"):
        keys = {key for value in values for key in value}
        values = [{**dict.fromkeys(keys), **value} for value in values]
    assert rows == [{"id": number, "v": value} for number, value in enumerate(values)]
    if encoding == "json":  # where 1 and True are not the same
        assert [type(row["v"]) for row in rows] == [type(value) for value in values]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": "x"}\n{"a": 2}\n',
        '{"a": 1, "b": "x"}\n{"a": 2}',
        '{"a": 1, "b": "x"}\r\n{"a": 2}\r\n',
        '\ufeff{"a": 1, "b": "x"}\n{"a": 2}\n',
        '\n{"a": 1, "b": "x"}\n\n  \n{"b": null, "a": 2}\n\n',
        '{"a": 9, "b": "x", "a": 1}\n{"a": 2}\n',  # a key twice: the last one counts
    ],
)
def test_files_as_the_world_has_them_are_read(text: str, tmp_path: Path) -> None:
    assert rows_of("jsonl", text, tmp_path / "d") == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


def test_a_late_line_widens_a_column_of_the_whole_file(tmp_path: Path) -> None:
    text = '{"a": 1, "b": 1, "c": {"x": 1}}\n' * 100_000 + '{"a": "x", "b": 2.5, "c": {"y": 2}}\n'
    found = describe("jsonl", text)
    assert (found.num_samples, dict(found.columns)) == (
        100_001,
        {"a": "json", "b": "float", "c": "struct<x: int64, y: int64>"},
    )
    index_files(tmp_path / "d", "jsonl", [text], columns=found.columns, num_samples=[found.num_samples])
    dataset = dataset_of(tmp_path / "d")
    assert dataset[0] == {"a": 1, "b": 1.0, "c": {"x": 1, "y": None}}
    assert dataset[-1] == {"a": "x", "b": 2.5, "c": {"x": None, "y": 2}}


def test_declared_types_win_and_what_is_not_declared_by_an_index_is_left_out(tmp_path: Path) -> None:
    text = '{"id": 1, "score": 2, "big": 1000000000000000000000, "any": {"k": 1}, "rest": 5}\n'
    declared = {"score": "float32", "big": "str_int", "any": "json"}
    assert describe("jsonl", text, columns=declared).columns == {"id": "int", **declared, "rest": "int"}
    index_files(tmp_path / "d", "jsonl", [text], columns=declared, num_samples=[1])
    assert samples_of(tmp_path / "d") == [{"score": 2.0, "big": 10**21, "any": {"k": 1}}]


def test_lines_longer_than_a_block_are_read(tmp_path: Path) -> None:
    values = ["x" * 3_000_000, "short", ["y"] * 500_000]
    text = "".join(json.dumps({"v": json.dumps(value)}) + "\n" for value in values)
    assert [json.loads(row["v"]) for row in rows_of("jsonl", text, tmp_path / "d")] == values


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ('{"a": 1}\n\n{"a":\n{"a": 2}\n', {}, "line 3: is no JSON"),
        ('{"a": 1}\n[1]\n', {}, "line 2: expected an object, got [1]"),
        ('{"a": 1}\n5\n', {}, "line 2: expected an object, got 5"),
        (b'{"a": 1}\n{"a": "\xff"}\n', {}, "line 2: is not UTF-8"),
        (b'{"a": 1}\n{"\xff": 1}\n', {}, "line 2: is not UTF-8"),
        ('{"\\ud800": 1}\n', {}, "line 1: has the key '\\ud800', which is no text that UTF-8 can hold"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n", {}, "line 1: is no JSON (maximum recursion depth"),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000 + "\n", {}, "line 1: is no JSON (maximum recursion depth"),
        ("{}\n{}\n", {}, "holds no objects with keys"),
        ('{"a": 1}\n{"a": "x"}\n', {"columns": {"a": "int"}}, "line 2, column 'a': expected an integer"),
        ('{"a": 1}\n{"a": 1.5}\n', {"columns": {"a": "int"}}, "line 2, column 'a': expected an integer"),
        ('{"a": 1}\n\n{"a": 300}\n', {"columns": {"a": "int8"}}, "line 3, column 'a': expected an integer from -128"),
        ('{"a": 1}\n{"a": "x"}\n' + '{"a": 1}\n' * 200_000 + '{"a"}\n', {}, "line 200003: is no JSON"),
    ],
)
def test_a_wrong_line_is_named(text: str | bytes, options: dict[str, Any], said: str) -> None:
    with pytest.raises(CorruptShardError, match=re.escape(said)):
        describe("jsonl", text, **options)


def test_values_that_no_arrow_type_holds_stay_json(tmp_path: Path) -> None:
    deep = json.loads("[" * 200 + "]" * 200)
    values = [{"k": "\ud800"}, {"k": deep}]
    assert rows_of("jsonl", "".join(json.dumps(value) + "\n" for value in values), tmp_path / "d") == values


def test_a_file_that_is_not_what_the_index_says_is_named_with_its_line(tmp_path: Path) -> None:
    text = '{"a": 1}\n{"a": true}\n'
    index_files(tmp_path / "d", "jsonl", [text], columns={"a": "int"}, num_samples=[2])
    with pytest.raises(CorruptShardError, match=r"0\.txt: line 2, column 'a': expected an integer .* got bool True"):
        samples_of(tmp_path / "d")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"separator": ","}, "there is no 'separator'; there are: layout, newline, columns"),
        ({"newline": 5}, "newline is 5, expected text"),
        ({"columns": {"a": "nit"}}, "column 'a': no encoding is named 'nit'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(IndexFormatError, match=re.escape(said)):
        describe("jsonl", "{}\n", **options)


@pytest.mark.parametrize("name", ["json", "json-newline"])
def test_what_mosaicml_streaming_wrote_is_read(name: str, tmp_path: Path) -> None:
    shards = golden_shards(name)
    index_files(
        tmp_path / "d",
        "jsonl",
        golden_texts(name),
        columns=shards[0]["columns"],
        num_samples=[shard["samples"] for shard in shards],
        layout="mosaic",
        newline=shards[0]["newline"],
    )
    samples = samples_of(tmp_path / "d")
    assert samples == GOLDEN_SAMPLES
    assert {type(value) for sample in samples for value in sample.values()} == {int, float, str}


def test_nested_columns_are_queried(tmp_path: Path) -> None:
    text = '{"a": {"x": [1, 2]}}\n{"a": {"x": [3]}}\n'
    found = describe("jsonl", text)
    index_files(tmp_path / "d", "jsonl", [text], columns=found.columns, num_samples=[2])
    frame = scan(tmp_path / "d", fetch=True).collect()
    assert frame["a"].struct.field("x").list.sum().to_list() == [3, 3]


_KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(["a", "b", 'q"', "x: y", "<"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_KEYS, children, max_size=3),
    max_leaves=6,
)


def _is(found: Any, expected: Any) -> bool:
    """Compare as a reader would: an integer may have become the float of that value, and a missing key None."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() <= found.keys() and all(_is(found[key], expected.get(key)) for key in found)
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(_is, found, expected))
    if isinstance(found, float) and isinstance(expected, int):
        return found == float(expected)
    return type(found) is type(expected) and bool(found == expected)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=3), min_size=1, max_size=6))
def test_whatever_pythons_json_module_writes_is_read_back(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    read = rows_of("jsonl", text, tmp_path_factory.mktemp("d"))
    assert len(read) == len(rows)
    assert all(map(_is, read, rows)), (read, rows)


def test_damaged_files_give_named_errors_alone(tmp_path: Path) -> None:
    text = b"".join(b'{"a": %d, "b": {"c": [%d.5, null], "d": "word %d"}}\n' % (n, n, n) for n in range(30))
    kind = pa.struct([("c", pa.list_(pa.float64())), ("d", pa.string())])
    shard = shard_of_text("jsonl", text, 30, {"a": "int", "b": str(kind)})
    transcode(text, shard, tmp_path)
    assert times_refused(text, shard, tmp_path, times=200) > 60
