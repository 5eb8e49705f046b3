"""Damages shards and indexes of every format and streams them: ``python -m benchmarks.fuzz --num-mutations 10000``.

Each mutation is drawn from its number alone, so that ``--first NUMBER --num-mutations 1`` repeats one. They run in
child processes whose address space is limited. A finding is what takes longer than the deadline, ends the process,
raises what is not an error of arrowstream, allocates more than a small file may, or gives other samples than were
written although a hash vouches for them; then the exit status is 1.
"""

import argparse
import contextlib
import copy
import json
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.dataset import StreamingDataset
from arrowstream.errors import ArrowStreamError
from arrowstream.indexing import index_files
from arrowstream.registry import load_format
from arrowstream.stream import Stream
from arrowstream.verifying import verify
from arrowstream.writer import writer_of

#: Seconds that one mutation may take, and bytes: beside what the process had mapped before, and in Arrow's pool.
DEADLINE_S = 20.0
ADDRESS_BYTES = 3 << 30
POOL_BYTES = 256 << 20
_NUM_SAMPLES = 60

_PLAIN = {"id": "int64", "score": "float64", "text": "str"}
_RICH = {
    **_PLAIN,
    "bytes": "bytes",
    "tensor": "ndarray:float32:2,2",
    "ragged": "ndarray:int16",
    "any": "ndarray",
    "record": "json",
}
_ARROW = {
    **_PLAIN,
    "nested": pa.struct({"a": pa.list_(pa.int64()), "b": pa.map_(pa.string(), pa.int32())}),
    "kind": pa.dictionary(pa.int32(), pa.string()),
    "when": pa.timestamp("us", "UTC"),
    "price": pa.decimal128(12, 2),
}
#: Name -> format, columns, further arguments of its writer.
CORPORA: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    "mds": ("mds", _RICH, {}),
    "mds of Arrow types": ("mds", _ARROW, {}),
    "mds zstd": ("mds", _RICH, {"compression": "zstd"}),
    "mds gz": ("mds", _PLAIN, {"compression": "gz"}),
    "mosaic": ("mosaic", {**_RICH, "score": "float64"}, {}),
    "mosaic zstd": ("mosaic", _RICH, {"compression": "zstd"}),
    "mosaic br": ("mosaic", _PLAIN, {"compression": "br"}),
    "parquet": ("parquet", _RICH, {}),
    "parquet of Arrow types": ("parquet", _ARROW, {"compression": "zstd"}),
    "csv": ("csv", _PLAIN, {}),
    "csv bz2": ("csv", _PLAIN, {"compression": "bz2"}),
    "tsv": ("tsv", _PLAIN, {}),
    "xsv in mosaic's layout": ("xsv", _PLAIN, {"separator": "||", "newline": "--\n"}),
    "jsonl": ("jsonl", {**_PLAIN, "record": "json"}, {}),
    "jsonl snappy": ("jsonl", _PLAIN, {"compression": "snappy"}),
    "arrow": ("arrow", _ARROW, {}),
    "arrow stream": ("arrow", _ARROW, {"stream": True}),
}
#: What a value of an index is replaced by.
_HOSTILE: tuple[Any, ...] = (
    *(None, True, [], {}, "", "x", -1, 0, 1, 2**31, 2**63, 2**64, 10**30, 1e308, float("nan"), float("inf"), 0.5),
    *("../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "index.json", ".arrowstream/tmp", "x" * 100_000, "%s" * 20),
    *([[[[]]]], [1] * 1000, {"a": {"b": {}}}, "ndarray:float64:1000000,1000000", "list<item: int64>", "pkl", "zstd:99"),
    *("gz", "br", "snappy", "int8", "str", "json", "jpeg", "list[png]", "parquet", "mds", "mosaic", "csv", "jsonl"),
)


def write_corpora(root: Path) -> None:
    """Write a small dataset of each kind."""
    for name, (kind, columns, arguments) in CORPORA.items():
        out = root / name
        samples = [_sample(columns, number) for number in range(_NUM_SAMPLES)]
        if kind == "arrow":
            _write_arrow(out, columns, samples, stream="stream" in arguments)
            continue
        with writer_of(kind)(out=out, columns=columns, size_limit=4096, **arguments) as writer:
            for sample in samples:
                writer.write(sample)


def _write_arrow(out: Path, columns: Mapping[str, Any], samples: list[dict[str, Any]], *, stream: bool) -> None:
    out.mkdir()
    names = {"int64": pa.int64(), "float64": pa.float64(), "str": pa.string()}
    schema = pa.schema([(name, names[kind] if isinstance(kind, str) else kind) for name, kind in columns.items()])
    table = pa.Table.from_pylist(samples, schema).unify_dictionaries()
    for number in range(3):
        path, part = out / f"{number}.arrow", table.slice(20 * number, 20)
        with (pa.ipc.new_stream if stream else pa.ipc.new_file)(str(path), schema) as writer:
            writer.write_table(part, max_chunksize=7)
    index_files(out, hashes=["xxh3_64"])


def _sample(columns: Mapping[str, Any], number: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": number,
        "score": number / 7,
        "text": ["", 'with "quotes", commas', "ß " * 9, "plain"][number % 4],
        "bytes": bytes([number]) * (number % 9),
        "tensor": np.full((2, 2), number, np.float32),
        "ragged": np.arange(number % 5 + 1, dtype=np.int16),
        "any": np.arange(number % 4 + 1, dtype=[np.uint8, np.float64][number % 2]),
        "record": {"a": [number, None, "x"]},
        "nested": {"a": [1] * (number % 3), "b": [("k", number)]},
        "kind": "ab"[number % 2],
        "when": 10**15 + number,
        "price": None,
    }
    return {name: values[name] for name in columns}


# Damage ---------------------------------------------------------------------------------------------------------------


def damage_bytes(contents: bytes, chance: random.Random) -> bytes:
    """Flip bits, overwrite, cut off, cut out, double or move a part, or write a hostile length somewhere."""
    damaged = bytearray(contents)
    for _ in range(chance.choice([1, 1, 1, 2, 5, 20])):
        if not damaged:
            break
        # The ends of files hold their magic numbers and footers, their beginnings headers and offsets.
        size = len(damaged)
        start = chance.choice(
            [chance.randrange(size), chance.randrange(min(size, 64)), size - 1 - chance.randrange(min(size, 400))]
        )
        length = chance.choice([1, 2, 4, 8, 64, 500])
        match chance.randrange(7):
            case 0:
                damaged[start] ^= 1 << chance.randrange(8)
            case 1:
                damaged[start : start + length] = chance.choice([b"\xff", b"\0", b"\x7f", b"["]) * length
            case 2:
                del damaged[start:]
            case 3:
                del damaged[start : start + length]
            case 4:
                damaged[start:start] = damaged[start : start + length] * chance.choice([1, 1, 100])
            case 5:
                other = chance.randrange(size)
                damaged[start : start + length] = damaged[other : other + length]
            case _:
                number = chance.choice(
                    [-1, 0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, chance.getrandbits(63)]
                )
                width = chance.choice([4, 8])
                damaged[start : start + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(damaged)


def damage_tree(tree: Any, chance: random.Random) -> Any:
    """Replace, remove or double values of a JSON tree."""
    for _ in range(chance.choice([1, 1, 2, 4])):
        places: list[tuple[Any, Any]] = []
        _places(tree, places)
        parent, key = chance.choice(places)
        kind = chance.randrange(5)
        if kind == 0 and isinstance(parent, dict):
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif kind == 2 and isinstance(parent[key], int):
            parent[key] += chance.choice([-1, 1, 1000, 2**40, -(2**40)])
        else:
            parent[key] = copy.deepcopy(chance.choice(_HOSTILE))
        if not tree:
            break
    return tree


def _places(node: Any, found: list[tuple[Any, Any]]) -> None:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in list(children):
        found.append((node, key))
        _places(child, found)


# One mutation ---------------------------------------------------------------------------------------------------------


def try_one(number: int, corpora: Path, scratch: Path) -> str:
    """Make one mutation, stream what became of it, and say how that went.

    Raises:
        AssertionError: It gave other samples than were written, or took too much memory.
        Exception: What is not an error of arrowstream.
    """
    chance = random.Random(number)
    name = list(CORPORA)[number % len(CORPORA)]
    folder = Path(shutil.copytree(corpora / name, scratch / str(number)))
    vouched = False
    try:
        index_path = folder / "index.json"
        match chance.randrange(4):
            case 0:
                what = "index, bytes"
                index_path.write_bytes(damage_bytes(index_path.read_bytes(), chance))
            case 1:
                what = "index, values"
                index_path.write_text(json.dumps(damage_tree(json.loads(index_path.read_text()), chance)))
            case kind:
                what = "shard, hashes kept" if kind == 2 else "shard, hashes taken out"
                path = chance.choice(sorted(set(folder.iterdir()) - {index_path}))
                path.write_bytes(damage_bytes(path.read_bytes(), chance))
                vouched = kind == 2
                tree = json.loads(index_path.read_text())
                _forgive(tree, path, hashes=vouched)
                index_path.write_text(json.dumps(tree))
        pool = pa.default_memory_pool()
        before = pool.bytes_allocated()
        mode = chance.choice(list(_MODES))
        try:
            found = _MODES[mode](folder, scratch / f"{number}.cache")
            outcome = "read"
            # In place, a checksum vouches for the rows alone, and for nothing where the files are foreign.
            if found is not None and vouched and mode == "cached":
                assert [_plain(sample) for sample in found] == _expected(corpora / name), (
                    "other samples than were written"
                )
        except ArrowStreamError as error:
            str(error)
            outcome = type(error).__name__
        assert pool.max_memory() <= before + POOL_BYTES, f"{pool.max_memory():,} bytes were allocated at once"
        return f"{name} | {what} | {mode} | {outcome}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(scratch / f"{number}.cache", ignore_errors=True)


def _forgive(tree: Any, path: Path, *, hashes: bool) -> None:
    """Let an index say the length that a file has now, and perhaps no hashes."""
    for group in tree.get("groups", []):
        shards = group["shards"]
        if not hashes:
            shards["hashes"] = {}
        if path.name in shards["basename"]:
            shards["file_bytes"][shards["basename"].index(path.name)] = path.stat().st_size
    for shard in tree.get("shards", []):
        for file in filter(None, (shard["raw_data"], shard["zip_data"])):
            if not hashes:
                file["hashes"] = {}
            if file["basename"] == path.name:
                file["bytes"] = path.stat().st_size


def _cached(folder: Path, local: Path) -> list[Any]:
    return list(StreamingDataset(remote=folder, local=local, download_retry=1))


def _in_place(folder: Path, local: Path) -> list[Any]:
    del local
    dataset = StreamingDataset(local=folder)
    return [dataset[number] for number in range(min(dataset.size, 1000))]


def _by_id(folder: Path, local: Path) -> None:
    dataset = StreamingDataset(remote=folder, local=local, random_access="record_batch", download_retry=1)
    size = dataset.size
    for number in [0, size - 1, size // 2] if size else []:
        dataset[number]
    if size:
        dataset.take([0, size - 1])


def _batches(folder: Path, local: Path) -> None:
    for form in ("numpy", "arrow"):
        dataset = StreamingDataset(remote=folder, local=local, download_retry=1)
        for _ in dataset.batches(7, columns=["id", "text"], as_=form):
            pass


def _shuffled(folder: Path, local: Path) -> None:
    dataset = StreamingDataset(remote=folder, local=local, shuffle=True, batch_size=5, cache_limit="1mb")
    if dataset.size <= 10_000:
        for _ in dataset:
            pass


def _described(folder: Path, local: Path) -> None:
    del local
    for path in sorted(folder.iterdir()):
        kind = load_format(CORPORA[folder_kind(folder)][0])
        with path.open("rb") as file, contextlib.suppress(NotImplementedError):
            kind.describe(file, {"separator": "|"} if kind.name == "xsv" else {})


def folder_kind(folder: Path) -> str:
    """Name the corpus of a copy by its number."""
    return list(CORPORA)[int(folder.name) % len(CORPORA)]


def _verified(folder: Path, local: Path) -> None:
    del local
    for _ in verify(Stream(remote=str(folder))):
        pass


_MODES: Mapping[str, Callable[[Path, Path], list[Any] | None]] = {
    "cached": _cached,
    "in place": _in_place,
    "by id": _by_id,
    "batches": _batches,
    "shuffled": _shuffled,
    "described": _described,
    "verified": _verified,
}


@cache
def _expected(corpus: Path) -> list[Any]:
    return [_plain(sample) for sample in StreamingDataset(local=corpus)]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return (str(value.dtype), value.tolist()) if isinstance(value, np.ndarray) else value


# Processes ------------------------------------------------------------------------------------------------------------


def _work(numbers: range, corpora: Path, scratch: Path, out: Connection) -> None:
    tempfile.tempdir = str(scratch)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = pages * resource.getpagesize() + ADDRESS_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        out.send((number, None, None))
        try:
            out.send((number, try_one(number, corpora, scratch), None))
        except Exception:  # noqa: BLE001 - a finding, whatever it is
            out.send((number, None, traceback.format_exc()))
    out.send(None)


class Finding(tuple[int, str]):
    """A mutation's number, and what it did."""

    __slots__ = ()


def fuzz(first: int, num_mutations: int, *, jobs: int = 1) -> tuple[Counter[str], list[Finding]]:
    """Try mutations.

    Returns:
        How often each outcome was seen, and the findings.
    """
    outcomes: Counter[str] = Counter()
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="arrowstream-fuzz-") as folder:
        corpora, scratch = Path(folder) / "corpora", Path(folder) / "scratch"
        scratch.mkdir()
        write_corpora(corpora)
        stop = first + num_mutations
        running = [_Child(first + job, stop, jobs, corpora=corpora, scratch=scratch) for job in range(jobs)]
        while running:
            for child in list(running):
                if child.step(outcomes, findings):
                    running.remove(child)
    return outcomes, findings


class _Child:
    """A process at work, begun again behind the mutation that it dies of."""

    def __init__(self, first: int, stop: int, step: int, *, corpora: Path, scratch: Path) -> None:
        self._folders = (corpora, scratch)
        self._stop, self._step = stop, step
        self._start(first)

    def _start(self, first: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._receive, send = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_work, args=(range(first, self._stop, self._step), *self._folders, send), daemon=True
        )
        self._process.start()
        send.close()
        self._current = first
        self._since = time.monotonic() + 30  # what it takes to start

    def step(self, outcomes: Counter[str], findings: list[Finding]) -> bool:
        """Take note of one message, or of none; tell whether it is through."""
        try:
            message = self._receive.recv() if self._receive.poll(0.05) else ()
        except EOFError:
            self._process.join()
            return self._again(findings, f"ended the process ({self._process.exitcode})")
        if message is None:
            self._process.join()
            return True
        if not message:
            if time.monotonic() - self._since > DEADLINE_S:
                self._process.kill()
                self._process.join()
                return self._again(findings, f"took longer than {DEADLINE_S} s")
            return False
        self._current, outcome, trouble = message
        self._since = time.monotonic()
        if outcome is not None:
            outcomes[outcome] += 1
        if trouble is not None:
            findings.append(Finding((self._current, trouble)))
        return False

    def _again(self, findings: list[Finding], trouble: str) -> bool:
        findings.append(Finding((self._current, trouble)))
        following = self._current + self._step
        if following >= self._stop:
            return True
        self._start(following)
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-mutations", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    started = time.monotonic()
    outcomes, findings = fuzz(arguments.first, arguments.num_mutations, jobs=arguments.jobs)
    for title, column in (("corpus", 0), ("damage", 1), ("read", 2), ("outcome", 3)):
        counts: Counter[str] = Counter()
        for outcome, count in outcomes.items():
            counts[outcome.split(" | ")[column]] += count
        print(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common()))
    for number, trouble in findings:
        print(f"\nmutation {number}: {trouble}")
    print(f"\n{outcomes.total():,} as they should be, {len(findings)} findings, {time.monotonic() - started:.0f} s")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
