"""Which process reads which position, as mosaicml-streaming has it: its partition algorithms ``orig`` and ``relaxed``.

Positions are cut into canonical nodes, each a run of consecutive ones, and dealt out to the nodes of the job in turn,
then to the ranks, then batch by batch to the workers. Where that does not come out even, positions are repeated, so
that all ranks have equally many; batches are filled up with -1.

Time and memory in proportion to the number of samples.
"""

import logging
import math
import warnings

import numpy as np
import numpy.typing as npt

from arrowstream.world import World

IntArray = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)


#: What ``partition_algo`` takes.
PARTITIONS = ("orig", "relaxed")


def partition(
    algo: str,
    num_samples: int,
    num_canonical_nodes: int,
    world: World,
    batch_size: int,
    *,
    drop_first: int = 0,
    initial_physical_nodes: int | None = None,
) -> IntArray:
    """Deal out the positions of an epoch.

    Args:
        algo: ``orig``: the nodes of the job must divide the canonical ones or the reverse. ``relaxed``: where they do
            not, each step gets what it had on the nodes that the job began with.
        num_samples: Positions of the epoch, at least 1.
        num_canonical_nodes: Parts of the data that are dealt out side by side.
        world: The job; which rank and worker of it does not matter.
        batch_size: Of one rank.
        drop_first: Positions that were read before; rounded down to a multiple of the nodes.
        initial_physical_nodes: Those that the job began with; None: its own.

    Returns:
        Positions in [0, num_samples), -1 where a batch has none; int64 of shape (nodes, ranks, workers, batches, batch
        size).

    Raises:
        ValueError: A size is not positive, neither number of nodes divides the other, there are too few samples to
            repeat, ``drop_first`` lies beyond the epoch, or the batch of a step does not divide among the ranks that
            the job began with.
    """
    _check(num_samples, num_canonical_nodes, world, batch_size, drop_first)
    divides = _divide_evenly(num_canonical_nodes, world.num_nodes)
    if algo == "orig" or initial_physical_nodes is None or divides:
        return _deal_out(num_samples, num_canonical_nodes, world, batch_size, drop_first)
    step = world.num_ranks * batch_size
    initial_ranks = initial_physical_nodes * world.ranks_per_node
    if initial_ranks < 1 or step % initial_ranks:
        raise ValueError(
            f"A global batch size of {step} is not evenly divisible by the initial total number of devices of"
            f" {initial_ranks}. Make sure that when using the `relaxed` partitioning algorithm, the global batch size"
            " does not change during resumption of training."
        )
    began_as = World(
        num_nodes=initial_physical_nodes,
        ranks_per_node=world.ranks_per_node,
        workers_per_rank=world.workers_per_rank,
    )
    initial = _deal_out(num_samples, num_canonical_nodes, began_as, step // initial_ranks, drop_first)
    return dealt(training_order(initial), world, batch_size)


def training_order(work: IntArray) -> IntArray:
    """Give the entries of a partition in the sequence in which a job trains on them, int64 of shape (entries,)."""
    return work.transpose(3, 2, 0, 1, 4).reshape(-1)


def dealt(in_training_order: IntArray, world: World, batch_size: int) -> IntArray:
    """Deal out whole steps: node by node, rank by rank; the inverse of :func:`training_order`.

    Args:
        in_training_order: int64, as many as fill all workers' batches.
        world: The job; which rank and worker of it does not matter.
        batch_size: Of one rank.

    Returns:
        int64 of shape (nodes, ranks, workers, batches, batch size).
    """
    job = (world.workers_per_rank, world.num_nodes, world.ranks_per_node, batch_size)
    batches = len(in_training_order) // math.prod(job)
    return in_training_order.reshape(batches, *job).transpose(2, 3, 1, 0, 4)


def _check(num_samples: int, num_canonical_nodes: int, world: World, batch_size: int, drop_first: int) -> None:
    sizes = (
        num_samples,
        num_canonical_nodes,
        world.num_nodes,
        world.ranks_per_node,
        world.workers_per_rank,
        batch_size,
    )
    if min(sizes) < 1:
        raise ValueError(
            f"samples, canonical nodes, physical nodes, ranks, workers and batch size are {sizes}, expected at least 1"
        )
    if drop_first < 0:
        raise ValueError(f"drop_first is {drop_first}, expected at least 0")
    if drop_first > num_samples + (world.num_ranks - num_samples % world.num_ranks):
        raise ValueError(f"Resuming further into the dataset ({drop_first}) than it has samples ({num_samples})")


def _deal_out(num_samples: int, num_canonical_nodes: int, world: World, batch_size: int, drop_first: int) -> IntArray:
    num_nodes, ranks_per_node, workers = world.num_nodes, world.ranks_per_node, world.workers_per_rank
    if not _divide_evenly(num_canonical_nodes, num_nodes):
        raise ValueError(
            "Either canonical or physical nodes must be evenly divisible by the other, otherwise striping slices of"
            " shards over nodes may lead to each node downloading all shards"
        )
    positions = _striped(num_samples, num_canonical_nodes, num_nodes)
    if drop_first % num_nodes:
        _log.warning("%d samples do not divide among %d nodes: a few come again", drop_first, num_nodes)
    positions = positions[drop_first - drop_first % num_nodes :].reshape(-1, num_nodes)  # (per node, nodes)
    positions = _evened_out(positions, ranks_per_node)  # (per rank * ranks, nodes)
    per_rank = len(positions) // ranks_per_node
    by_rank = positions.reshape(per_rank, ranks_per_node, num_nodes).transpose(2, 1, 0)  # (nodes, ranks, per rank)
    missing = -per_rank % (workers * batch_size)
    by_rank = np.pad(by_rank, ((0, 0), (0, 0), (0, missing)), constant_values=-1)
    batches = (per_rank + missing) // (workers * batch_size)
    return by_rank.reshape(num_nodes, ranks_per_node, batches, workers, batch_size).transpose(0, 1, 3, 2, 4)


def _divide_evenly(one: int, other: int) -> bool:
    return one % other == 0 or other % one == 0


def _striped(num_samples: int, num_canonical_nodes: int, num_physical_nodes: int) -> IntArray:
    """Put the canonical nodes side by side: the first position of each, the second of each, and so on."""
    per_node = -(-num_samples // num_canonical_nodes)
    ratio = max(num_physical_nodes // num_canonical_nodes, 1)
    missing = -per_node % ratio
    if num_samples < num_canonical_nodes or num_samples == num_canonical_nodes < num_physical_nodes:
        warnings.warn(
            f"Trying to partition {num_samples} samples over {num_canonical_nodes} canonical nodes. This will result"
            " in many samples being repeated, and depending on your batching method, batches being completely dropped."
            " Check if your dataset has the expected number of samples, and consider decreasing the number of"
            " canonical nodes.",
            stacklevel=5,
        )
        repeated = np.resize(np.arange(num_samples), num_canonical_nodes * (per_node + missing))
        return repeated.reshape(num_canonical_nodes, -1).T.reshape(-1)
    starts = np.array([node * num_samples // num_canonical_nodes for node in range(num_canonical_nodes + 1)], np.int64)
    positions = np.arange(per_node)[:, None] + starts[:-1]  # (per node, canonical nodes)
    positions[-1, np.diff(starts) < per_node] -= 1
    if missing:
        first = per_node - missing - ratio + 1
        if first < 0:
            raise ValueError(
                f"{num_samples} samples cannot be dealt out to {num_physical_nodes} nodes with {num_canonical_nodes}"
                " canonical nodes: there are too few to repeat; set num_canonical_nodes to the number of nodes"
            )
        positions = np.concatenate([positions, positions[first : first + missing]])
    return positions.reshape(-1)


def _evened_out(positions: IntArray, ranks_per_node: int) -> IntArray:
    """Repeat as many positions of each node as its ranks need to have equally many."""
    per_node = len(positions)
    missing = -per_node % ranks_per_node
    if not missing:
        return positions
    first = per_node - ranks_per_node - missing + 1
    if first >= 0:
        return np.concatenate([positions, positions[first : first + missing]])
    warnings.warn(
        f"Attempting to partition {per_node} samples per physical node over {ranks_per_node} gpus. This will result in"
        " many samples being repeated, and depending on your batching method, batches being completely dropped. Check"
        " if your dataset has the expected number of samples.",
        stacklevel=5,
    )
    return positions[np.arange(per_node + missing) % per_node]
