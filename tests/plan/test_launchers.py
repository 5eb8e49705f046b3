"""Which process of how many this is, as each launcher says it."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.world import World

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "1", "GROUP_RANK": "1"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}
HYDRA = {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALNRANKS": "4"}
MVAPICH = {"MV2_COMM_WORLD_RANK": "5", "MV2_COMM_WORLD_SIZE": "8", "MV2_COMM_WORLD_LOCAL_SIZE": "4"}
# The environment of one task of `srun --nodes=2 --ntasks-per-node=4`, and of the batch script that called srun.
SLURM_TASK = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_NNODES": "2",
}
SLURM_SCRIPT = {
    "SLURM_PROCID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_TASKS_PER_NODE": "4(x2)",
    "SLURM_NNODES": "2",
    "SLURM_LOCALID": "0",
}


def place(variables: Mapping[str, str]) -> tuple[int, int, int]:
    world = World.from_environment(variables)
    return world.rank, world.num_nodes, world.ranks_per_node


@pytest.mark.parametrize("variables", [TORCHRUN, OPEN_MPI, HYDRA, MVAPICH, SLURM_TASK])
def test_every_launcher_is_understood(variables: dict[str, str]) -> None:
    assert place(variables) == (5, 2, 4)


@pytest.mark.parametrize("variables", [OPEN_MPI, HYDRA, MVAPICH])
def test_mpi_without_local_sizes_counts_as_one_machine(variables: dict[str, str]) -> None:
    known = {name: value for name, value in variables.items() if "LOCAL" not in name}
    assert place(known) == (5, 1, 8)


def test_torchrun_comes_before_mpi_and_mpi_before_slurm() -> None:
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    assert place({**SLURM_TASK, **OPEN_MPI, **alone}) == (0, 1, 1)
    proxy = {**SLURM_TASK, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    assert place({**proxy, **HYDRA}) == (5, 2, 4)


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("a batch script", SLURM_SCRIPT),
        ("the interactive step of an allocation", {**SLURM_SCRIPT, "SLURM_STEP_ID": "4294967290"}),
        ("a negative step", {**SLURM_SCRIPT, "SLURM_STEP_ID": "-5"}),
        ("srun --pty bash", {**SLURM_TASK, "SLURM_PROCID": "0", "SLURM_PTY_PORT": "40123"}),
        ("a shell that knows its job alone", {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0"}),
    ],
)
def test_a_shell_under_slurm_is_no_task(name: str, variables: dict[str, str]) -> None:
    assert place(variables) == (0, 1, 1)


@pytest.mark.parametrize(
    ("tasks", "num_ranks", "ranks_per_node"),
    [("2(x3)", 6, 2), ("4", 4, 4), ("1(x2),1", 3, 1), ("2(x3),1", 7, 7), ("3,2", 5, 5), ("2,2,2", 6, 2)],
)
def test_slurm_says_how_many_tasks_each_machine_has(tasks: str, num_ranks: int, ranks_per_node: int) -> None:
    variables = {
        "SLURM_PROCID": str(num_ranks - 1),
        "SLURM_STEP_NUM_TASKS": str(num_ranks),
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_STEP_ID": "3",
    }
    assert place(variables) == (num_ranks - 1, num_ranks // ranks_per_node, ranks_per_node)


@pytest.mark.parametrize(
    ("more", "ranks_per_node"),
    [
        ({"SLURM_NTASKS_PER_NODE": "2"}, 2),
        ({"SLURM_NTASKS_PER_NODE": "4"}, 6),  # does not divide 6: more tasks than the step has
        ({"SLURM_NNODES": "3"}, 2),
        ({"SLURM_NNODES": "4"}, 6),
        ({}, 6),
    ],
)
def test_without_it_slurm_is_asked_in_other_ways(more: dict[str, str], ranks_per_node: int) -> None:
    step = {"SLURM_PROCID": "1", "SLURM_NTASKS": "6", "SLURM_STEPID": "0"}
    assert place({**step, **more}) == (1, 6 // ranks_per_node, ranks_per_node)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "8"}, "OMPI_COMM_WORLD_RANK=8, OMPI_COMM_WORLD_SIZE=8"),
        ({**HYDRA, "MPI_LOCALNRANKS": "3"}, "MPI_LOCALNRANKS=3 do not go together"),
        ({**MVAPICH, "MV2_COMM_WORLD_SIZE": "x"}, "MV2_COMM_WORLD_SIZE is 'x'"),
        ({**SLURM_TASK, "SLURM_PROCID": "8"}, "SLURM_PROCID=8 and SLURM_STEP_NUM_TASKS=8"),
        ({**SLURM_TASK, "SLURM_STEP_TASKS_PER_NODE": "4(2)"}, r"SLURM_STEP_TASKS_PER_NODE is '4\(2\)'"),
        ({**SLURM_TASK, "SLURM_STEP_NUM_TASKS": "0"}, "SLURM_STEP_NUM_TASKS is '0'"),
    ],
)
def test_what_cannot_be_is_named(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        World.from_environment(variables)


@pytest.mark.parametrize(
    ("nodes", "ranks_per_node", "num_ranks", "expected"),
    [
        (2, 8, 8, (2, 4)),  # tensor parallelism over 2 ranks of a machine
        (2, 8, 2, (2, 1)),  # over all ranks of a machine
        (4, 8, 2, (2, 1)),  # over two machines
        (1, 1, 16, (1, 16)),  # no launcher said anything
        (2, 1, 16, (2, 8)),  # one launched process a machine, eight ranks in each
        (4, 3, 6, (1, 6)),  # does not come out even
    ],
)
def test_data_parallel_ranks_lie_on_the_machines_of_the_job(
    nodes: int, ranks_per_node: int, num_ranks: int, expected: tuple[int, int]
) -> None:
    world = World(num_nodes=nodes, ranks_per_node=ranks_per_node).regrouped(num_ranks - 1, num_ranks)
    assert (world.num_nodes, world.ranks_per_node, world.rank) == (*expected, num_ranks - 1)


@pytest.mark.parametrize(("rank", "num_ranks"), [(-1, 4), (4, 4), (0, 0), (0, -1)])
def test_a_rank_that_cannot_be_is_refused(rank: int, num_ranks: int) -> None:
    with pytest.raises(ValueError, match=f"rank is {rank} of {num_ranks}"):
        World().regrouped(rank, num_ranks)


@given(nodes=st.integers(1, 6), ranks_per_node=st.integers(1, 6), replication=st.integers(1, 12))
def test_replicas_stay_on_their_machine_where_they_fit(nodes: int, ranks_per_node: int, replication: int) -> None:
    worlds = [
        World(num_nodes=nodes, ranks_per_node=ranks_per_node, rank=rank) for rank in range(nodes * ranks_per_node)
    ]
    if len(worlds) % replication:
        with pytest.raises(ValueError, match="World size must be divisible by your replication factor"):
            worlds[0].replicated(replication)
        return
    groups = [world.replicated(replication) for world in worlds]
    assert [group.rank for group in groups] == [rank // replication for rank in range(len(worlds))]
    assert {group.num_ranks for group in groups} == {len(worlds) // replication}
    if ranks_per_node % replication == 0:
        assert [group.node for group in groups] == [world.node for world in worlds]


@pytest.mark.parametrize("replication", [0, -1])
def test_a_replication_of_nobody_is_refused(replication: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        World(ranks_per_node=4).replicated(replication)
