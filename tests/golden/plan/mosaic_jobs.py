"""Datasets of mosaicml-streaming over files that exist, in jobs of which only one process does."""

import itertools
import json
import os
import pickle
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from streaming import MDSWriter, Stream, StreamingDataset
from streaming.base.batching import generate_work
from streaming.base.util import clean_stale_shared_memory
from streaming.base.world import World

FOLDER = Path(tempfile.mkdtemp(prefix="golden_plan_"))
_written: dict[tuple[tuple[int, ...], int], Path] = {}


class SampleIds(StreamingDataset):
    """Gives the sample ids that it is asked for, having read the samples, and the worker that was asked."""

    def get_item(self, sample_id: int, retry: int = 7) -> dict[str, int]:
        super().get_item(sample_id, retry)
        worker = torch.utils.data.get_worker_info()
        return {"id": int(sample_id), "worker": worker.id if worker else 0}


def apart(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call in a process of its own, whose file handles and shared memory end with it; give its result or its error."""
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            outcome: Any = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
            outcome = error
        with os.fdopen(sending, "wb") as pipe:
            pickle.dump(outcome, pipe)
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        outcome = pickle.load(pipe)
    os.waitpid(child, 0)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def write(streams: list[list[int]]) -> list[Path]:
    """Write each stream with shards of these sizes; mosaic wants a folder for each, also if they are alike."""
    seen: Counter[tuple[int, ...]] = Counter()
    folders = []
    for sizes in map(tuple, streams):
        key = (sizes, seen[sizes])
        seen[sizes] += 1
        if key not in _written:
            _written[key] = _write_stream(FOLDER / str(len(_written)), sizes)
        folders.append(_written[key])
    return folders


def _write_stream(folder: Path, sizes: tuple[int, ...]) -> Path:
    shards = []
    values = itertools.count()
    for number, size in enumerate(sizes):
        with MDSWriter(out=str(folder / str(number)), columns={"value": "uint32"}, size_limit=None) as writer:
            for value in itertools.islice(values, size):
                writer.write({"value": np.uint32(value)})
        [shard] = json.loads((folder / str(number) / "index.json").read_text())["shards"]
        shard["raw_data"]["basename"] = f"{number}/{shard['raw_data']['basename']}"
        shards.append(shard)
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": shards}))
    return folder


def _open(case: dict[str, Any]) -> SampleIds:
    clean_stale_shared_memory()
    pairs = zip(write(case["streams"]), case["weights"], strict=True)
    streams = [Stream(local=str(folder), **weight) for folder, weight in pairs]
    return SampleIds(streams=streams, **case["arguments"])


def batches(case: dict[str, Any]) -> np.ndarray:
    """Ask mosaic for the batches of a whole job."""
    dataset = _open(case)
    dataset.initial_physical_nodes = case["initial_physical_nodes"]
    num_nodes, ranks_per_node, workers = case["world"]
    world = World(num_nodes, ranks_per_node, workers, 0)
    return generate_work(dataset.batching_method, dataset, world, case["epoch"], case["sample_in_epoch"])


def iterate(case: dict[str, Any]) -> dict[str, Any]:
    """Iterate over a dataset as one rank of a job with one rank a node, and give what each worker gave."""
    num_nodes, rank, workers = case["world"]
    if num_nodes > 1:
        _pretend(num_nodes, rank)
    dataset = _open(case)
    if case["state"]:
        dataset.load_state_dict(case["state"])
    epochs = list(_epochs_of_workers(dataset, workers, case["epochs"]))
    # With workers, the process that made the dataset does not learn what they found out.
    state = None if workers else dataset.state_dict(0, False)
    return {"epochs": epochs, "state": state, "length": len(dataset)}


def state_after(case: dict[str, Any], num_samples: int) -> dict[str, int]:
    """Iterate over some samples and give the state that mosaic then has."""
    num_nodes, rank, _ = case["world"]
    if num_nodes > 1:
        _pretend(num_nodes, rank)
    dataset = _open(case)
    read = sum(1 for _ in itertools.islice(iter(dataset), num_samples))
    num_ranks = num_nodes // (case["arguments"].get("replication") or 1)
    return dataset.state_dict(read * num_ranks, False)


def _epochs_of_workers(dataset: SampleIds, workers: int, epochs: int) -> Iterator[list[list[int]]]:
    if not workers:
        for _ in range(epochs):
            yield [[sample["id"] for sample in dataset]]
        return
    # Workers have to stay: those started for the next epoch would no longer know the state that was loaded.
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=dataset.batch_size, num_workers=workers, persistent_workers=True
    )
    for _ in range(epochs):
        given: list[list[int]] = [[] for _ in range(workers)]
        for batch in loader:
            for sample_id, worker in zip(batch["id"].tolist(), batch["worker"].tolist(), strict=True):
                given[worker].append(sample_id)
        yield given


def _pretend(num_nodes: int, rank: int) -> None:
    # PyTorch's own fake for tests: collectives return at once, so that one process can be any rank of any job.
    from torch.testing._internal.distributed.fake_pg import FakeStore

    os.environ.update(RANK=str(rank), WORLD_SIZE=str(num_nodes), LOCAL_WORLD_SIZE="1", LOCAL_RANK="0")
    with warnings.catch_warnings(action="ignore"):
        torch.distributed.init_process_group("fake", rank=rank, world_size=num_nodes, store=FakeStore())
