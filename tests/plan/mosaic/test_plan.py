"""The plan of a job: defaults, what is refused, and what holds whatever the arguments are."""

import multiprocessing
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream.plan.mosaic import MosaicPlan, Weight, apply_weights, replicate
from arrowstream.plan.mosaic.partition import PARTITIONS, dealt, partition, training_order
from arrowstream.plan.mosaic.sampling import get_sampling
from arrowstream.plan.mosaic.shuffles import SHUFFLES
from arrowstream.world import World

ALGOS = st.sampled_from(sorted(SHUFFLES))
SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=8)
SEEDS = st.integers(0, 2**31)


def make_plan(**arguments: Any) -> MosaicPlan:
    return MosaicPlan(**{"samples_per_shard": [[20, 30], [50]], "batch_size": 4, "shuffle": True} | arguments)


def epoch_of_job(plan: MosaicPlan, world: World, epoch: int = 0, sample_in_epoch: int = 0) -> list[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = training_order(plan.job_samples(world, epoch, sample_in_epoch))
    return [sample for sample in samples.tolist() if sample >= 0]


@given(sizes=SIZES, algo=ALGOS, canonical_nodes=st.integers(1, 6), seed=SEEDS, block_size=st.integers(2, 200))
@pytest.mark.filterwarnings("ignore:Shuffle block size")
def test_a_shuffle_is_a_permutation(
    sizes: list[int], algo: str, canonical_nodes: int, seed: int, block_size: int
) -> None:
    if algo == "py1e" and canonical_nodes > sum(sizes):
        return
    shuffled = SHUFFLES[algo](np.array(sizes), canonical_nodes, seed, 1, block_size)
    assert sorted(shuffled.tolist()) == list(range(sum(sizes)))


@given(
    sizes=SIZES, canonical_nodes=st.integers(1, 6), seed=SEEDS, algo=st.sampled_from(["py1br", "py1e", "py1s", "py2s"])
)
@pytest.mark.filterwarnings("ignore:Shuffle block size")
def test_epochs_do_not_move_samples_between_canonical_nodes(
    sizes: list[int], canonical_nodes: int, seed: int, algo: str
) -> None:
    num_samples = sum(sizes)
    if canonical_nodes > num_samples:
        return
    epochs = [SHUFFLES[algo](np.array(sizes), canonical_nodes, seed, epoch, 50) for epoch in (0, 1)]
    cuts = [num_samples * part // canonical_nodes for part in range(1, canonical_nodes)]
    first, second = ([set(part.tolist()) for part in np.split(epoch, cuts)] for epoch in epochs)
    assert first == second


JOBS = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 6))


@given(
    num_samples=st.integers(100, 400), job=JOBS, canonical=st.integers(1, 3), algo=st.sampled_from(sorted(PARTITIONS))
)
def test_no_sample_is_left_out_and_ranks_have_equally_many(
    num_samples: int, job: tuple[int, int, int, int], canonical: int, algo: str
) -> None:
    nodes, ranks, workers, batch_size = job
    world = World(num_nodes=nodes, ranks_per_node=ranks, workers_per_rank=workers)
    positions = partition(algo, num_samples, canonical * nodes, world, batch_size)
    assert set(positions[positions >= 0].tolist()) == set(range(num_samples))
    per_rank = (positions >= 0).sum(axis=(2, 3, 4))
    assert per_rank.min() == per_rank.max()


@given(job=JOBS, batches=st.integers(0, 5))
def test_steps_are_dealt_out_in_the_order_of_training(job: tuple[int, int, int, int], batches: int) -> None:
    nodes, ranks, workers, batch_size = job
    steps = np.arange(nodes * ranks * workers * batch_size * batches)
    world = World(num_nodes=nodes, ranks_per_node=ranks, workers_per_rank=workers)
    assert training_order(dealt(steps, world, batch_size)).tolist() == steps.tolist()


@given(
    streams=st.lists(SIZES, min_size=1, max_size=3),
    algo=ALGOS,
    seed=st.integers(0, 2**31),
    shuffle=st.booleans(),
    method=st.sampled_from(["balanced", "fixed"]),
)
def test_one_pass_has_every_sample_once(
    streams: list[list[int]], algo: str, seed: int, shuffle: bool, method: str
) -> None:
    plan = make_plan(
        samples_per_shard=streams, seed=seed, shuffle=shuffle, shuffle_algo=algo, sampling_method=method, batch_size=3
    )
    world = World(num_nodes=1, workers_per_rank=2) if shuffle and algo != "py1s" else World()
    samples = epoch_of_job(plan, world, 1)
    assert set(samples) == set(range(sum(map(sum, streams))))


@settings(max_examples=40)
@given(steps=st.integers(0, 8), algo=ALGOS, method=st.sampled_from(["random", "stratified", "per_stream"]))
def test_a_resumed_epoch_goes_on_where_it_stopped(steps: int, algo: str, method: str) -> None:
    plan = make_plan(shuffle_algo=algo, batching_method=method, num_canonical_nodes=2)
    world = World(num_nodes=2, workers_per_rank=2)
    read = min(steps * 8, 88)
    assert epoch_of_job(plan, world, 3, read) == epoch_of_job(plan, world, 3)[read:]


@pytest.mark.parametrize("algo", sorted(SHUFFLES))
@pytest.mark.parametrize(("nodes", "ranks", "workers", "batch_size"), [(2, 1, 3, 8), (1, 4, 2, 4), (4, 2, 1, 2)])
def test_a_step_is_the_same_on_other_nodes(algo: str, nodes: int, ranks: int, workers: int, batch_size: int) -> None:
    def steps(world: World, batch: int) -> list[set[int]]:
        plan = make_plan(samples_per_shard=[[40] * 8], shuffle_algo=algo, num_canonical_nodes=4, batch_size=batch)
        samples = epoch_of_job(plan, world)
        return [set(samples[start : start + 16]) for start in range(0, len(samples), 16)]

    world = World(num_nodes=nodes, ranks_per_node=ranks, workers_per_rank=workers)
    assert steps(world, batch_size) == steps(World(), 16)


def test_workers_have_between_them_what_the_job_has() -> None:
    plan = make_plan(batch_size=3)
    world = World(num_nodes=2, ranks_per_node=2, workers_per_rank=2)
    whole = plan.job_samples(world, 2)
    for rank in range(4):
        for worker in range(2):
            place = World(num_nodes=2, ranks_per_node=2, workers_per_rank=2, rank=rank, worker=worker)
            own = whole[rank // 2, rank % 2, worker]
            assert plan.worker_samples(place, 2).tolist() == own[own >= 0].tolist()


def test_replicas_read_the_same_and_others_do_not() -> None:
    plan = make_plan(replication=2)
    read = [plan.worker_samples(World(ranks_per_node=4, rank=rank), 0).tolist() for rank in range(4)]
    assert read[0] == read[1]
    assert read[2] == read[3]
    assert set(read[0]).isdisjoint(read[2])
    assert plan.samples_per_rank(World(ranks_per_node=4)) == 50


@pytest.mark.parametrize(
    ("algo", "nodes", "expected"), [("py1s", 2, 128), ("py2s", 1, 64), ("py1e", 2, 2), ("py1br", 4, 4), ("naive", 3, 3)]
)
def test_canonical_nodes_follow_from_the_job_that_began(algo: str, nodes: int, expected: int) -> None:
    world = World(num_nodes=nodes)
    assert make_plan(shuffle_algo=algo).canonical_nodes(world) == expected
    assert make_plan(shuffle_algo=algo, num_canonical_nodes=0).canonical_nodes(world) == expected
    assert make_plan(shuffle_algo=algo, num_canonical_nodes=5).canonical_nodes(world) == 5
    assert make_plan(shuffle_algo=algo, initial_physical_nodes=nodes).canonical_nodes(World()) == expected


@pytest.mark.parametrize(("canonical_nodes", "expected"), [(1, 4_000_000), (8, 500_000), (100, 1 << 18)])
def test_blocks_share_four_million_samples_but_stay_large(canonical_nodes: int, expected: int) -> None:
    assert make_plan(num_canonical_nodes=canonical_nodes).epoch(World(), 0).shuffle_block_size == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shuffle_algo": "py1b"}, "py1b"),
        ({"partition_algo": "new"}, "new"),
        ({"batching_method": "none"}, "none"),
        ({"sampling_method": "free"}, "free"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"sampling_granularity": 0}, "sampling_granularity is 0"),
        ({"num_canonical_nodes": -1}, "num_canonical_nodes is -1"),
        ({"epoch_size": -5}, "epoch_size is -5"),
        ({"samples_per_shard": [[5, -1]]}, "negative"),
        ({"samples_per_shard": [[]]}, "no samples"),
        ({"samples_per_shard": []}, "0 weights for 0 streams"),
        ({"weights": [Weight()]}, "1 weights for 2 streams"),
        ({"weights": [Weight(choose=0), Weight(choose=0)]}, "no samples"),
        ({"weights": [Weight(proportion=0), Weight(proportion=0)]}, "at least one above 0"),
        ({"weights": [Weight(proportion=1), Weight()]}, "incompatible"),
        ({"weights": [Weight(repeat=1), Weight()], "epoch_size": 5}, "Only provide `choose`"),
        ({"samples_per_shard": [[5], []], "weights": [Weight(), Weight(choose=3)]}, "without any"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(**arguments)


@pytest.mark.parametrize(
    "weight",
    [{"proportion": -1}, {"repeat": -0.5}, {"choose": -1}, {"repeat": 1, "choose": 1}, {"repeat": float("nan")}],
)
def test_weights_are_one_number_that_is_not_negative(weight: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"non-negative|At most one"):
        Weight(**weight)


@pytest.mark.parametrize(("epoch", "sample_in_epoch"), [(-1, 0), (0, -1), (0, 101)])
def test_positions_outside_an_epoch_are_refused(epoch: int, sample_in_epoch: int) -> None:
    with pytest.raises(ValueError, match=r"epoch is -1|Resuming further"):
        make_plan().job_samples(World(), epoch, sample_in_epoch + (sample_in_epoch > 0))


@pytest.mark.parametrize(
    ("num_samples", "canonical_nodes", "batch_size", "drop_first"),
    [(0, 1, 1, 0), (5, 0, 1, 0), (5, 1, 0, 0), (5, 1, 1, -1)],
)
def test_partitions_of_nothing_are_refused(
    num_samples: int, canonical_nodes: int, batch_size: int, drop_first: int
) -> None:
    with pytest.raises(ValueError, match="expected at least"):
        partition("orig", num_samples, canonical_nodes, World(), batch_size, drop_first=drop_first)


@pytest.mark.parametrize("replication", [0, -1, 3])
def test_replicas_fill_the_job(replication: int) -> None:
    with pytest.raises(ValueError, match=r"positive|divisible"):
        replicate(World(num_nodes=2, ranks_per_node=4), replication)


@pytest.mark.parametrize(("choose", "granularity"), [(-1, 1), (3, 0)])
def test_samplings_take_a_number_of_samples_at_a_time(choose: int, granularity: int) -> None:
    with pytest.raises(ValueError, match="must be a"):
        get_sampling(np.array([5]), choose, granularity, seed=0, epoch=0, use_epoch=False)


def test_too_small_a_block_is_warned_of_once() -> None:
    with pytest.warns(UserWarning, match="block size was smaller") as caught:
        SHUFFLES["py1e"](np.array([50, 50, 50]), 2, 0, 0, 4)
    assert len(caught) == 1


def test_the_seed_of_the_weights_may_be_another() -> None:
    weights = [Weight(proportion=1)] * 3
    streams = [[10], [10], [10]]
    mixture = make_plan(samples_per_shard=streams, weights=weights, epoch_size=10, seed=3, weights_seed=8).mixture
    assert mixture.choose.tolist() == apply_weights(weights, np.array([10, 10, 10]), 10, 8).choose.tolist()


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_a_plan_goes_to_another_process(start_method: str) -> None:
    plan = make_plan(weights=[Weight(repeat=0.5), Weight(choose=30)])
    world = World(ranks_per_node=2, rank=1)
    assert pickle.loads(pickle.dumps(plan)).worker_samples(world, 1).tolist() == plan.worker_samples(world, 1).tolist()
    with multiprocessing.get_context(start_method).Pool(1) as pool:
        assert pool.apply(plan.worker_samples, (world, 1)).tolist() == plan.worker_samples(world, 1).tolist()


@pytest.mark.parametrize("method", ["per_stream", "device_per_stream"])
def test_samples_that_fill_no_batch_are_spoken_of(method: str, caplog: pytest.LogCaptureFixture) -> None:
    plan = make_plan(samples_per_shard=[[10], [8]], batching_method=method, batch_size=4)
    assert len(epoch_of_job(plan, World())) == 16
    assert [record.getMessage() for record in caplog.records] == [
        f"Because of the `{method}` batching method, some batches with an inadequate number of samples from stream with"
        " index 0 will be dropped."
    ]
