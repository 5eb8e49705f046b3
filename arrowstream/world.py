"""Where a process stands among the processes that share one epoch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes of a job, and which of them this one is.

    Attributes:
        num_nodes: Machines.
        ranks_per_node: Training processes on each machine.
        workers_per_rank: Loading processes of each training process, at least 1.
        rank: This training process, counted node by node.
        worker: This loading process within its rank.
    """

    num_nodes: int = 1
    ranks_per_node: int = 1
    workers_per_rank: int = 1
    rank: int = 0
    worker: int = 0

    @property
    def num_ranks(self) -> int:
        """Training processes of the job."""
        return self.num_nodes * self.ranks_per_node

    @property
    def node(self) -> int:
        """The machine of this process."""
        return self.rank // self.ranks_per_node

    @property
    def rank_of_node(self) -> int:
        """This training process among those of its machine."""
        return self.rank % self.ranks_per_node

    def with_worker(self, worker: int, workers_per_rank: int) -> Self:
        """Give the same place in the job, for one loading process of several."""
        return replace(self, worker=worker, workers_per_rank=workers_per_rank)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the variables that torchrun sets: ``RANK``, ``WORLD_SIZE``, ``LOCAL_WORLD_SIZE``.

        Without them the job is one process. Without ``LOCAL_WORLD_SIZE`` all ranks count as one machine's.

        Raises:
            ValueError: They contradict each other.
        """
        variables = os.environ if environment is None else environment
        num_ranks = _number(variables, "WORLD_SIZE", 1)
        ranks_per_node = _number(variables, "LOCAL_WORLD_SIZE", num_ranks)
        rank = _number(variables, "RANK", 0)
        if num_ranks % ranks_per_node or not 0 <= rank < num_ranks:
            raise ValueError(
                f"RANK={rank}, WORLD_SIZE={num_ranks} and LOCAL_WORLD_SIZE={ranks_per_node} do not go together"
            )
        return cls(num_nodes=num_ranks // ranks_per_node, ranks_per_node=ranks_per_node, rank=rank)


def _number(variables: Mapping[str, str], name: str, default: int) -> int:
    text = variables.get(name)
    if text is None:
        return default
    if not text.isdecimal() or (int(text) == 0 and name != "RANK"):
        raise ValueError(f"the environment variable {name} is {text!r}, expected a number")
    return int(text)
