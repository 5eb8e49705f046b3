"""Real text: sources of the standard library, each a document; their bytes are the tokens."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream import MDSWriter


@cache
def documents() -> list[np.ndarray]:
    """Some sources of different lengths, among them an empty one and one that is longer than most sequences."""
    files = sorted(Path(json.__file__).parents[1].glob("json/*.py")) + sorted(
        Path(json.__file__).parents[1].glob("t*.py")
    )
    texts = [file.read_bytes() for file in files[:12]]
    cut = [text[start : start + size] for text in texts for start, size in ((0, 37), (37, 900), (1000, 210), (2000, 5))]
    return [np.frombuffer(text, np.uint8) for text in [*cut[:7], b"", *cut[7:], texts[1][:2500]]]


def token_column(kind: str) -> tuple[Any, Any]:
    """Give a column's encoding or type, and what makes a document a value of it."""
    return {
        "ndarray": ("ndarray:uint16", lambda tokens: tokens.astype(np.uint16)),
        "list": (pa.list_(pa.int32()), lambda tokens: tokens.tolist()),
        "large_list": (pa.large_list(pa.uint16()), lambda tokens: tokens.tolist()),
        "bytes": ("bytes", lambda tokens: tokens.astype(np.uint16).tobytes()),
        "str": ("str", lambda tokens: tokens.tobytes().decode("ascii", "replace").replace("\ufffd", "?")),
    }[kind]


def write_documents(out: Path, kind: str = "ndarray", *, size_limit: int = 6000, **arguments: Any) -> Path:
    """Write the documents into some shards."""
    column, value = token_column(kind)
    columns = {"name": "str", "tokens": column}
    with MDSWriter(out=out, columns=columns, size_limit=size_limit, **arguments) as writer:
        for number, tokens in enumerate(documents()):
            writer.write({"name": f"document {number}", "tokens": value(tokens)})
    return out


def documents_of_shards(out: Path) -> list[list[int]]:
    """Give the ids of the documents of each shard, as the index counts them."""
    groups = json.loads((out / "index.json").read_text())["groups"]
    counts = [count for group in groups for count in group["shards"]["samples"]]
    ends = np.cumsum(counts).tolist()
    return [list(range(end - count, end)) for count, end in zip(counts, ends, strict=True)]
