"""Measure Storage.download beside the bare client that carries its bytes, on a real S3 server on this machine.

  python -m benchmarks.storage                    8 and 64 MiB objects, 1, 4 and 16 at once, plain and 20 ms away
  python -m benchmarks.storage --rounds 1 --megabytes 64

The bare client asks for the same objects, each as a whole, from as many threads, and keeps nothing. Storage writes each
to a file of a memory file system and checks its length. Both take turns, round by round; the ratio is the median of the
rounds'. The server, the proxy that adds the 20 ms and the client share the machine: read the ratios, not the figures.
"""

import argparse
import concurrent.futures
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from arrowstream.storage import Storage
from tests.faults import run_proxy
from tests.servers import ACCESS_KEY, SECRET_KEY, S3Server, run_s3

LATENCY_S = 0.020
CONCURRENCY = (1, 4, 16)
OBJECT_BYTES = (8 << 20, 64 << 20)
CLIENTS = ("obstore", "fsspec")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=512, help="read in each turn")
    options = parser.parse_args()
    print(f"{'client':8} {'latency':>8} {'object':>8} {'at once':>8} {'bare MB/s':>10} {'ours MB/s':>10} {'ratio':>6}")
    with run_s3() as s3, run_proxy(s3.endpoint) as proxy:
        proxy.latency_s = LATENCY_S
        for size in OBJECT_BYTES:
            keys = _upload(s3, size, max(CONCURRENCY))
            for client in CLIENTS:
                for endpoint, latency in ((s3.endpoint, "0 ms"), (proxy.url, "20 ms")):
                    for at_once in CONCURRENCY:
                        repeats = max(1, (options.megabytes << 20) // size)
                        asked = [keys[number % len(keys)] for number in range(max(repeats, at_once))]
                        bare, ours = _measure(
                            s3, client, endpoint, asked, size=size, at_once=at_once, rounds=options.rounds
                        )
                        ratio = statistics.median(o / b for b, o in zip(bare, ours, strict=True))
                        speeds = f"{statistics.median(bare):10.0f} {statistics.median(ours):10.0f} {ratio:6.2f}"
                        print(f"{client:8} {latency:>8} {size >> 20:5} MiB {at_once:8} {speeds}", flush=True)


def _upload(s3: S3Server, size: int, count: int) -> list[str]:
    storage = Storage(f"s3://{s3.bucket}/{size}", options=s3.options)
    content = os.urandom(size)
    for number in range(count):
        storage.write(f"{number}", content)
    return [f"{number}" for number in range(count)]


def _measure(
    s3: S3Server, client: str, endpoint: str, keys: list[str], *, size: int, at_once: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Let the bare client and ours read the same objects, in turn; gives MB/s of each round."""
    storage = Storage(
        f"s3://{s3.bucket}/{size}", options={**s3.options, "endpoint_url": endpoint, "client": client}, timeout_s=120
    )
    read = (_bare_obstore if client == "obstore" else _bare_s3fs)(s3, endpoint, size)
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as directory, concurrent.futures.ThreadPoolExecutor(at_once) as pool:

        def ours(key: str) -> int:
            path = Path(directory) / f"{time.monotonic_ns()}-{key}"
            storage.download(key, path, num_bytes=size)
            path.unlink()
            return size

        def speed(act: Callable[[str], int]) -> float:
            begin = time.perf_counter()
            got = sum(pool.map(act, keys))
            return got / (time.perf_counter() - begin) / 1e6

        speed(read), speed(ours)  # connections are made, and not counted
        pairs = [(speed(read), speed(ours)) for _ in range(rounds)]
    return [bare for bare, _ in pairs], [mine for _, mine in pairs]


def _bare_obstore(s3: S3Server, endpoint: str, size: int) -> Callable[[str], int]:
    import obstore

    store = obstore.store.S3Store(
        s3.bucket,
        prefix=str(size),
        endpoint=endpoint,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        region="us-east-1",
        client_options={"allow_http": True},
    )
    return lambda key: len(obstore.get(store, key).bytes())


def _bare_s3fs(s3: S3Server, endpoint: str, size: int) -> Callable[[str], int]:
    import s3fs

    options = {**s3.options, "endpoint_url": endpoint}
    options["config_kwargs"] = {**options["config_kwargs"], "max_pool_connections": 64}
    files = s3fs.S3FileSystem(skip_instance_cache=True, **options)
    return lambda key: len(files.cat_file(f"{s3.bucket}/{size}/{key}"))


if __name__ == "__main__":
    main()
