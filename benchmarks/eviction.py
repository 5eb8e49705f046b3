"""Who is deleted when a cache is full: hits of the real cache beside Bélády's optimum and LRU.

    python -m benchmarks.eviction

A dataset of small shards is read for four shuffled epochs through a cache that holds 10, 25 and 50 % of it: really, by
one process, with its files on a disk. A *hit* is a shard that is needed in an epoch and does not have to be fetched.
Bélády's optimum and LRU are simulated over the same order of samples, with as many shards as fit into the limit.
"""

import argparse
import bisect
import shutil
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arrowstream import MDSWriter
from arrowstream.dataset import StreamingDataset
from arrowstream.index import INDEX_NAME, parse_index
from arrowstream.plan.order import Order

IntArray = npt.NDArray[np.int64]

SHARES = (0.10, 0.25, 0.50)
EPOCHS = 4
SEED = 9176


def write(out: Path, num_shards: int, rows: int) -> None:
    """Write shards of ``rows`` integers each."""
    with MDSWriter(out=out, columns={"id": "int"}, size_limit=rows * 9) as writer:
        for number in range(num_shards * rows):
            writer.write({"id": number})


def references(counts: IntArray, block_size: int, canonical_nodes: int) -> list[int]:
    """Name the shard of each sample, over all epochs, without repeats in a row."""
    shards = np.repeat(np.arange(len(counts)), counts)
    used = np.concatenate(
        [
            shards[
                Order(
                    counts, shuffle=True, seed=SEED, epoch=epoch, block_size=block_size, canonical_nodes=canonical_nodes
                ).samples_at(np.arange(len(shards)))
            ]
            for epoch in range(EPOCHS)
        ]
    )
    return used[np.flatnonzero(np.diff(used, prepend=-1))].tolist()


def belady_fetches(used: list[int], capacity: int) -> int:
    """Count the fetches of the optimum: the victim is what is used last (L. A. Belady, IBM Systems Journal 5, 1966)."""
    later: dict[int, list[int]] = {}
    for turn, shard in enumerate(used):
        later.setdefault(shard, []).append(turn)
    held: set[int] = set()
    fetches = 0

    def next_use(shard: int, turn: int) -> float:
        turns = later[shard]
        place = bisect.bisect_right(turns, turn)
        return turns[place] if place < len(turns) else float("inf")

    for turn, shard in enumerate(used):
        if shard not in held:
            fetches += 1
            if len(held) >= capacity:
                held.remove(max(held, key=lambda other: next_use(other, turn)))
            held.add(shard)
    return fetches


def lru_fetches(used: list[int], capacity: int) -> int:
    """Count the fetches where the victim is what was used least recently."""
    held: OrderedDict[int, None] = OrderedDict()
    fetches = 0
    for shard in used:
        if shard in held:
            held.move_to_end(shard)
            continue
        fetches += 1
        if len(held) >= capacity:
            held.popitem(last=False)
        held[shard] = None
    return fetches


def real_fetches(remote: Path, cache: Path, limit: int, arguments: argparse.Namespace) -> int:
    """Count what the real cache fetches."""
    shutil.rmtree(cache, ignore_errors=True)
    dataset = StreamingDataset(
        remote=remote,
        local=cache,
        cache_limit=limit,
        shuffle=True,
        shuffle_seed=SEED,
        shuffle_block_size=arguments.block_size,
        num_canonical_nodes=arguments.canonical_nodes,
        predownload=arguments.predownload,
    )
    size = dataset.size
    for _ in range(EPOCHS):
        seen = np.zeros(size, bool)
        for sample in dataset:
            seen[sample["id"]] = True
        assert seen.all()
    return dataset.cost().num_requests - 1  # the index


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=400)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--block-size", type=int, default=8000)
    parser.add_argument("--canonical-nodes", type=int, default=4)
    parser.add_argument("--predownload", type=int, default=64)
    arguments = parser.parse_args()
    print(f"{'held':>5} {'epochs':>6} {'optimum':>8} {'real':>8} {'LRU':>8}   hits of the shards that are needed")
    worst = 1.0
    with tempfile.TemporaryDirectory() as folder:
        remote, cache = Path(folder, "remote"), Path(folder, "cache")
        write(remote, arguments.shards, arguments.rows)
        index = parse_index((remote / INDEX_NAME).read_bytes(), str(remote))
        counts = index.samples_per_shard
        sizes = np.concatenate([group.raw_bytes for group in index.groups])
        used = references(counts, arguments.block_size, arguments.canonical_nodes)
        needed = EPOCHS * len(counts)
        # The index and its list of names lie in the cache, too.
        assert StreamingDataset(remote=remote, local=cache).size == counts.sum()
        beside = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        for share in SHARES:
            capacity = int(share * len(counts))
            limit = int(capacity * sizes.max()) + beside
            fetches = {
                "optimum": belady_fetches(used, capacity),
                "real": real_fetches(remote, cache, limit, arguments),
                "LRU": lru_fetches(used, capacity),
            }
            hits = {name: 1 - count / needed for name, count in fetches.items()}
            worst = min(worst, hits["real"] / hits["optimum"])
            print(f"{share:5.0%} {EPOCHS:6} {hits['optimum']:8.1%} {hits['real']:8.1%} {hits['LRU']:8.1%}")
    print(f"the real cache has at least {worst:.1%} of the optimum's hits")
    return 0 if worst >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
