"""Index version 2, that of mosaicml-streaming: one JSON object a shard.

Reading turns it into the tree of a version 3 index, which is then held to the same checks; writing goes the other way.
mosaicml-streaming's ``mds`` (rows) is ``mosaic`` here, where ``mds`` is an Arrow file; its ``json`` is ``jsonl``.

Each shard has a raw file and perhaps a compressed one, of which only the second exists in the remote: that one is what
is transported. Text has a further file with offsets (``.meta``), which is not needed to read it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import xxhash

from arrowstream.errors import IndexFormatError

if TYPE_CHECKING:
    from arrowstream.index import ShardGroup

Tree = dict[str, Any]

VERSION = 2
#: Names of formats there -> here.
_FORMATS = {"mds": "mosaic", "json": "jsonl", "csv": "csv", "tsv": "tsv", "xsv": "xsv"}
_SEPARATORS = {"csv": ",", "tsv": "\t"}
_MOSAIC = "mosaic"
# What shards of one group have in common.
_COMMON = (
    "format",
    "compression",
    "size_limit",
    "column_names",
    "column_encodings",
    "column_sizes",
    "columns",
    "separator",
    "newline",
)


def upgraded(tree: Mapping[str, Any], source: str) -> Tree:
    """Turn the tree of a version 2 index into that of a version 3 index, where consecutive like shards are a group.

    Args:
        tree: The JSON object.
        source: Where it came from; errors name it.

    Raises:
        IndexFormatError: It lacks a field, or has one of another type. Names and numbers of the shards are not checked.
    """
    shards = tree.get("shards")
    if not isinstance(shards, list):
        raise IndexFormatError(f"{source}: shards is {type(shards).__name__}, expected a list")
    for number, shard in enumerate(shards):
        if not isinstance(shard, dict):
            raise IndexFormatError(f"{source}: shard {number} is {type(shard).__name__}, expected an object")
    groups = []
    first = 0
    try:
        for like in _runs(shards):
            groups.append(_group(like, first, source))
            first += len(like)
    except RecursionError as error:
        raise IndexFormatError(f"{source}: shard {first}: holds values that are nested too deeply") from error
    return {"version": 3, "groups": groups, "metadata": {}}


def to_json(groups: Iterable["ShardGroup"]) -> bytes:
    """Write an index of version 2 as mosaicml-streaming does, byte for byte.

    Args:
        groups: Of the format ``mosaic``, each with ``raw_hashes``.

    Raises:
        ValueError: A group is of another format.
    """
    shards: list[Tree] = []
    for group in groups:
        if group.format != _MOSAIC:
            raise ValueError(f"an index of version {VERSION} holds shards of the format mosaic, not {group.format!r}")
        shards += _shards_of(group)
    return json.dumps({"shards": shards, "version": VERSION}, sort_keys=True).encode()


# Reading --------------------------------------------------------------------------------------------------------------


def _runs(shards: list[Tree]) -> Iterator[list[Tree]]:
    """Split shards where one differs from the one before it in what a group has in common."""
    starts: list[int] = []
    before: tuple[Any, ...] | None = None
    for number, shard in enumerate(shards):
        # Compared, and not hashed: they hold lists.
        now = (*map(shard.get, _COMMON), bool(shard.get("zip_data")), _hash_names(shard))
        if now != before:
            starts.append(number)
            before = now
    for start, stop in pairwise([*starts, len(shards)]):
        yield shards[start:stop]


def _hash_names(shard: Tree) -> tuple[Any, Any]:
    return _keys(shard.get("raw_data")), _keys(shard.get("zip_data"))


def _keys(file: Any) -> Any:
    hashes = file.get("hashes") if isinstance(file, dict) else None
    return hashes.keys() if isinstance(hashes, dict) else None


def _group(shards: list[Tree], first: int, source: str) -> Tree:
    where = f"{source}: shard {first}"
    head = shards[0]
    if head.get("version", VERSION) != VERSION:
        raise IndexFormatError(f"{where}: is of version {head['version']!r}, expected {VERSION}")
    name = _text(head, "format", where)
    if name not in _FORMATS:
        raise IndexFormatError(f"{where}: its format is {name!r}, expected one of: {', '.join(_FORMATS)}")
    compression = head.get("compression") or None
    is_packed = bool(head.get("zip_data"))
    if is_packed and compression is None:
        raise IndexFormatError(f"{where}: has a compressed form (zip_data), but no compression")
    columns = _columns(head, where)
    raws = [_file(shard, "raw_data", f"{source}: shard {first + i}") for i, shard in enumerate(shards)]
    files = [_file(shard, "zip_data", f"{source}: shard {first + i}") for i, shard in enumerate(shards)]
    files = files if is_packed else raws
    samples = [shard.get("samples") for shard in shards]
    size_limit = head.get("size_limit")
    return {
        "format": _FORMATS[name],
        "columns": columns,
        "compression": compression if is_packed else None,
        # Early releases wrote what the user gave, also "64mb"; nobody reads it.
        "size_limit": None if isinstance(size_limit, str) else size_limit,
        "options": _options(name, head, columns, where),
        "shards": {
            "basename": [file["basename"] for file in files],
            "samples": samples,
            "raw_bytes": [raw["bytes"] for raw in raws],
            "file_bytes": [file["bytes"] for file in files],
            "content": [_identity(raw, count) for raw, count in zip(raws, samples, strict=True)],
            "hashes": _digests(files),
            "raw_hashes": _digests(raws),
        },
    }


def _columns(head: Tree, where: str) -> dict[str, Any]:
    """Give the encodings by column name, in the order in which the values lie in a row."""
    if head["format"] == "json":
        columns = head.get("columns")
        if not isinstance(columns, dict):
            raise IndexFormatError(f"{where}: columns is {type(columns).__name__}, expected an object")
        return columns
    names, encodings = head.get("column_names"), head.get("column_encodings")
    if not isinstance(names, list) or not isinstance(encodings, list) or len(names) != len(encodings):
        raise IndexFormatError(f"{where}: column_names and column_encodings are not two lists of one length")
    if not set(map(type, names)) <= {str} or len(set(names)) < len(names):
        raise IndexFormatError(f"{where}: column_names are not strings, or one of them stands there twice")
    return dict(zip(names, encodings, strict=True))


def _options(name: str, head: Tree, columns: dict[str, Any], where: str) -> Tree:
    if name == "mds":
        sizes = head.get("column_sizes")
        if not isinstance(sizes, list) or len(sizes) != len(columns):
            raise IndexFormatError(f"{where}: column_sizes is not a list of {len(columns)} sizes, one a column")
        return {"column_sizes": dict(zip(columns, sizes, strict=True))}
    newline = _text(head, "newline", where)
    if name == "json":
        return {"layout": _MOSAIC, "newline": newline}
    separator = _SEPARATORS.get(name) or _text(head, "separator", where)
    return {"layout": _MOSAIC, "separator": separator, "newline": newline}


def _text(head: Tree, name: str, where: str) -> str:
    value = head.get(name)
    if not isinstance(value, str) or not value:
        raise IndexFormatError(f"{where}: {name} is {value!r}, expected text")
    return value


def _file(shard: Tree, name: str, where: str) -> Tree:
    file = shard.get(name)
    if name == "zip_data" and not file:
        return {}
    if not isinstance(file, dict) or not file.keys() >= {"basename", "bytes", "hashes"}:
        raise IndexFormatError(f"{where}: {name} is no object with basename, bytes and hashes")
    if not isinstance(file["basename"], str) or not isinstance(file["hashes"], dict):
        raise IndexFormatError(f"{where}: {name} has a basename that is no text, or hashes that are no object")
    return file


def _digests(files: list[Tree]) -> dict[str, list[Any]]:
    return {name: [file["hashes"][name] for file in files] for name in files[0]["hashes"]}


def _identity(raw: Tree, num_samples: Any) -> str:
    """Give what tells the rows of a shard from all others: the hashes of its raw file, or the next best.

    Both are the same whether the shard is compressed or not.
    """
    said = sorted(raw["hashes"].items(), key=itemgetter(0)) or [raw["basename"], raw["bytes"], num_samples]
    return xxhash.xxh3_64_hexdigest(repr(said).encode("utf-8", "surrogatepass"))


# Writing --------------------------------------------------------------------------------------------------------------


def _shards_of(group: "ShardGroup") -> Iterator[Tree]:
    sizes = group.options.get("column_sizes", {})
    codec = (group.compression or "").partition(":")[0]
    for number, name in enumerate(group.basename):
        raw = {
            "basename": name.removesuffix(f".{codec}"),
            "bytes": int(group.raw_bytes[number]),
            "hashes": {name: digests[number] for name, digests in group.raw_hashes.items()},
        }
        packed = {
            "basename": name,
            "bytes": int(group.file_bytes[number]),
            "hashes": {name: digests[number] for name, digests in group.hashes.items()},
        }
        yield {
            "column_encodings": [group.columns[column] for column in sizes],
            "column_names": list(sizes),
            "column_sizes": list(sizes.values()),
            "compression": group.compression,
            "format": "mds",
            "hashes": sorted(group.hashes),
            "raw_data": raw,
            "samples": int(group.num_samples[number]),
            "size_limit": group.size_limit,
            "version": VERSION,
            "zip_data": packed if codec else None,
        }
