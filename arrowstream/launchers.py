"""The environment variables by which launchers tell a process which of how many it is.

The first of these that is there decides:

=========  ==============================  ==============================  =========================================
launcher   rank                            ranks                           ranks of this machine
=========  ==============================  ==============================  =========================================
torchrun   ``RANK``                        ``WORLD_SIZE``                  ``LOCAL_WORLD_SIZE``
Open MPI   ``OMPI_COMM_WORLD_RANK``        ``OMPI_COMM_WORLD_SIZE``        ``OMPI_COMM_WORLD_LOCAL_SIZE``
MVAPICH    ``MV2_COMM_WORLD_RANK``         ``MV2_COMM_WORLD_SIZE``         ``MV2_COMM_WORLD_LOCAL_SIZE``
Hydra      ``PMI_RANK``                    ``PMI_SIZE``                    ``MPI_LOCALNRANKS``
Slurm      ``SLURM_PROCID``                ``SLURM_STEP_NUM_TASKS``, else  ``SLURM_STEP_TASKS_PER_NODE``, else
                                           ``SLURM_NTASKS``                ``SLURM_NTASKS_PER_NODE``, else
                                                                           ranks / ``SLURM_NNODES``
=========  ==============================  ==============================  =========================================

torchrun's are those of mosaicml-streaming and of most other launchers of PyTorch (Composer, Lightning, Accelerate,
Kubeflow). MPI's come before Slurm's because mpirun itself may run under Slurm, as one task a machine.

Slurm also sets its variables, with ``SLURM_PROCID=0``, in the shell of a batch script or an allocation, which runs once
and not once a task. So they count only within a step that srun began (``SLURM_STEP_ID``), and not where that step is
somebody's terminal (``SLURM_PTY_PORT``).
"""

import re
from collections.abc import Mapping

_FAMILIES = (
    ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
)
# Steps that are no program's: the shell of an interactive allocation, the batch script, what ssh joins, pending ones.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0
_TASKS_OF_NODES = re.compile(r"(\d+)(?:\(x(\d+)\))?")

#: Rank, number of ranks, ranks of each machine.
Launched = tuple[int, int, int]


def read_launcher(variables: Mapping[str, str]) -> Launched | None:
    """Find out which process of how many this is.

    Args:
        variables: The environment.

    Returns:
        Rank, number of ranks, and ranks of each machine, which divides the number of ranks: all of them where machines
        are not known or have unequally many. None without a launcher.

    Raises:
        ValueError: The variables contradict each other, or one is no number.
    """
    for family in _FAMILIES:
        if any(name in variables for name in family):
            return _read(variables, *family)
    if _is_slurm_task(variables):
        return _read_slurm(variables)
    return None


def _read(variables: Mapping[str, str], rank: str, size: str, local_size: str) -> Launched:
    num_ranks = _number(variables, size, least=1, default=1)
    ranks_per_node = _number(variables, local_size, least=1, default=num_ranks)
    number = _number(variables, rank, least=0, default=0)
    if num_ranks % ranks_per_node or number >= num_ranks:
        raise ValueError(f"{rank}={number}, {size}={num_ranks} and {local_size}={ranks_per_node} do not go together")
    return number, num_ranks, ranks_per_node


def _is_slurm_task(variables: Mapping[str, str]) -> bool:
    if "SLURM_PROCID" not in variables or "SLURM_PTY_PORT" in variables:
        return False
    step = variables.get("SLURM_STEP_ID", variables.get("SLURM_STEPID", ""))
    return step.isdecimal() and int(step) < _FIRST_SPECIAL_STEP


def _read_slurm(variables: Mapping[str, str]) -> Launched:
    size = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in variables else "SLURM_NTASKS"
    num_ranks = _number(variables, size, least=1, default=1)
    rank = _number(variables, "SLURM_PROCID", least=0, default=0)
    if rank >= num_ranks:
        raise ValueError(f"SLURM_PROCID={rank} and {size}={num_ranks} do not go together")
    return rank, num_ranks, _slurm_ranks_per_node(variables, num_ranks)


def _slurm_ranks_per_node(variables: Mapping[str, str], num_ranks: int) -> int:
    """Give the tasks of each machine; all of them where machines have unequally many."""
    if "SLURM_STEP_TASKS_PER_NODE" in variables:
        nodes = _tasks_of_nodes(variables["SLURM_STEP_TASKS_PER_NODE"])
        return nodes[0] if len(set(nodes)) == 1 and sum(nodes) == num_ranks else num_ranks
    if "SLURM_NTASKS_PER_NODE" in variables:
        ranks_per_node = _number(variables, "SLURM_NTASKS_PER_NODE", least=1, default=1)
    else:
        num_nodes = _number(variables, "SLURM_NNODES", least=1, default=1)
        ranks_per_node = num_ranks // num_nodes if num_ranks % num_nodes == 0 else num_ranks
    return ranks_per_node if num_ranks % ranks_per_node == 0 else num_ranks


def _tasks_of_nodes(text: str) -> list[int]:
    """Read Slurm's notation for one number a machine: ``2(x3),1`` is 2, 2, 2, 1."""
    nodes: list[int] = []
    for part in text.split(","):
        match = _TASKS_OF_NODES.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                f"the environment variable SLURM_STEP_TASKS_PER_NODE is {text!r}, expected numbers like '2(x3),1'"
            )
        nodes += [int(match[1])] * int(match[2] or 1)
    return nodes


def _number(variables: Mapping[str, str], name: str, *, least: int, default: int) -> int:
    text = variables.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"the environment variable {name} is {text!r}, expected a number of at least {least}")
    return int(text)
