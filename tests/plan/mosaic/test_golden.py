"""What mosaicml-streaming gave, this gives: recorded cases, among them datasets that were iterated for real."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrowstream.plan.mosaic.partition import partition
from arrowstream.plan.mosaic.plan import MosaicPlan
from arrowstream.plan.mosaic.replicate import replicate
from arrowstream.plan.mosaic.sampling import get_sampling
from arrowstream.plan.mosaic.shuffles import SHUFFLES
from arrowstream.plan.mosaic.weights import Weight, apply_weights
from arrowstream.world import World
from tests.plan.mosaic.digests import digest

GOLDEN = Path(__file__).parents[2] / "golden" / "plan"
Case = dict[str, Any]

# Errors of NumPy that mosaic lets through; here the cause has words of its own, or another check comes first.
FOREIGN = ("could not broadcast", "need at least one array", "high <= 0", "The number of samples assigned to a canon")


def golden(name: str) -> list[Case]:
    cases = json.loads((GOLDEN / f"{name}.json").read_text())["cases"]
    assert cases
    return cases


def differences(cases: list[Case], compute: Callable[[Case], Any]) -> list[tuple[Case, Any]]:
    """Give the cases in which the result, the warnings or the error are not those recorded, with what they are."""
    different = []
    for case in cases:
        found = outcome(compute, case)
        expected = case["expected"]
        if expected.get("message", "").startswith(FOREIGN):
            found["message"] = expected["message"]
        if found != expected:
            different.append((case, found))
    return different


def outcome(compute: Callable[[Case], Any], case: Case) -> Case:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = compute(case)
        except ValueError as error:
            return {"error": "ValueError", "message": str(error)[:300]}
    warned = sorted({str(warning.message)[:30] for warning in caught})
    return {"result": result} | ({"warnings": warned} if warned else {})


def world_of(case: Case) -> World:
    nodes, ranks, workers = case["world"]
    return World(num_nodes=nodes, ranks_per_node=ranks, workers_per_rank=workers)


def plan_of(case: Case, **more: Any) -> MosaicPlan:
    arguments = dict(case["arguments"])
    weights = [Weight(**weight) for weight in case["weights"]]
    arguments["seed"] = arguments.pop("shuffle_seed")
    return MosaicPlan(samples_per_shard=case["streams"], weights=weights, **(arguments | more))


@pytest.mark.parametrize("algo", ["naive", "py1br", "py1e", "py1s", "py2s"])
def test_shuffles_are_those_of_mosaic(algo: str) -> None:
    def shuffle(case: Case) -> Any:
        sizes = np.array(case["sizes"], np.int64)
        shuffled = SHUFFLES[algo](sizes, case["canonical_nodes"], case["seed"], case["epoch"], case["block_size"])
        assert shuffled.dtype == np.int64
        return digest(shuffled)

    cases = [case | {"expected": case["expected"][algo]} for case in golden("shuffles")]
    assert differences(cases, shuffle) == []


def test_no_shuffle_is_left_out() -> None:
    assert set(golden("shuffles")[0]["expected"]) == set(SHUFFLES)


def test_partitions_are_those_of_mosaic() -> None:
    def dealt_out(case: Case) -> Any:
        num_samples, canonical_nodes, nodes, ranks, workers, batch_size, drop_first, began_with = case["arguments"]
        positions = partition(
            case["algo"],
            num_samples,
            canonical_nodes,
            World(num_nodes=nodes, ranks_per_node=ranks, workers_per_rank=workers),
            batch_size,
            drop_first=drop_first,
            initial_physical_nodes=began_with,
        )
        assert positions.dtype == np.int64
        return digest(positions)

    assert differences(golden("partitions"), dealt_out) == []


def test_samplings_are_those_of_mosaic() -> None:
    def sample(case: Case) -> Any:
        choose, granularity, seed, epoch, use_epoch = case["arguments"]
        sizes = np.array(case["sizes"], np.int64)
        return digest(get_sampling(sizes, choose, granularity, seed=seed, epoch=epoch, use_epoch=use_epoch))

    assert differences(golden("sampling"), sample) == []


def test_weights_come_to_what_they_do_in_mosaic() -> None:
    def weigh(case: Case) -> Any:
        weights = [Weight(**weight) for weight in case["weights"]]
        mixture = apply_weights(weights, np.array(case["samples"]), case["epoch_size"], case["seed"])
        return {
            "epoch_size": mixture.epoch_size,
            "proportion": mixture.proportion.tolist(),
            "repeat": mixture.repeat.tolist(),
            "choose": mixture.choose.tolist(),
        }

    assert differences(golden("weights"), weigh) == []


def test_replicas_are_counted_as_in_mosaic() -> None:
    def world_in_replicas(case: Case) -> Any:
        nodes, ranks, workers, rank, worker = case["world"]
        whole = World(num_nodes=nodes, ranks_per_node=ranks, workers_per_rank=workers, rank=rank, worker=worker)
        job = replicate(whole, case["replication"])
        return [job.num_nodes, job.ranks_per_node, job.workers_per_rank, job.rank, job.worker]

    assert differences(golden("replication"), world_in_replicas) == []


@pytest.mark.parametrize("method", ["random", "stratified", "per_stream", "device_per_stream"])
def test_batches_are_those_of_mosaic(method: str) -> None:
    def batch(case: Case) -> Any:
        plan = plan_of(case, initial_physical_nodes=case["initial_physical_nodes"])
        return digest(quiet(plan.job_samples, world_of(case), case["epoch"], case["sample_in_epoch"]))

    cases = [case for case in golden("batches") if case["arguments"]["batching_method"] == method]
    assert differences(cases, batch) == []


def test_a_dataset_gives_each_worker_what_mosaic_gave_it() -> None:
    assert differences(golden("iteration"), iterate) == []


def iterate(case: Case) -> Any:
    nodes, rank, workers = case["world"]
    state = case["state"]
    if state and state["epoch"] < 0:
        state = None  # taken before the first epoch, and ignored by mosaic
    plan = plan_of(case)
    if state:
        plan = plan_of(
            case,
            seed=state["shuffle_seed"],
            weights_seed=case["arguments"]["shuffle_seed"],
            num_canonical_nodes=state["num_canonical_nodes"],
            initial_physical_nodes=state["initial_physical_nodes"],
        )
    world = World(num_nodes=nodes, rank=rank)
    first, sample_in_epoch = (state["epoch"], state["sample_in_epoch"]) if state else (0, 0)
    epochs = []
    for epoch in range(first, first + case["epochs"]):
        places = [world.with_worker(worker, max(workers, 1)) for worker in range(max(workers, 1))]
        start = sample_in_epoch if epoch == first else 0
        epochs.append([digest(quiet(plan.worker_samples, place, epoch, start)) for place in places])
    began = state["initial_physical_nodes"] if state else replicate(world, plan.replication).num_nodes
    nodes = None if workers else [plan.canonical_nodes(world), began]
    return {"epochs": epochs, "nodes": nodes, "length": plan.samples_per_rank(world)}


def quiet(function: Callable[..., Any], *args: Any) -> Any:
    """Call without the warnings: they are recorded where a case is one call to mosaic, not one to a process of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)
