"""Where a process stands is read from the variables that torchrun sets."""

import pytest

from arrowstream.world import World


def test_without_variables_a_job_is_one_process() -> None:
    world = World.from_environment({})
    assert (world.num_ranks, world.num_nodes, world.rank, world.worker, world.workers_per_rank) == (1, 1, 0, 0, 1)


@pytest.mark.parametrize(
    ("rank", "node", "rank_of_node"), [(0, 0, 0), (1, 0, 1), (3, 0, 3), (4, 1, 0), (7, 1, 3), (11, 2, 3)]
)
def test_ranks_are_counted_node_by_node(rank: int, node: int, rank_of_node: int) -> None:
    world = World.from_environment({"RANK": str(rank), "WORLD_SIZE": "12", "LOCAL_WORLD_SIZE": "4"})
    assert (world.num_nodes, world.ranks_per_node, world.num_ranks) == (3, 4, 12)
    assert (world.node, world.rank_of_node) == (node, rank_of_node)


def test_without_a_local_world_size_all_ranks_share_a_machine() -> None:
    world = World.from_environment({"RANK": "3", "WORLD_SIZE": "4"})
    assert (world.num_nodes, world.ranks_per_node, world.node, world.rank_of_node) == (1, 4, 0, 3)


def test_a_worker_keeps_its_rank() -> None:
    world = World.from_environment({"RANK": "3", "WORLD_SIZE": "4"}).with_worker(1, 2)
    assert (world.rank, world.num_ranks, world.worker, world.workers_per_rank) == (3, 4, 1, 2)


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "4", "WORLD_SIZE": "4"},
        {"RANK": "1"},
        {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "3"},
        {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "4"},
    ],
)
def test_variables_that_contradict_each_other_are_refused(variables: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"RANK=\d+, WORLD_SIZE=\d+ and LOCAL_WORLD_SIZE=\d+ do not go together"):
        World.from_environment(variables)


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"])
@pytest.mark.parametrize("value", ["", "one", "-1", "1.5"])
def test_what_is_no_number_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is '{value}'"):
        World.from_environment({name: value})


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_WORLD_SIZE"])
def test_a_world_of_nobody_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is '0'"):
        World.from_environment({name: "0"})
