"""Who reads which positions of an epoch: arithmetic, no communication.

With P nodes of R ranks and batches of B, step k of the job is the positions [k·G, (k+1)·G), G = P·R·B. Rank r of node i
reads those that are i + P·(r + R·j). So the samples of a step depend on G alone, and every rank takes the same number
of steps. Within a rank, worker w of W prepares the batches w, w + W, w + 2W, …: the order in which a loader asks.

Where the positions do not come out even, the *tail* says what becomes of the last ones:

* ``repeat``: none is left out; ranks that would have one less read one from the front of the epoch.
* ``drop``: what does not fill a step of the whole job is left out.
* ``pad``: as ``repeat``, and what is repeated is known: at most the very last sample of a rank.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from arrowstream.world import World

IntArray = npt.NDArray[np.int64]
Tail = Literal["repeat", "drop", "pad"]
TAILS: tuple[Tail, ...] = get_args(Tail)


def samples_per_rank(num_samples: int, num_ranks: int, batch_size: int = 1, tail: Tail = "repeat") -> int:
    """Count the samples that every rank reads.

    Args:
        num_samples: Positions that are left of the epoch.
        num_ranks: All ranks of the job.
        batch_size: Of one rank; only ``drop`` asks for it.
        tail: What becomes of positions that do not come out even.
    """
    if tail == "drop":
        return num_samples // (num_ranks * batch_size) * batch_size
    return -(-num_samples // num_ranks)


def worker_positions(
    num_samples: int, world: World, batch_size: int, chunk: int, *, start: int = 0, tail: Tail = "repeat"
) -> Iterator[IntArray]:
    """Give the positions that one worker reads, in its order.

    Args:
        num_samples: Positions of the epoch.
        world: The job, and the worker in it.
        batch_size: Samples of a batch on one rank.
        chunk: About how many positions to give at once; always whole batches.
        start: Position to begin at, for an epoch that goes on; batches count from there.
        tail: What becomes of positions that do not come out even.

    Yields:
        Positions in [0, num_samples), int64 of shape (up to about chunk,).
    """
    for positions in endless_positions(num_samples, world, batch_size, chunk, start=start, tail=tail):
        yield positions % num_samples


def endless_positions(
    num_samples: int, world: World, batch_size: int, chunk: int, *, start: int = 0, tail: Tail = "repeat"
) -> Iterator[IntArray]:
    """Give the positions that one worker reads; those it repeats go on beyond the end. See :func:`worker_positions`."""
    rank_samples = samples_per_rank(num_samples - start, world.num_ranks, batch_size, tail)
    steps = -(-rank_samples // batch_size)
    own_steps = range(world.worker, steps, world.workers_per_rank)
    steps_at_once = max(chunk // batch_size, 1)
    of_step = start + lane_of(world) + world.num_ranks * np.arange(batch_size, dtype=np.int64)  # (batch,), of step 0
    for first in range(0, len(own_steps), steps_at_once):
        taken = own_steps[first : first + steps_at_once]
        firsts = np.arange(taken.start, taken.stop, taken.step, dtype=np.int64) * (batch_size * world.num_ranks)
        positions = (firsts[:, None] + of_step).reshape(-1)  # (steps * batch,)
        missing = max((taken[-1] + 1) * batch_size - rank_samples, 0)  # only a rank's last step is short
        yield positions[: len(positions) - missing]


def padding_at(num_samples: int, world: World, batch_size: int, *, start: int = 0) -> int | None:
    """Find the sample that a worker reads only so that all ranks read as many.

    Args:
        num_samples: Positions of the epoch.
        world: The job, and the worker in it.
        batch_size: Samples of a batch on one rank.
        start: Position at which the epoch goes on.

    Returns:
        Its number among the samples that :func:`worker_positions` gives this worker, where it is the last one; None if
        the worker reads none such.
    """
    left = num_samples - start
    rank_samples = samples_per_rank(left, world.num_ranks)
    if left <= lane_of(world) + world.num_ranks * (rank_samples - 1) and rank_samples:
        last_step = (rank_samples - 1) // batch_size
        if last_step % world.workers_per_rank == world.worker:
            return last_step // world.workers_per_rank * batch_size + (rank_samples - 1) % batch_size
    return None


def step_by_node(positions: IntArray, world: World) -> IntArray:
    """Sort the positions of whole steps by the machine that reads them.

    Args:
        positions: Of one or more whole steps, in sequence; int64 of shape (steps * samples of a step,).
        world: The job.

    Returns:
        int64 of shape (nodes, positions of a node), each node's in sequence.
    """
    return positions.reshape(-1, world.num_nodes).T


def lane_of(world: World) -> int:
    """Give the first position of a rank; the others follow at distances of as many ranks as there are."""
    return world.node + world.num_nodes * world.rank_of_node
