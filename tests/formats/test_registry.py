"""Formats are found as any package's entry points are: real distributions in a directory on the path."""

import json
import re
from pathlib import Path

import pytest

from arrowstream import StreamingDataset
from arrowstream.errors import UnknownFormatError
from arrowstream.format import Format
from arrowstream.index import parse_index
from arrowstream.registry import format_names, load_format
from tests.writing.directories import run_python

LINES = '''
"""A stranger's format: a number a line."""

from pathlib import Path

import pyarrow as pa

from arrowstream import ipc
from arrowstream.errors import CorruptShardError
from arrowstream.format import Format


class Lines(Format):
    name = "lines"
    suffix = ".txt"

    def transcode(self, source, target, shard):
        try:
            numbers = [int(line) for line in source.read_text().splitlines()]
        except ValueError as error:
            raise CorruptShardError(f"holds something else than numbers: {error}") from error
        batch = pa.record_batch({"number": pa.array(numbers, pa.int64())})
        ipc.write_file(target, batch.schema, [batch], content=shard.content)
'''


def _install(folder: Path, package: str, code: str, entry: str, *, value: str | None = None) -> None:
    """Lay down what pip would: a module, and a distribution that names an entry point."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{package}.py").write_text(code)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[arrowstream.formats]\n{entry} = {value or f'{package}:Lines'}\n")


LOAD = """
import sys
sys.path[:0] = sys.argv[2:]
from arrowstream.errors import UnknownFormatError
from arrowstream.registry import format_names, load_format
try:
    print(type(load_format(sys.argv[1])).__name__, *[name for name in format_names() if name in ("lines", "mds")])
except UnknownFormatError as error:
    print(error)
"""


def test_the_native_format_is_installed() -> None:
    assert "mds" in format_names()
    assert isinstance(load_format("mds"), Format)
    assert load_format("mds") is load_format("mds")


def test_an_unknown_format_lists_those_that_are_installed() -> None:
    with pytest.raises(UnknownFormatError, match=r"no installed format is named 'mdz'; installed: .*mds") as caught:
        load_format("mdz")
    assert isinstance(caught.value, LookupError)


def test_a_strangers_plugin_is_found(tmp_path: Path) -> None:
    _install(tmp_path, "strange_lines", LINES, "lines")
    assert run_python(LOAD, "lines", tmp_path).strip() == "Lines lines mds"


@pytest.mark.parametrize(
    ("code", "value", "said"),
    [
        ("import a_module_that_does_not_exist", None, "does not load: No module named 'a_module_that_does_not_exist'"),
        ("raise RuntimeError('broken inside')", None, "does not load: broken inside"),
        ("x = 1", None, "does not load: .*Lines"),
        ("Lines = 5", None, "is not a subclass of arrowstream.format.Format"),
        ("class Lines: pass", None, "is not a subclass of arrowstream.format.Format"),
        (LINES, "no_such_module:Lines", "does not load: No module named 'no_such_module'"),
        ("from arrowstream.format import Format\nclass Lines(Format):\n  name = 'lines'", None, "does not load"),
    ],
)
def test_a_broken_plugin_is_named_and_harms_no_other(tmp_path: Path, code: str, value: str | None, said: str) -> None:
    _install(tmp_path, "broken_lines", code, "lines", value=value)
    told = run_python(LOAD, "lines", tmp_path).strip()
    assert re.search(f"the format 'lines' .{value or 'broken_lines:Lines'}. {said}", told), told
    assert run_python(LOAD, "mds", tmp_path).strip() == "MDS lines mds"


def test_two_packages_that_claim_a_format_are_both_named(tmp_path: Path) -> None:
    _install(tmp_path, "first_lines", LINES, "lines")
    _install(tmp_path, "second_lines", LINES, "lines")
    told = run_python(LOAD, "lines", tmp_path)
    assert "the format 'lines' is claimed by" in told
    assert {"first_lines:Lines", "second_lines:Lines"} <= set(told.replace(";", " ").split())
    assert "uninstall one of them" in told


def test_one_package_seen_twice_is_one(tmp_path: Path) -> None:
    _install(tmp_path / "a", "strange_lines", LINES, "lines")
    _install(tmp_path / "b", "strange_lines", LINES, "lines")
    assert run_python(LOAD, "lines", tmp_path / "a", tmp_path / "b").strip() == "Lines lines mds"


READ = """
import sys
sys.path.insert(0, sys.argv[1])
import polars as pl
from arrowstream import MDSWriter, StreamingDataset, scan, write_dataframe
dataset = StreamingDataset(remote=sys.argv[2], local=sys.argv[3])
assert dataset[2] == {"number": 30}
assert [row["number"] for row in dataset] == [10, 20, 30, 4, 5]
assert dataset.take([4, 0]).to_pydict() == {"number": [5, 10]}
print(scan(dataset).select(pl.col("number").sum()).collect().item())
"""


def _lines_dataset(directory: Path) -> None:
    directory.mkdir()
    shards = {"a.txt": "10\n20\n30\n", "b.txt": "4\n5\n"}
    for name, text in shards.items():
        (directory / name).write_text(text)
    sizes = [len(text) for text in shards.values()]
    columns = {"basename": list(shards), "samples": [3, 2], "raw_bytes": sizes, "file_bytes": sizes}
    columns |= {"content": ["0" * 15 + "a", "0" * 15 + "b"], "hashes": {}}
    group = {
        "format": "lines",
        "columns": {"number": "int"},
        "compression": None,
        "size_limit": None,
        "shards": columns,
    }
    text = json.dumps({"version": 3, "groups": [group], "metadata": {}})
    assert parse_index(text.encode(), "test").num_samples == 5
    (directory / "index.json").write_text(text)


def test_a_strangers_format_is_streamed_taken_and_scanned(tmp_path: Path) -> None:
    _install(tmp_path / "site", "strange_lines", LINES, "lines")
    _lines_dataset(tmp_path / "remote")
    assert run_python(READ, tmp_path / "site", tmp_path / "remote", tmp_path / "local").strip() == "69"
    assert sorted(path.name for path in (tmp_path / "local").glob("*.arrow")) == ["a.txt.arrow", "b.txt.arrow"]


def test_a_dataset_of_a_format_that_is_not_installed_says_so(tmp_path: Path) -> None:
    _lines_dataset(tmp_path / "remote")
    with pytest.raises(UnknownFormatError, match=r"no installed format is named 'lines'; installed: .*mds"):
        StreamingDataset(remote=tmp_path / "remote", local=tmp_path / "local")[0]


def test_a_format_that_only_reads_says_so(tmp_path: Path) -> None:
    _install(tmp_path, "strange_lines", LINES, "lines")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from arrowstream.writer import ShardWriter
class Writer(ShardWriter):
    format_name = "lines"
try:
    with Writer(columns={"number": "int"}, out=sys.argv[2]) as writer:
        writer.write({"number": 1})
except NotImplementedError as error:
    print(error)
"""
    assert run_python(code, tmp_path, tmp_path / "out").strip() == "the format 'lines' only reads"
    assert not (tmp_path / "out" / "index.json").exists()
