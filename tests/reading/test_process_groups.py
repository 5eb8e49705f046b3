"""Real process groups: every rank finds its share without a word to the others, whoever launched it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing as mp
from torch import distributed
from torch.utils.data import DataLoader

from arrowstream import StreamingDataset
from tests.reading.datasets import write_samples

NUM_SAMPLES = 96
LAUNCHERS = ["RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("groups"), NUM_SAMPLES)


def collate(samples: list[dict[str, Any]]) -> list[int]:
    return [sample["id"] for sample in samples]


def make(data: str, **arguments: Any) -> StreamingDataset:
    return StreamingDataset(local=data, shuffle=True, batch_size=4, **arguments)


def steps_of(dataset: StreamingDataset, **arguments: Any) -> list[list[int]]:
    loader = DataLoader(dataset, batch_size=4, collate_fn=collate, **arguments)
    return list(loader)


def alone(data: Path, global_batch: int, epoch: int = 0) -> list[list[int]]:
    view = StreamingDataset(local=data, shuffle=True, batch_size=global_batch).plan(epoch)
    return [sorted(view.batch(step).tolist()) for step in range(view.num_steps)]


def merged(ranks: list[list[list[int]]]) -> list[list[int]]:
    return [sorted(number for batch in step for number in batch) for step in zip(*ranks, strict=True)]


def train(rank: int, num_ranks: int, dataset: StreamingDataset, data: str, out: str, method: str) -> None:
    """Read an epoch as one rank of a group that no variable speaks of."""
    for name in LAUNCHERS:
        os.environ.pop(name, None)
    store = distributed.FileStore(f"{out}/store-{method}", num_ranks)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=num_ranks)
    try:
        here = dataset if method == "handed over" else make(data)
        # As torch does by default on Linux, workers of what was handed over are forked.
        workers = {"num_workers": 1, "multiprocessing_context": "fork" if method == "handed over" else method}
        epochs = [steps_of(here, **workers) for _ in range(2 if method == "handed over" else 1)]
        place = here.plan(0).num_steps, len(here)
        Path(out, f"{method}-{rank}.json").write_text(json.dumps([place, epochs]))
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize(("num_ranks", "method"), [(2, "spawn"), (4, "handed over")])
def test_ranks_share_an_epoch(data: Path, tmp_path: Path, num_ranks: int, method: str) -> None:
    # The dataset of this process, which is no rank of any group, is handed to each of them.
    dataset = make(str(data))
    mp.spawn(train, (num_ranks, dataset, str(data), str(tmp_path), method), nprocs=num_ranks)
    found = [json.loads((tmp_path / f"{method}-{rank}.json").read_text()) for rank in range(num_ranks)]
    for epoch, ranks in enumerate(zip(*(epochs for _, epochs in found), strict=True)):
        assert merged(list(ranks)) == alone(data, 4 * num_ranks, epoch)
    assert {tuple(place) for place, _ in found} == {(NUM_SAMPLES // num_ranks // 4, NUM_SAMPLES // num_ranks)}


SCRIPT = """
import json, os, sys
from pathlib import Path
from torch import distributed
from arrowstream import StreamingDataset

distributed.init_process_group("gloo")
dataset = StreamingDataset(local=sys.argv[1], shuffle=True, batch_size=4)
world = dataset._world()
ids = [sample["id"] for sample in dataset]
found = [world.num_nodes, world.ranks_per_node, world.rank, [ids[n : n + 4] for n in range(0, len(ids), 4)]]
Path(sys.argv[2], f"{distributed.get_rank()}.json").write_text(json.dumps(found))
distributed.destroy_process_group()
"""


def test_ranks_of_torchrun_share_an_epoch(data: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
    subprocess.run(
        [*command, str(script), str(data), str(tmp_path)],
        env={**environment, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=120,
        capture_output=True,
    )
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [place[:3] for place in found] == [[1, 2, 0], [1, 2, 1]]
    assert merged([place[3] for place in found]) == alone(data, 8)
