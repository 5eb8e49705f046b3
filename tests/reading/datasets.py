"""Small real datasets: what is in them is known, and several shards or record batches hold it."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream import MDSWriter, ipc
from arrowstream.dataset import StreamingDataset
from arrowstream.hashing import hash_file
from arrowstream.index import INDEX_NAME, PRIVATE_FOLDER, Index, ShardGroup, parse_index

COLUMNS = {"id": "int", "text": "str", "vector": "ndarray:float32:4"}
#: About 20 samples a shard.
SIZE_LIMIT = 8192


def sample(number: int, salt: str = "") -> dict[str, Any]:
    """Make up one sample; `salt` of the same length gives other data of the same size."""
    text = f"{salt}{number:05d} " + "é" * (50 + number % 50)
    return {"id": number, "text": text, "vector": np.arange(4, dtype=np.float32) + number}


def write_samples(out: Path, num_samples: int = 100, *, first: int = 0, salt: str = "", **arguments: Any) -> Path:
    with MDSWriter(out=out, columns=COLUMNS, **{"size_limit": SIZE_LIMIT, **arguments}) as writer:
        for number in range(first, first + num_samples):
            writer.write(sample(number, salt))
    return out


def write_large_rows(out: Path, num_samples: int = 48, *, row_bytes: int = 1 << 17, **arguments: Any) -> Path:
    """Write one shard of several record batches: a record batch is about 1 MiB."""
    columns = {"id": "int", "noise": f"ndarray:uint8:{row_bytes}"}
    with MDSWriter(out=out, columns=columns, size_limit=None, **arguments) as writer:
        for number in range(num_samples):
            writer.write({"id": number, "noise": noise(number, row_bytes)})
    return out


def noise(number: int, num_bytes: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, num_bytes, np.uint8)


def assert_is_sample(found: Mapping[str, Any], number: int, salt: str = "") -> None:
    expected = sample(number, salt)
    assert found.keys() == expected.keys()
    assert (found["id"], found["text"]) == (expected["id"], expected["text"])
    assert found["vector"].dtype == np.float32
    assert found["vector"].tolist() == expected["vector"].tolist()


def assert_holds(dataset: StreamingDataset, num_samples: int, salt: str = "") -> None:
    assert dataset.size == num_samples
    for number in range(num_samples):
        assert_is_sample(dataset[number], number, salt)


def ids(samples: Any) -> list[int]:
    """Give the ids of samples, or of the batches of a loader, in their order."""
    return [number for each in samples for number in np.atleast_1d(np.asarray(each["id"])).tolist()]


def deliver(loader: Iterable[Any]) -> Iterator[Any]:
    """Give a loader's batches, and end its workers at once where one of them fails.

    Torch leaves that to the garbage collector, which finds the iterator in a cycle with the error, takes its queues
    apart first, and then has it wait 10 seconds for workers that nobody told to end.
    """
    iterator = iter(loader)
    try:
        yield from iterator
    finally:
        getattr(iterator, "_shutdown_workers", lambda: None)()


def shard_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("shard.*"))


def temporaries(cache: Path) -> list[Path]:
    return sorted((cache / PRIVATE_FOLDER / "tmp").glob("*"))


def states(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Tell which files there are, and what would give away that one was replaced or changed."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            status = Path(folder, name).stat()
            found[os.path.relpath(Path(folder, name), directory)] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def read_index(directory: Path) -> Index:
    return parse_index((directory / INDEX_NAME).read_bytes(), str(directory))


def write_by_hand(
    directory: Path,
    schema: pa.Schema,
    batches: list[pa.RecordBatch],
    *,
    columns: Mapping[str, str],
    damage: Callable[[Path], None] | None = None,
    **changes: Any,
) -> Path:
    """Write a dataset of one shard that no writer would write: damaged, yet with an index that fits its bytes.

    Args:
        directory: Where to.
        schema: Of the shard, as it is.
        batches: Of the shard, as they are.
        columns: What the index says of the columns.
        damage: Changes the file before its length and its hash are taken.
        changes: Fields of the index that are to be something else.
    """
    directory.mkdir()
    path = directory / "shard.00000.arrow"
    content = ipc.write_file(path, schema, batches)
    if damage is not None:
        damage(path)
    num_bytes = path.stat().st_size
    fields = {
        "format": "mds",
        "columns": columns,
        "compression": None,
        "size_limit": None,
        "basename": [path.name],
        "num_samples": np.array([sum(batch.num_rows for batch in batches)]),
        "raw_bytes": np.array([num_bytes]),
        "file_bytes": np.array([num_bytes]),
        "content": [content],
        "hashes": {name: [digest] for name, digest in hash_file(path, ["xxh3_64"]).items()},
    }
    index = Index(groups=(ShardGroup(**{**fields, **changes}),))
    (directory / INDEX_NAME).write_bytes(index.to_json())
    return directory
