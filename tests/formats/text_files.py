"""Files of text as somebody else left them, and an index that lets them be streamed."""

import contextlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from arrowstream import ipc
from arrowstream.dataset import StreamingDataset
from arrowstream.errors import ArrowStreamError
from arrowstream.format import Description
from arrowstream.index import INDEX_NAME, Index, Shard, ShardGroup
from arrowstream.registry import load_format

GOLDEN = Path(__file__).parents[1] / "golden" / "text"


def describe(format_name: str, text: bytes | str, **options: Any) -> Description:
    file = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return load_format(format_name).describe(file, options)


def rows_of(format_name: str, text: bytes | str, directory: Path, **options: Any) -> list[dict[str, Any]]:
    """Describe a text, lay it down as a dataset of one file, and give the samples of that."""
    found = describe(format_name, text, **options)
    index_files(directory, format_name, [text], columns=found.columns, num_samples=[found.num_samples], **found.options)
    return samples_of(directory)


def index_files(
    directory: Path,
    format_name: str,
    texts: Sequence[bytes | str],
    *,
    columns: Mapping[str, str],
    num_samples: Sequence[int],
    **options: Any,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    names = [f"{number}.txt" for number in range(len(texts))]
    contents = [text.encode() if isinstance(text, str) else text for text in texts]
    for name, content in zip(names, contents, strict=True):
        (directory / name).write_bytes(content)
    sizes = np.array([len(content) for content in contents])
    group = ShardGroup(
        format=format_name,
        columns=columns,
        compression=None,
        size_limit=None,
        basename=names,
        num_samples=np.array(num_samples),
        raw_bytes=sizes,
        file_bytes=sizes,
        content=[xxhash.xxh3_64_hexdigest(content) for content in contents],
        options=options,
    )
    (directory / INDEX_NAME).write_bytes(Index(groups=(group,)).to_json())


def dataset_of(directory: Path, **arguments: Any) -> StreamingDataset:
    return StreamingDataset(remote=directory, local=directory / "cache", **arguments)


def samples_of(directory: Path, **arguments: Any) -> list[dict[str, Any]]:
    dataset = dataset_of(directory, **arguments)
    return [dataset[number] for number in range(dataset.size)]


def golden_shards(name: str) -> list[dict[str, Any]]:
    shards: list[dict[str, Any]] = json.loads((GOLDEN / name / "index.json").read_text())["shards"]
    return shards


def golden_texts(name: str) -> list[bytes]:
    return [(GOLDEN / name / shard["raw_data"]["basename"]).read_bytes() for shard in golden_shards(name)]


# What tests/golden/text/record.py gave to mosaicml-streaming.
_TEXTS = ["plain", "", "été", "a\rb", ' "quoted" ', "日本", "semi;colon", "x"]
_RATIOS = [0.1, -0.0, 1e300, 1e-320, float("inf"), float("-inf"), 2.0, 1 / 3]
GOLDEN_SAMPLES = [
    {"count": (-1) ** number * 3**number, "ratio": _RATIOS[number % 8], "text": _TEXTS[number % 8]}
    for number in range(40)
]


def shard_of_text(
    format_name: str,
    text: bytes,
    num_samples: int,
    columns: Mapping[str, str],
    options: Mapping[str, Any] | None = None,
) -> Shard:
    """What an index would say of a text."""
    return Shard(
        basename=f"a.{format_name}",
        num_samples=num_samples,
        raw_bytes=len(text),
        file_bytes=len(text),
        content="0" * 16,
        hashes={},
        format=format_name,
        compression=None,
        columns=columns,
        options=options or {},
    )


def transcode(text: bytes, shard: Shard, folder: Path) -> None:
    (folder / "source").write_bytes(text)
    load_format(shard.format).transcode(folder / "source", folder / "target", shard)
    ipc.validate(ipc.open_file(folder / "target"), folder / "target", shard.num_samples)


def times_refused(text: bytes, shard: Shard, folder: Path, *, times: int) -> int:
    """Flip bits of a text and cut some of it off, and count how often that is noticed; other errors come through."""
    rng = random.Random(5)
    refused = 0
    for number in range(times):
        damaged = bytearray(text)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        if number % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        try:
            transcode(bytes(damaged), shard, folder)
        except ArrowStreamError:
            refused += 1
        with contextlib.suppress(ArrowStreamError):
            describe(shard.format, bytes(damaged))
    return refused
