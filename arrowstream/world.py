"""Where a process stands among the processes that share one epoch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from arrowstream.launchers import read_launcher


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

    def regrouped(self, rank: int, num_ranks: int) -> Self:
        """Spread another number of ranks over the same machines.

        Args:
            rank: This process among them.
            num_ranks: All of them; those that follow each other are taken to share machines.

        Returns:
            The place in a job of ``num_ranks``. If neither the machines divide the ranks nor the ranks the machines,
            all count as one machine's: who reads what is then as exact, but machines may fetch more in common.

        Raises:
            ValueError: There is no such rank.
        """
        if num_ranks < 1 or not 0 <= rank < num_ranks:
            raise ValueError(f"rank is {rank} of {num_ranks}; expected at least one rank, counted from 0")
        if num_ranks % self.num_nodes == 0:
            ranks_per_node = num_ranks // self.num_nodes
        else:
            ranks_per_node = 1 if self.num_nodes % num_ranks == 0 else num_ranks
        return replace(self, num_nodes=num_ranks // ranks_per_node, ranks_per_node=ranks_per_node, rank=rank)

    def replicated(self, replication: int | None) -> Self:
        """Take consecutive ranks that read the same samples for one.

        Args:
            replication: Ranks that read the same; None for 1.

        Raises:
            ValueError: The replication is not positive, or does not divide the ranks.
        """
        if replication is None:
            return self
        if replication < 1:
            raise ValueError(f"Replication factor must be positive; it is {replication}.")
        if self.num_ranks % replication:
            raise ValueError(
                f"World size must be divisible by your replication factor: {self.num_ranks} ranks, {replication} alike."
            )
        return self.regrouped(self.rank // replication, self.num_ranks // replication)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the variables of whatever launched the process; without any, the job is one process.

        See :mod:`arrowstream.launchers`, which lists them.

        Raises:
            ValueError: They contradict each other, or one is no number.
        """
        launched = read_launcher(os.environ if environment is None else environment)
        if launched is None:
            return cls()
        rank, num_ranks, ranks_per_node = launched
        return cls(num_nodes=num_ranks // ranks_per_node, ranks_per_node=ranks_per_node, rank=rank)
