"""Measure a cold epoch from a real S3 server on this machine: nothing is cached, every shard is fetched once.

  python -m benchmarks.cold                                 8 and 64 MiB shards, plain and 20 ms away
  python -m benchmarks.cold --env mosaic=PATH               and beside mosaicml-streaming (a Python or its environment)
  python -m benchmarks.cold --megabytes 128 --rounds 1      does the harness work?

Rows are 8,192 tokens of uint16 and an id, uncompressed. The bare clients (obstore, s3fs) load the very objects that
arrowstream reads, the index too, each as a whole, as many at a time as arrowstream fetches shards, into files, and do
no more: no check, no reading. arrowstream and mosaicml-streaming iterate over all samples in one process without
workers; mosaicml-streaming has shards of its own with the same rows. Each turn is a process of its own, whose imports
are not counted; making a client and its connections is. All take turns, round by round; a ratio is the median of the
rounds'. *First* is the time to the first sample, beside what the bare client needs for the index and one shard. *CPU*
is what the process of the turn took for an epoch, kernel included. *At once* is how many requests were under way
together, where there is a proxy to count them. Files go to a memory file system unless --scratch names another place.

The server, the proxy that adds the 20 ms, and the client share the machine: read the ratios, not the figures.
"""

import argparse
import concurrent.futures
import functools
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arrowstream.prefetch import NUM_THREADS
from benchmarks.environments import interpreter
from benchmarks.peers import get_peer
from tests.faults import Proxy, run_proxy
from tests.servers import S3Server, run_s3

ROW_TOKENS = 8192
COLUMNS = {"id": "int", "tokens": f"ndarray:uint16:{ROW_TOKENS}"}
ROW_BYTES = 2 * ROW_TOKENS + 8
SHARD_BYTES = (8 << 20, 64 << 20)
LATENCY_S = 0.020
BATCH_SIZE = 256  # from which mosaicml-streaming derives how far it looks ahead: 2,048 samples, 32 MiB
TURN_DEADLINE_S = 300
BARE = ("obstore", "s3fs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one process is to load: ``name`` is a bare client or a library."""

    name: str
    bucket: str
    prefix: str
    endpoint: str
    keys: list[str]
    local: str
    num_samples: int


# In a process of its own ----------------------------------------------------------------------------------------------


def play(turn: Turn, options: dict[str, Any]) -> dict[str, float]:
    """Load everything once.

    Returns:
        ``all_s``; the processor's ``cpu_s`` meanwhile; and ``first_s`` to the first sample, of a bare client to the
        end of the first shard.
    """
    if turn.name == "arrowstream":
        return _arrowstream(turn, options)
    connect = _obstore if turn.name == "obstore" else _s3fs

    def load(get: Callable[[str], Any], key: str) -> None:
        with Path(turn.local, key).open("wb", buffering=0) as file:
            rest = memoryview(get(key))
            while rest:
                rest = rest[file.write(rest) :]

    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        begin = time.perf_counter()
        get = connect(turn, options)
        load(get, "index.json")
        load(get, turn.keys[0])
        first_s = time.perf_counter() - begin
        begin, spent = time.perf_counter(), time.process_time()
        get = connect(turn, options)
        load(get, "index.json")
        list(pool.map(functools.partial(load, get), turn.keys))
        all_s = time.perf_counter() - begin
        return {"all_s": all_s, "first_s": first_s, "cpu_s": time.process_time() - spent}


def _import(name: str) -> None:
    """Import what the turn's time is not to include."""
    if name == "arrowstream":
        importlib.import_module("arrowstream.dataset")
    importlib.import_module("s3fs" if name == "s3fs" else "obstore")


def _obstore(turn: Turn, options: dict[str, Any]) -> Callable[[str], Any]:
    import obstore

    store = obstore.store.S3Store(
        turn.bucket,
        prefix=turn.prefix,
        endpoint=turn.endpoint,
        access_key_id=options["key"],
        secret_access_key=options["secret"],
        region="us-east-1",
        client_options={"allow_http": True},
    )
    return lambda key: obstore.get(store, key).bytes()


def _s3fs(turn: Turn, options: dict[str, Any]) -> Callable[[str], Any]:
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True, **{**options, "endpoint_url": turn.endpoint})
    return lambda key: files.cat_file(f"{turn.bucket}/{turn.prefix}/{key}")


def _arrowstream(turn: Turn, options: dict[str, Any]) -> dict[str, float]:
    from arrowstream.dataset import StreamingDataset

    begin, spent = time.perf_counter(), time.process_time()
    dataset = StreamingDataset(
        remote=f"s3://{turn.bucket}/{turn.prefix}",
        local=turn.local,
        storage_options={**options, "endpoint_url": turn.endpoint},
        batch_size=BATCH_SIZE,
    )
    figures = _epoch(dataset, turn.num_samples, begin)
    return {**figures, "cpu_s": time.process_time() - spent}


def _epoch(samples: Any, num_samples: int, begin: float) -> dict[str, float]:
    first_s, total = 0.0, 0
    for number, sample in enumerate(samples):
        first_s = first_s or time.perf_counter() - begin
        total += sample["id"] - number
    all_s = time.perf_counter() - begin
    assert (number + 1, total) == (num_samples, 0), f"{number + 1} of {num_samples} samples"
    return {"all_s": all_s, "first_s": first_s}


MOSAIC = """
import json, sys, time
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory
import numpy as np
job = json.load(sys.stdin)
if job["write"]:
    rng = np.random.default_rng(0)
    with MDSWriter(out=job["local"], columns=job["columns"], size_limit=job["shard_bytes"]) as writer:
        for number in range(job["num_samples"]):
            writer.write({"id": number, "tokens": rng.integers(0, 1 << 16, job["row_tokens"], np.uint16)})
else:
    clean_stale_shared_memory()
    first_s = total = 0
    spent = time.process_time()
    begin = time.perf_counter()
    dataset = StreamingDataset(remote=job["remote"], local=job["local"], batch_size=job["batch_size"])
    for number, sample in enumerate(dataset):
        first_s = first_s or time.perf_counter() - begin
        total += sample["id"] - number
    all_s = time.perf_counter() - begin
    assert (number + 1, total) == (job["num_samples"], 0), (number + 1, total)
    print(json.dumps({"all_s": all_s, "first_s": first_s, "cpu_s": time.process_time() - spent}))
"""


# The data -------------------------------------------------------------------------------------------------------------


def write_rows(out: Path, num_samples: int, shard_bytes: int) -> None:
    """Write shards of tokens as arrowstream's own format."""
    from arrowstream import MDSWriter

    rng = np.random.default_rng(0)
    with MDSWriter(out=out, columns=COLUMNS, size_limit=shard_bytes) as writer:
        for number in range(num_samples):
            writer.write({"id": number, "tokens": rng.integers(0, 1 << 16, ROW_TOKENS, np.uint16)})


def upload(s3: S3Server, directory: Path, prefix: str) -> list[str]:
    """Put a directory into the bucket.

    Returns:
        The keys of its shards.
    """
    from arrowstream.storage import Storage

    storage = Storage(f"s3://{s3.bucket}/{prefix}", options=s3.options)
    keys = sorted(path.name for path in directory.iterdir())
    for key in keys:
        storage.upload(directory / key, key)
    return [key for key in keys if key != "index.json"]


# The rounds -----------------------------------------------------------------------------------------------------------


class Rounds:
    """The figures of all turns at one size of shards and one distance."""

    def __init__(self, s3: S3Server, scratch: Path, mosaic: Path | None) -> None:
        self._s3 = s3
        self._scratch = scratch
        self._mosaic = mosaic
        self.names = [*BARE, "arrowstream", *(["mosaic"] if mosaic else [])]

    def prepare(self, shard_bytes: int, num_samples: int) -> dict[str, list[str]]:
        """Write and upload the rows; gives the keys of the shards by prefix."""
        keys = {}
        for name in ("ours", *(["mosaic"] if self._mosaic else [])):
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                out = Path(folder, "out")
                if name == "ours":
                    write_rows(out, num_samples, shard_bytes)
                else:
                    self._run_mosaic(
                        write=True, local=str(out), shard_bytes=shard_bytes, num_samples=num_samples, columns=COLUMNS,
                        row_tokens=ROW_TOKENS,
                    )  # fmt: skip
                keys[f"{shard_bytes}/{name}"] = upload(self._s3, out, f"{shard_bytes}/{name}")
        return keys

    def play(self, keys: dict[str, list[str]], proxy: Proxy | None, num_samples: int) -> dict[str, dict[str, float]]:
        """Let each have one turn."""
        endpoint = proxy.url if proxy else self._s3.endpoint
        figures = {}
        for name in self.names:
            if proxy:
                proxy.most_at_once = 0
            prefix = next(each for each in keys if each.endswith("/mosaic") == (name == "mosaic"))
            with tempfile.TemporaryDirectory(dir=self._scratch) as local:
                turn = Turn(
                    name=name, bucket=self._s3.bucket, prefix=prefix, endpoint=endpoint, keys=keys[prefix],
                    local=local, num_samples=num_samples,
                )  # fmt: skip
                if name == "mosaic":
                    figures[name] = self._run_mosaic(
                        write=False, endpoint=endpoint, remote=f"s3://{turn.bucket}/{prefix}", local=local,
                        num_samples=num_samples, batch_size=BATCH_SIZE,
                    )  # fmt: skip
                else:
                    job = {"turn": asdict(turn), "options": self._s3.options}
                    figures[name] = json.loads(_run([sys.executable, "-m", "benchmarks.cold", "--turn"], job))
            figures[name]["at_once"] = proxy.most_at_once if proxy else 0
        return figures

    def _run_mosaic(self, *, endpoint: str = "", **job: Any) -> Any:
        environment = {**os.environ, **self._s3.environment(), "S3_ENDPOINT_URL": endpoint}
        said = _run([str(self._mosaic), "-W", "ignore", "-c", MOSAIC], job, environment)
        return None if job["write"] else json.loads(said.splitlines()[-1])


def _run(command: list[str], job: dict[str, Any], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, env=environment, timeout=TURN_DEADLINE_S,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def report(figures: list[dict[str, dict[str, float]]], num_bytes: int, setting: str) -> None:
    """Print the medians of some rounds."""

    def ratio(of: str, to: str, what: str = "all_s") -> float:
        return statistics.median(each[to][what] / each[of][what] for each in figures)

    for name in figures[0]:
        all_s = statistics.median(each[name]["all_s"] for each in figures)
        first_s = statistics.median(each[name]["first_s"] for each in figures)
        line = f"{setting}  {name:12} {num_bytes / all_s / 1e6:7.0f} MB/s  {ratio(name, 'obstore'):5.2f} x obstore"
        line += f"  first {first_s * 1e3:6.0f} ms  {1 / ratio(name, 'obstore', 'first_s'):5.2f} x obstore's"
        line += f"  CPU {statistics.median(each[name]['cpu_s'] for each in figures) / num_bytes * 1e9:5.2f} s/GB"
        if figures[0][name]["at_once"]:
            line += f"  {max(each[name]['at_once'] for each in figures):2.0f} at once"
        if "mosaic" in figures[0]:
            line += f"  {ratio(name, 'mosaic'):6.2f} x mosaic"
        print(line, flush=True)


def settings(s3: S3Server) -> Iterator[tuple[str, Proxy | None]]:
    """Give what stands before the server, near and far."""
    yield " 0 ms", None
    with run_proxy(s3.endpoint) as proxy:
        proxy.latency_s = LATENCY_S
        yield "20 ms", proxy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=512, help="of rows in an epoch")
    parser.add_argument("--shard-megabytes", type=int, action="append", help="size of shards (default: 8 and 64)")
    parser.add_argument("--env", metavar="mosaic=PATH", help="the Python or environment of mosaicml-streaming")
    parser.add_argument("--scratch", type=Path, help="where files go (default: /dev/shm where there is one)")
    parser.add_argument("--turn", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        job = json.load(sys.stdin)
        turn = Turn(**job["turn"])
        _import(turn.name)
        print(json.dumps(play(turn, job["options"])))
        return
    mosaic = None
    if options.env:
        mosaic = interpreter(get_peer("mosaic"), {"mosaic": Path(options.env.removeprefix("mosaic="))})
    shared = Path("/dev/shm")
    scratch = options.scratch or (shared if shared.is_dir() else Path(tempfile.gettempdir()))
    num_samples = (options.megabytes << 20) // ROW_BYTES
    sizes = [size << 20 for size in options.shard_megabytes or ()] or SHARD_BYTES
    with run_s3() as s3:
        rounds = Rounds(s3, scratch, mosaic)
        for shard_bytes in sizes:
            keys = rounds.prepare(shard_bytes, num_samples)
            for distance, proxy in settings(s3):
                played = [rounds.play(keys, proxy, num_samples) for _ in range(options.rounds)]
                report(played, num_samples * ROW_BYTES, f"{shard_bytes >> 20:3} MiB {distance}")


if __name__ == "__main__":
    main()
