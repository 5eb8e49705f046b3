"""An index says what an index must say, or is refused by name."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.errors import IndexFormatError
from arrowstream.index import Index, ShardGroup, parse_index
from tests.reading.datasets import write_samples

Tree = dict[str, Any]


def make_tree() -> Tree:
    """Write down an index of two groups by hand."""
    return {
        "version": 3,
        "groups": [
            {
                "format": "mds",
                "columns": {"image": "jpeg", "label": "int"},
                "compression": "zstd:3",
                "size_limit": 67108864,
                "shards": {
                    "basename": ["a/shard.00000.arrow", "a/shard.00001.arrow"],
                    "samples": [5120, 7],
                    "raw_bytes": [66900000, 9000],
                    "file_bytes": [51000000, 8000],
                    "content": ["00112233445566ff", "8899aabbccddeeff"],
                    "hashes": {"xxh3_64": ["0011", "2233"], "sha1": ["44", "55"]},
                },
            },
            {
                "format": "csv",
                "columns": {},
                "compression": None,
                "size_limit": None,
                "shards": {
                    "basename": ["b.csv"],
                    "samples": [0],
                    "raw_bytes": [0],
                    "file_bytes": [0],
                    "content": [""],
                    "hashes": {},
                },
            },
        ],
        "metadata": {"origin": ["a", 1, None]},
    }


def parse(tree: object) -> Index:
    return parse_index(json.dumps(tree).encode(), "s3://bucket/index.json")


def shards_of(tree: Tree) -> Tree:
    return tree["groups"][0]["shards"]


def assert_refused(tree: object, *words: str) -> None:
    with pytest.raises(IndexFormatError) as caught:
        parse(tree)
    for word in ("s3://bucket/index.json", *words):
        assert word in str(caught.value)


# What is right --------------------------------------------------------------------------------------------------------


def test_every_field_is_read() -> None:
    index = parse(make_tree())
    assert index.metadata == {"origin": ["a", 1, None]}
    assert (index.num_shards, index.num_samples) == (3, 5127)
    assert index.samples_per_shard.tolist() == [5120, 7, 0]
    shard = index.shard(1)
    assert (shard.basename, shard.num_samples, shard.raw_bytes, shard.file_bytes) == (
        "a/shard.00001.arrow",
        7,
        9000,
        8000,
    )
    assert (shard.content, shard.format, shard.compression) == ("8899aabbccddeeff", "mds", "zstd:3")
    assert shard.hashes == {"xxh3_64": "2233", "sha1": "55"}
    last = index.shard(2)
    assert (last.basename, last.num_samples, last.format, last.compression, last.hashes) == (
        "b.csv",
        0,
        "csv",
        None,
        {},
    )


@pytest.mark.parametrize("number", [-1, 3])
def test_a_shard_that_does_not_exist_is_refused(number: int) -> None:
    with pytest.raises(IndexError, match=f"shard {number} of 3"):
        parse(make_tree()).shard(number)


def test_what_is_written_is_read_again() -> None:
    assert json.loads(parse(make_tree()).to_json()) == make_tree()


GROUPS = st.integers(0, 5).flatmap(
    lambda count: st.builds(
        ShardGroup,
        format=st.text(),
        columns=st.dictionaries(st.text(), st.text(), max_size=3),
        compression=st.none() | st.text(),
        size_limit=st.none() | st.integers(0, 2**40),
        basename=st.just([]),  # set below: names are unique in all groups
        num_samples=st.lists(st.integers(0, 2**40), min_size=count, max_size=count).map(np.array),
        raw_bytes=st.lists(st.integers(0, 2**40), min_size=count, max_size=count).map(np.array),
        file_bytes=st.lists(st.integers(0, 2**40), min_size=count, max_size=count).map(np.array),
        content=st.lists(st.text(), min_size=count, max_size=count),
        hashes=st.dictionaries(st.text(), st.lists(st.text(), min_size=count, max_size=count), max_size=2),
    )
)


@given(groups=st.lists(GROUPS, max_size=4), metadata=st.dictionaries(st.text(), st.integers() | st.text()))
def test_any_index_survives_its_text(groups: list[ShardGroup], metadata: dict[str, Any]) -> None:
    groups = [
        ShardGroup(
            **{name: getattr(group, name) for name in group.__slots__ if name != "basename"},
            basename=[f"{place}/{number}.arrow" for number in range(len(group.num_samples))],
        )
        for place, group in enumerate(groups)
    ]
    written = Index(groups=tuple(groups), metadata=metadata)
    read = parse_index(written.to_json(), "index.json")
    assert read.metadata == metadata
    assert [read.shard(number) for number in range(read.num_shards)] == [
        written.shard(number) for number in range(written.num_shards)
    ]
    assert [(group.format, group.columns, group.size_limit) for group in read.groups] == [
        (group.format, group.columns, group.size_limit) for group in groups
    ]
    assert read.to_json() == written.to_json()


def test_a_fingerprint_is_the_texts_own() -> None:
    text = json.dumps(make_tree()).encode()
    assert parse_index(text, "a").fingerprint == parse_index(text, "b").fingerprint != ""
    assert parse_index(text + b" ", "a").fingerprint != parse_index(text, "a").fingerprint


def test_metadata_may_be_left_out() -> None:
    tree = make_tree()
    del tree["metadata"]
    assert parse(tree).metadata == {}


def test_no_group_is_an_empty_dataset() -> None:
    index = parse({"version": 3, "groups": []})
    assert (index.num_shards, index.num_samples, index.samples_per_shard.tolist()) == (0, 0, [])


@pytest.mark.parametrize(
    "name", ["ä/ö.arrow", "a b.arrow", "...", "a..b", ".hidden", "index.json.arrow", "x/index.json"]
)
def test_unusual_names_are_taken(name: str) -> None:
    tree = make_tree()
    shards_of(tree)["basename"][1] = name
    assert parse(tree).shard(1).basename == name


def test_a_million_shards_load() -> None:
    count = 1_000_000
    shards = {
        "basename": [f"{number // 1000:05d}/shard.{number:07d}.arrow" for number in range(count)],
        "samples": [number % 7 for number in range(count)],
        "raw_bytes": [67108864] * count,
        "file_bytes": [50000000 + number for number in range(count)],
        "content": [f"{number:016x}" for number in range(count)],
        "hashes": {"xxh3_64": [f"{number:016x}" for number in range(count)]},
    }
    group = {"format": "mds", "columns": {"a": "int"}, "compression": None, "size_limit": 67108864, "shards": shards}
    index = parse({"version": 3, "groups": [group]})
    assert index.num_shards == count
    assert index.num_samples == sum(shards["samples"])
    shard = index.shard(765_432)
    assert (shard.basename, shard.num_samples) == ("00765/shard.0765432.arrow", 765_432 % 7)
    assert (shard.file_bytes, shard.content) == (50_765_432, "00000000000badf8")


# What is wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["format", "columns", "compression", "size_limit", "shards"])
def test_a_group_without_a_field_is_refused(name: str) -> None:
    tree = make_tree()
    del tree["groups"][1][name]
    assert_refused(tree, "group 1", f"has no {name!r}")


@pytest.mark.parametrize("name", ["basename", "samples", "raw_bytes", "file_bytes", "content", "hashes"])
def test_shards_without_a_field_are_refused(name: str) -> None:
    tree = make_tree()
    del shards_of(tree)[name]
    assert_refused(tree, "group 0", f"has no {name!r}")


def test_an_index_without_groups_is_refused() -> None:
    assert_refused({"version": 3, "metadata": {}}, "has no 'groups'")


@pytest.mark.parametrize("version", [1, 4, "3", None, [3], True])
def test_other_versions_are_refused(version: object) -> None:
    assert_refused({**make_tree(), "version": version}, f"version {version!r}", "reads versions 2 and 3")


def test_no_version_is_refused() -> None:
    tree = make_tree()
    del tree["version"]
    assert_refused(tree, "version None")


@pytest.mark.parametrize("tree", [[], "index", 3, None, True, [make_tree()]])
def test_what_is_no_object_is_refused(tree: object) -> None:
    assert_refused(tree, "version None")


WRONG_TYPES: list[tuple[str, object]] = [
    ("format", 1),
    ("format", None),
    ("columns", []),
    ("columns", {"a": 1}),
    ("columns", {"a": None}),
    ("compression", 3),
    ("compression", True),
    ("size_limit", "64mb"),
    ("size_limit", 1.5),
    ("size_limit", True),
    ("shards", []),
    ("shards", None),
]


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES)
def test_a_field_of_another_type_is_refused(name: str, value: object) -> None:
    tree = make_tree()
    tree["groups"][0][name] = value
    assert_refused(tree, "group 0", name)


@pytest.mark.parametrize("group", [None, [], "mds", 1])
def test_a_group_that_is_no_object_is_refused(group: object) -> None:
    assert_refused({**make_tree(), "groups": [make_tree()["groups"][0], group]}, "group 1", "expected an object")


@pytest.mark.parametrize("groups", [None, {}, "mds", 1])
def test_groups_that_are_no_list_are_refused(groups: object) -> None:
    assert_refused({**make_tree(), "groups": groups}, "groups", "expected list")


@pytest.mark.parametrize("metadata", [None, [], "text", 1, False])
def test_metadata_that_is_no_object_is_refused(metadata: object) -> None:
    assert_refused({**make_tree(), "metadata": metadata}, "metadata", "expected an object")


@pytest.mark.parametrize("name", ["samples", "raw_bytes", "file_bytes"])
@pytest.mark.parametrize("count", [-1, 1.0, True, "1", None, [1], 2**63, 2**64, 10**30, -(2**70), float("nan")])
def test_a_count_that_is_none_is_refused(name: str, count: object) -> None:
    tree = make_tree()
    shards_of(tree)[name][1] = count
    assert_refused(tree, "group 0", name)


@pytest.mark.parametrize("name", ["samples", "raw_bytes", "file_bytes"])
def test_counts_that_sum_to_more_than_64_bits_are_refused(name: str) -> None:
    tree = make_tree()
    shards_of(tree)[name] = [2**62, 2**62]
    assert_refused(tree, "group 0", name)


def test_groups_that_sum_to_more_than_64_bits_are_refused() -> None:
    tree = make_tree()
    shards_of(tree)["samples"] = [2**62, 0]
    tree["groups"][1]["shards"]["samples"] = [2**62]
    assert_refused(tree, "samples")


@pytest.mark.parametrize("name", ["samples", "raw_bytes", "file_bytes", "content"])
@pytest.mark.parametrize("length", [0, 1, 3])
def test_lists_of_different_lengths_are_refused(name: str, length: int) -> None:
    tree = make_tree()
    values = shards_of(tree)[name]
    shards_of(tree)[name] = (values * 2)[:length]
    assert_refused(tree, "group 0", name)


@pytest.mark.parametrize("digests", [["00"], ["00", "11", "22"], [], [1, 2], None, "00", {"0": "00"}, ["00", None]])
def test_hashes_that_are_not_one_a_shard_are_refused(digests: object) -> None:
    tree = make_tree()
    shards_of(tree)["hashes"]["sha1"] = digests
    assert_refused(tree, "group 0", "hashes.sha1")


@pytest.mark.parametrize("name", ["basename", "content"])
@pytest.mark.parametrize("value", [1, None, True, ["a"], {}])
def test_a_text_that_is_none_is_refused(name: str, value: object) -> None:
    tree = make_tree()
    shards_of(tree)[name][0] = value
    assert_refused(tree, "group 0", name)


HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../x.arrow",
    "a/../x.arrow",
    "a/..",
    "./x.arrow",
    "a/./x.arrow",
    "/etc/passwd",
    "//host/share",
    "a//b",
    "a/",
    "a\\b",
    "..\\x",
    "C:",
    "C:x.arrow",
    "c:/x.arrow",
    "x\0.arrow",
    "x\n.arrow",
    "\n",
    "x\n",
    "a\n../x",
    "x\r",
    "x\t",
    "\x1b[2J",
    "half \ud800 of a pair",
    "index.json",
    ".arrowstream",
    ".arrowstream/x",
    "a/.arrowstream/x",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("place", [0, 1])
def test_names_that_leave_the_directory_are_refused(name: str, place: int) -> None:
    tree = make_tree()
    shards_of(tree)["basename"][place] = name
    assert_refused(tree, repr(name), "a relative path inside the dataset's directory")


def test_a_hostile_name_that_stands_alone_is_refused() -> None:
    tree = make_tree()
    tree["groups"] = tree["groups"][1:]
    for name in HOSTILE_NAMES:
        shards_of(tree)["basename"] = [name]
        assert_refused(tree, repr(name))


def test_a_shard_that_is_named_twice_is_refused() -> None:
    tree = make_tree()
    shards_of(tree)["basename"][0] = "b.csv"
    assert_refused(tree, "'b.csv'", "twice")


@pytest.mark.parametrize(
    "text", [b"", b" ", b"shards", b"\xff\xfe\xfd", b"{'version': 3}", b"\x00" * 100, b"[" * 100_000, b"ARROW1\x00\x00"]
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(IndexFormatError, match=r"s3://bucket/index\.json: is not JSON"):
        parse_index(text, "s3://bucket/index.json")


def test_an_index_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    text = (write_samples(tmp_path / "data") / "index.json").read_bytes()
    for length in range(len(text)):
        with pytest.raises(IndexFormatError, match="cut off"):
            parse_index(text[:length], "index.json")


# Everything else ------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Find every place in a tree that can hold something else: its container, and its key or number there."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [place for key in keys for place in [(tree, key), *places(tree[key])]]


@given(data=st.data(), value=JSON, change=st.sampled_from(["replace", "remove", "double"]))
def test_a_changed_index_is_read_or_refused_by_name(data: st.DataObject, value: object, change: str) -> None:
    tree = make_tree()
    container, key = data.draw(st.sampled_from(places(tree)))
    if change == "replace":
        container[key] = value
    elif change == "remove":
        del container[key]
    elif isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    else:
        container[f"{key}{key}"] = container[key]
    assert_read_or_refused(lambda: parse(tree))


@given(data=st.data(), byte=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused_by_name(data: st.DataObject, byte: int) -> None:
    text = bytearray(json.dumps(make_tree()).encode())
    text[data.draw(st.integers(0, len(text) - 1))] = byte
    assert_read_or_refused(lambda: parse_index(bytes(text), "s3://bucket/index.json"))


@given(name=st.text(st.characters(), max_size=12))
def test_a_name_that_is_taken_stays_inside(name: str) -> None:
    tree = make_tree()
    shards_of(tree)["basename"][0] = name
    try:
        parse(tree)
    except IndexFormatError:
        return
    path = Path("/data/set", name)
    assert ".." not in path.parts
    assert path.is_relative_to("/data/set")
    assert path.parts[3:]
    assert path.parts[3] not in (".arrowstream", "")
    path.as_posix().encode()


def assert_read_or_refused(read: Callable[[], Index]) -> None:
    try:
        index = read()
    except IndexFormatError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert index.num_samples == sum(index.shard(number).num_samples for number in range(index.num_shards))
        assert index.num_samples >= 0
    assert refusal == "" or "s3://bucket/index.json" in refusal
