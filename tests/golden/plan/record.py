"""Record what mosaicml-streaming does, for the tests of ``arrowstream.plan.mosaic``.

Run it where mosaicml-streaming 0.13.0 is installed; it writes the JSON files beside it. Arrays are recorded by shape
and hash, small ones also by value.

    python tests/golden/plan/record.py
"""

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1] / "plan" / "mosaic"))

import mosaic_jobs  # noqa: E402
from digests import digest  # noqa: E402
from streaming import Stream  # noqa: E402
from streaming.base.partition import get_partitions  # noqa: E402
from streaming.base.sampling import get_sampling  # noqa: E402
from streaming.base.shuffle import algos as shuffles  # noqa: E402
from streaming.base.world import World  # noqa: E402

Case = dict[str, Any]
SHUFFLES = ("naive", "py1br", "py1e", "py1s", "py2s")
METHODS = ("random", "stratified", "per_stream", "device_per_stream")
STREAMS = [[5, 7], [20], [31, 2, 9], [17], [8] * 6, [1, 1, 1], [64], [100, 3]]


class Draw:
    """Random choices as Python's own types, which JSON takes."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def below(self, stop: int, start: int = 0) -> int:
        return int(self._generator.integers(start, stop))

    def one(self, *choices: Any) -> Any:
        return choices[self.below(len(choices))]

    def often(self, share: float) -> bool:
        return float(self._generator.random()) < share

    def share(self) -> float:
        return round(float(self._generator.random()), 3)


def shuffle_cases() -> Iterator[Case]:
    draw = Draw(1)
    for _ in range(400):
        units = draw.below(12, 1)
        largest = draw.one(2, 6, 31, 400)
        smallest = 0 if draw.often(0.2) else 1
        sizes = [draw.below(largest, smallest) for _ in range(units)]
        yield {
            "sizes": sizes if draw.often(0.8) else [max(sizes[0], 1)] * units,
            "canonical_nodes": draw.one(1, 1, 2, 3, 4, 7, 8),
            "seed": draw.below(10_000),
            "epoch": draw.below(5),
            "block_size": draw.one(2, 4, 8, 20, 100, 1000, 1 << 18),
        }
    for canonical_nodes, block_size in [(1, 1 << 18), (2, 1 << 16), (8, 10_000), (64, 1 << 18), (3, 5_000)]:
        sizes = [draw.below(3_000, 1_000) for _ in range(100)]
        yield {
            "sizes": sizes,
            "canonical_nodes": canonical_nodes,
            "seed": 9176,
            "epoch": draw.below(3),
            "block_size": block_size,
        }


def record_shuffle(case: Case) -> Any:
    sizes = np.array(case["sizes"], np.int64)
    arguments = (sizes, case["canonical_nodes"], case["seed"], case["epoch"], case["block_size"])
    return {algo: recorded(lambda algo=algo: digest(shuffles[algo](*arguments))) for algo in SHUFFLES}


def partition_cases() -> Iterator[Case]:
    draw = Draw(2)
    for _ in range(1000):
        nodes = draw.one(1, 2, 3, 4, 6, 8)
        num_samples = draw.below(draw.one(20, 100, 1000), 1)
        ranks = draw.one(1, 2, 3, 4, 8)
        arguments = [
            num_samples,
            nodes * draw.one(1, 2, 3) if draw.often(0.6) else draw.one(1, 2, 3, 4, 6, 8, 12, 16),
            nodes,
            ranks,
            draw.one(1, 2, 3),
            draw.one(1, 2, 3, 4, 6, 8),
            0 if draw.often(0.5) else draw.below(num_samples + nodes * ranks + 2),
            None if draw.often(0.3) else draw.one(1, 2, 3, 4, 6),
        ]
        yield {"algo": draw.one("orig", "relaxed", "relaxed"), "arguments": arguments}


def record_partition(case: Case) -> Any:
    return recorded(lambda: digest(get_partitions(case["algo"], *case["arguments"])))


def sampling_cases() -> Iterator[Case]:
    draw = Draw(3)
    for _ in range(300):
        sizes = [1 + draw.below(50) for _ in range(draw.below(8, 1))]
        if draw.often(0.1):
            sizes[draw.below(len(sizes))] = 0
        choose = draw.below(3 * sum(sizes) + 2)
        granularity = draw.one(1, 2, 5, 100)
        arguments = [choose, granularity, draw.below(100), draw.below(5), draw.often(0.5)]
        yield {"sizes": sizes if sum(sizes) else [1], "arguments": arguments}


def record_sampling(case: Case) -> Any:
    return recorded(lambda: digest(get_sampling(np.array(case["sizes"], np.int64), *case["arguments"])))


def _weights(draw: Draw, streams: int) -> tuple[list[Case], int | None]:
    kind = draw.below(4)
    if kind == 0:
        size = draw.below(400, 30) if draw.often(0.6) else None
        return [{"proportion": draw.one(1, 2, draw.share() + 0.1)} for _ in range(streams)], size
    if kind == 1:
        return [{}] * streams, None if draw.often(0.5) else draw.below(300, 30)
    kinds = [{}, {"repeat": round(draw.share() * 3 + 0.3, 3)}, {"choose": draw.below(80, 5)}]
    return [draw.one(*kinds) for _ in range(streams)], None


def weight_cases() -> Iterator[Case]:
    draw = Draw(4)
    for _ in range(300):
        streams = draw.below(6, 1)
        weights, epoch_size = _weights(draw, streams)
        if draw.often(0.05):
            weights = [{"proportion": 1.0}, *weights[1:]]
        samples = [draw.below(200, 1) for _ in range(streams)]
        yield {"weights": weights, "samples": samples, "epoch_size": epoch_size, "seed": draw.below(100)}


def record_weights(case: Case) -> Any:
    def apply() -> Any:
        streams = [Stream(local="unused", **weight) for weight in case["weights"]]
        size = Stream.apply_weights(streams, np.array(case["samples"]), case["epoch_size"], case["seed"])
        return {
            "epoch_size": size,
            "proportion": [float(stream.proportion) for stream in streams],
            "repeat": [float(stream.repeat) for stream in streams],
            "choose": [int(stream.choose) for stream in streams],
        }

    return recorded(apply)


def replication_cases() -> Iterator[Case]:
    for nodes, ranks in [(1, 4), (2, 4), (3, 2), (4, 2), (2, 6), (4, 4)]:
        for replication in (0, 1, 2, 3, 4, 6, 8, 16):
            for rank in range(0, nodes * ranks, 3):
                yield {"world": [nodes, ranks, 3, rank, rank % 3], "replication": replication}


def record_replication(case: Case) -> Any:
    nodes, ranks, workers, rank, worker = case["world"]

    def replicate() -> Any:
        world = World(nodes, ranks, workers, rank * workers + worker).replicate(case["replication"])
        return [world.num_nodes, world.ranks_per_node, world.workers_per_rank, world.rank, world.worker_of_rank]

    return recorded(replicate)


def _dataset(draw: Draw, method: str) -> Case:
    streams = [draw.one(*STREAMS) for _ in range(draw.below(4, 1))]
    weights, epoch_size = _weights(draw, len(streams))
    arguments = {
        "batch_size": draw.one(1, 2, 3, 4, 6),
        "batching_method": method,
        "shuffle": draw.often(0.75),
        "shuffle_algo": draw.one(*SHUFFLES),
        "shuffle_seed": draw.below(1000),
        "sampling_method": draw.one("balanced", "fixed"),
        "sampling_granularity": draw.one(1, 3, 10),
        "partition_algo": draw.one("orig", "relaxed"),
        "epoch_size": epoch_size,
    }
    return {"streams": streams, "weights": weights, "arguments": arguments}


def batch_cases() -> Iterator[Case]:
    draw = Draw(5)
    for number in range(400):
        case = _dataset(draw, METHODS[number % 4])
        nodes, ranks, workers = draw.one(1, 2, 3, 4), draw.one(1, 2, 3, 4), draw.one(1, 2, 3)
        canonical_nodes = nodes * draw.one(1, 1, 2, 3) if draw.often(0.8) else draw.one(1, 2, 4)
        case["arguments"]["num_canonical_nodes"] = canonical_nodes
        case["arguments"]["shuffle_block_size"] = draw.one(10, 50, 1000)
        step = nodes * ranks * case["arguments"]["batch_size"]
        case |= {
            "world": [nodes, ranks, workers],
            "initial_physical_nodes": draw.one(1, 2, 3, 4) if draw.often(0.3) else nodes,
            "epoch": draw.below(4),
            "sample_in_epoch": draw.one(0, 0, draw.below(100), step * draw.below(5)),
        }
        yield case


def record_batches(case: Case) -> Any:
    mosaic_jobs.write(case["streams"])
    return recorded(lambda: digest(mosaic_jobs.apart(mosaic_jobs.batches, case)))


def iteration_cases() -> Iterator[Case]:
    draw = Draw(6)
    for number in range(200):
        case = _dataset(draw, draw.one("random", METHODS[number % 4]))
        nodes = draw.one(1, 1, 2, 3, 4, 6)
        divisors = [divisor for divisor in range(1, nodes + 1) if nodes % divisor == 0]
        replication = draw.one(*divisors) if draw.often(0.3) else None
        canonical_nodes = draw.one(None, draw.below(3, 1) * nodes // (replication or 1))
        block_size = draw.one(None, 10, 50, 1000)
        case["arguments"] |= {
            "num_canonical_nodes": canonical_nodes,
            "shuffle_block_size": block_size,
            "replication": replication,
        }
        case |= {"world": [nodes, draw.below(nodes), draw.one(0, 0, 1, 2, 3)], "epochs": draw.one(1, 2), "state": None}
        if draw.often(0.5):
            case["state"] = _state(draw, case)
        yield case


def _state(draw: Draw, case: Case) -> Case | None:
    """Take the state of a job that read some of this epoch, on as many nodes or on others."""
    nodes = draw.one(1, case["world"][0], 2, 4)
    before = case | {"world": [nodes, 0, 0]}
    before["arguments"] = case["arguments"] | {"replication": None, "num_canonical_nodes": draw.one(None, 2 * nodes)}
    read = case["arguments"]["batch_size"] * draw.below(4) + (draw.below(3) if draw.often(0.2) else 0)
    mosaic_jobs.write(case["streams"])
    try:
        state = mosaic_jobs.apart(mosaic_jobs.state_after, before, read)
    except ValueError:
        return None
    # A state may also be of a later epoch, or of a dataset that was given another seed.
    state["epoch"] += draw.one(0, 0, 1, 3)
    state["shuffle_seed"] += draw.one(0, 0, 0, 7)
    return state


def record_iteration(case: Case) -> Any:
    mosaic_jobs.write(case["streams"])

    def iterate() -> Any:
        read = mosaic_jobs.apart(mosaic_jobs.iterate, case)
        epochs = [[digest(np.array(worker, np.int64)) for worker in workers] for workers in read["epochs"]]
        names = ("num_canonical_nodes", "initial_physical_nodes")
        nodes = [read["state"][name] for name in names] if read["state"] else None
        return {"epochs": epochs, "nodes": nodes, "length": read["length"]}

    return recorded(iterate)


def recorded(call: Callable[[], Any]) -> Any:
    """Give the result of a call, with the kinds of the warnings that users see, or the kind of its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call()
        except (ValueError, ZeroDivisionError) as error:
            # What a DataLoader's worker raised comes with its traceback, the error last.
            message = str(error).strip().split("\n")[-1].removeprefix("ValueError: ")
            return {"error": type(error).__name__, "message": message[:300]}
    warned = [str(warning.message)[:30] for warning in caught if warning.category is UserWarning]
    return {"result": result} | ({"warnings": sorted(set(warned))} if warned else {})


def write(name: str, cases: Iterable[Case], record: Callable[[Case], Any]) -> None:
    lines = [json.dumps(case | {"expected": record(case)}, separators=(",", ":")) for case in cases]
    made_with = {package: version(package) for package in ("mosaicml-streaming", "numpy", "torch")}
    text = f'{{"made_with":{json.dumps(made_with)},\n"cases":[\n' + ",\n".join(lines) + "\n]}\n"
    (HERE / f"{name}.json").write_text(text)
    print(f"{name}: {len(lines)} cases, {len(text):,} bytes")


def main() -> None:
    try:
        write("shuffles", shuffle_cases(), record_shuffle)
        write("partitions", partition_cases(), record_partition)
        write("sampling", sampling_cases(), record_sampling)
        write("weights", weight_cases(), record_weights)
        write("replication", replication_cases(), record_replication)
        write("batches", batch_cases(), record_batches)
        write("iteration", iteration_cases(), record_iteration)
    finally:
        shutil.rmtree(mosaic_jobs.FOLDER)


if __name__ == "__main__":
    main()
