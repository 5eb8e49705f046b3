"""An index of mosaicml-streaming becomes groups of like shards, and is held to what any index is held to."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrowstream.errors import IndexFormatError
from arrowstream.index import Index, parse_index

GOLDEN = Path(__file__).parents[1] / "golden" / "mosaic"

Tree = dict[str, Any]


def golden(name: str) -> Tree:
    return json.loads((GOLDEN / name).read_text())


def parse(tree: object) -> Index:
    return parse_index(json.dumps(tree).encode(), "s3://bucket/index.json")


def make_tree() -> Tree:
    """Write down an index of two shards by hand."""

    def shard(number: int) -> Tree:
        return {
            "column_encodings": ["int", "str"],
            "column_names": ["n", "s"],
            "column_sizes": [8, None],
            "compression": "zstd:3",
            "format": "mds",
            "hashes": ["sha1"],
            "raw_data": {"basename": f"shard.{number}.mds", "bytes": 100 + number, "hashes": {"sha1": f"a{number}"}},
            "samples": 10 + number,
            "size_limit": 1000,
            "version": 2,
            "zip_data": {"basename": f"shard.{number}.mds.zstd", "bytes": 50, "hashes": {"sha1": f"b{number}"}},
        }

    return {"shards": [shard(0), shard(1)], "version": 2}


# What is right --------------------------------------------------------------------------------------------------------


def test_every_field_is_read() -> None:
    index = parse(make_tree())
    assert len(index.groups) == 1
    assert index.samples_per_shard.tolist() == [10, 11]
    shard = index.shard(1)
    assert (shard.basename, shard.num_samples, shard.raw_bytes, shard.file_bytes) == ("shard.1.mds.zstd", 11, 101, 50)
    assert (shard.format, shard.compression, index.groups[0].size_limit) == ("mosaic", "zstd:3", 1000)
    assert (shard.columns, shard.options) == ({"n": "int", "s": "str"}, {"column_sizes": {"n": 8, "s": None}})
    assert (shard.hashes, shard.raw_hashes) == ({"sha1": "b1"}, {"sha1": "a1"})


def test_without_compression_the_raw_file_is_transported() -> None:
    tree = make_tree()
    for shard in tree["shards"]:
        shard["zip_data"] = shard["compression"] = None
    shard = parse(tree).shard(0)
    assert (shard.basename, shard.file_bytes, shard.hashes, shard.compression) == (
        "shard.0.mds",
        100,
        {"sha1": "a0"},
        None,
    )


def test_the_identity_of_a_shard_is_that_of_its_rows_whatever_its_compression() -> None:
    packed, raw, other = make_tree(), make_tree(), make_tree()
    for shard in raw["shards"]:
        shard["zip_data"] = shard["compression"] = None
    other["shards"][0]["raw_data"]["hashes"]["sha1"] = "ff"
    contents = [parse(tree).shard(0).content for tree in (packed, raw, other)]
    assert contents[0] == contents[1] != contents[2]
    assert parse(packed).shard(1).content != contents[0]


def test_without_hashes_the_identity_is_name_size_and_samples() -> None:
    contents = set()
    for change in ({}, {"basename": "x.mds"}, {"bytes": 7}, {"samples": 7}):
        tree = make_tree()
        raw = tree["shards"][0]["raw_data"]
        raw["hashes"] = {}
        raw |= {name: value for name, value in change.items() if name != "samples"}
        tree["shards"][0] |= {name: value for name, value in change.items() if name == "samples"}
        contents.add(parse(tree).shard(0).content)
    assert len(contents) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compression", "zstd:4"),
        ("size_limit", 5),
        ("column_names", ["n", "t"]),
        ("column_encodings", ["int", "json"]),
        ("column_sizes", [8, 8]),
    ],
)
def test_shards_that_differ_are_of_different_groups(name: str, value: object) -> None:
    tree = make_tree()
    tree["shards"].append(copy.deepcopy(tree["shards"][1]))
    tree["shards"][2]["zip_data"]["basename"] = "other"
    tree["shards"][1][name] = value
    assert [len(group) for group in parse(tree).groups] == [1, 1, 1]


def test_shards_with_other_hashes_are_of_another_group() -> None:
    tree = make_tree()
    tree["shards"][1]["zip_data"]["hashes"] = {"md5": "c"}
    assert [group.hashes for group in parse(tree).groups] == [{"sha1": ["b0"]}, {"md5": ["c"]}]


def test_a_merged_index_has_its_folders() -> None:
    index = parse(golden("merged/index.json"))
    assert [index.shard(number).basename for number in range(2)] == [
        "part-0/shard.00000.mds",
        "part-1/shard.00000.mds.gz",
    ]


@pytest.mark.parametrize(
    ("name", "format_name", "options", "compression", "basename"),
    [
        ("json", "jsonl", {"newline": "\n"}, "zstd:7", "shard.00000.json.zstd"),
        ("csv", "csv", {"separator": ",", "newline": "\r\n"}, None, "shard.00000.csv"),
        ("tsv", "tsv", {"separator": "\t", "newline": "\n"}, "gz", "shard.00000.tsv.gz"),
        ("xsv", "xsv", {"separator": "|", "newline": "\n"}, None, "shard.00000.xsv"),
    ],
)
def test_text_is_read_with_what_its_format_needs(
    name: str, format_name: str, options: Tree, compression: str | None, basename: str
) -> None:
    shard = parse(golden(f"text/{name}.index.json")).shard(0)
    assert (shard.format, shard.compression, shard.basename) == (format_name, compression, basename)
    assert shard.options == {"layout": "mosaic", **options}
    assert dict(shard.columns) == {"n": "int", "text": "str"}
    assert shard.num_samples == 5


def test_an_index_of_no_shards_is_read() -> None:
    index = parse({"version": 2, "shards": []})
    assert (index.num_shards, index.num_samples) == (0, 0)


def test_a_version_2_index_survives_as_version_3() -> None:
    index = parse(make_tree())
    again = parse_index(index.to_json(), "index.json")
    assert [again.shard(number) for number in range(2)] == [index.shard(number) for number in range(2)]


# What is refused ------------------------------------------------------------------------------------------------------


def first(change: Callable[[Tree], object]) -> Callable[[Tree], object]:
    return lambda tree: change(tree["shards"][0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: tree.pop("shards"), "shards is NoneType, expected a list"),
        (lambda tree: tree.update(shards={}), "shards is dict, expected a list"),
        (lambda tree: tree["shards"].append(None), "shard 2 is NoneType, expected an object"),
        (first(lambda shard: shard.update(version=3)), "shard 0: is of version 3, expected 2"),
        (first(lambda shard: shard.pop("format")), "shard 0: format is None, expected text"),
        (first(lambda shard: shard.update(format="parquet")), "format is 'parquet', expected one of: mds, json, csv"),
        (first(lambda shard: shard.update(compression=None)), "has a compressed form (zip_data), but no compression"),
        (first(lambda shard: shard.update(compression=7)), "compression is int"),
        (first(lambda shard: shard.update(size_limit=[])), "size_limit is list"),
        (first(lambda shard: shard.pop("raw_data")), "raw_data is no object with basename, bytes and hashes"),
        (first(lambda shard: shard.update(zip_data=[1])), "zip_data is no object with basename, bytes and hashes"),
        (first(lambda shard: shard["zip_data"].pop("bytes")), "zip_data is no object with basename, bytes and hashes"),
        (first(lambda shard: shard["zip_data"].update(basename=1)), "zip_data has a basename that is no text"),
        (first(lambda shard: shard["zip_data"].update(hashes=[])), "or hashes that are no object"),
        (first(lambda shard: shard["zip_data"].update(hashes={"sha1": 1})), "hashes.sha1 holds something else than"),
        (first(lambda shard: shard["zip_data"].update(bytes=-1)), "file_bytes holds a negative number"),
        (first(lambda shard: shard["raw_data"].update(bytes=2**63)), "raw_bytes holds a number beyond 64 bits"),
        (
            first(lambda shard: shard["raw_data"].update(bytes=True)),
            "raw_bytes holds something else than whole numbers",
        ),
        (first(lambda shard: shard.update(samples="1")), "samples holds something else than whole numbers"),
        (first(lambda shard: shard.pop("samples")), "samples holds something else than whole numbers"),
        (first(lambda shard: shard.update(samples=2**63 - 1)), "sums to more than 64 bits"),
        (first(lambda shard: shard["zip_data"].update(basename="../a")), "names the shard '../a'"),
        (first(lambda shard: shard["zip_data"].update(basename="/etc/a")), "names the shard '/etc/a'"),
        (first(lambda shard: shard["zip_data"].update(basename="index.json")), "names the shard 'index.json'"),
        (first(lambda shard: shard["zip_data"].update(basename="shard.1.mds.zstd")), "'shard.1.mds.zstd' twice"),
        (first(lambda shard: shard.update(column_names=["n"])), "are not two lists of one length"),
        (first(lambda shard: shard.update(column_names=["n", "n"])), "or one of them stands there twice"),
        (first(lambda shard: shard.update(column_names=["n", 1])), "column_names are not strings"),
        (first(lambda shard: shard.update(column_encodings=["int", 1])), "columns holds something else than strings"),
        (first(lambda shard: shard.update(column_sizes=[8])), "column_sizes is not a list of 2 sizes"),
        (first(lambda shard: shard.pop("column_sizes")), "column_sizes is not a list of 2 sizes"),
        (first(lambda shard: shard.update(format="json")), "columns is NoneType, expected an object"),
        (first(lambda shard: shard.update(format="xsv", newline="\n")), "separator is None, expected text"),
        (first(lambda shard: shard.update(format="csv", newline="")), "newline is '', expected text"),
    ],
)
def test_what_is_damaged_or_hostile_is_refused(change: Callable[[Tree], object], words: str) -> None:
    tree = make_tree()
    change(tree)
    with pytest.raises(IndexFormatError) as caught:
        parse(tree)
    assert "s3://bucket/index.json" in str(caught.value)
    assert words in str(caught.value)


def test_values_that_are_nested_without_end_are_refused() -> None:
    deep = "[" * 900 + "]" * 900
    text = json.dumps(make_tree()).replace('"sha1": "a0"', f'"sha1": {deep}').replace("[8, null]", deep)
    with pytest.raises(IndexFormatError):
        parse_index(text.encode(), "index.json")


def test_any_damage_is_refused_by_name() -> None:
    """Whatever stands in place of whatever value: an index, or an IndexFormatError."""
    rng = np.random.default_rng(0)
    values = [None, True, -1, 2**70, 1.5, "", "../x", "\ud800", [], {}, [None], {"a": None}, "mds", 2]

    def places(tree: Any) -> list[tuple[Any, Any]]:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
        return [(tree, key) for key in keys] + [place for key in keys for place in places(tree[key])]

    refused = 0
    for _ in range(600):
        tree = make_tree()
        for _ in range(int(rng.integers(1, 3))):
            found = places(tree)
            parent, key = found[int(rng.integers(len(found)))]
            if rng.random() < 0.2:
                del parent[key]
            else:
                parent[key] = values[int(rng.integers(len(values)))]
        try:
            parse(tree)
        except IndexFormatError:
            refused += 1
    assert 300 < refused < 600
