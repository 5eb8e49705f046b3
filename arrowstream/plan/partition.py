"""Who reads which positions of an epoch: arithmetic, no communication.

With P nodes of R ranks and batches of B, step k of the job is the positions [k·G, (k+1)·G), G = P·R·B. Rank r of node i
reads those that are i + P·(r + R·j). So the samples of a step depend on G alone, and every rank takes the same number
of steps. Within a rank, worker w of W prepares the batches w, w + W, w + 2W, …: the order in which a loader asks.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from arrowstream.world import World

IntArray = npt.NDArray[np.int64]


def samples_per_rank(num_samples: int, num_ranks: int) -> int:
    """Number of samples that every rank reads: none is dropped, the last few may be repeated."""
    return -(-num_samples // num_ranks)


def worker_positions(
    num_samples: int, world: World, batch_size: int, chunk: int, *, start: int = 0
) -> Iterator[IntArray]:
    """Give the positions that one worker reads, in its order.

    Args:
        num_samples: Positions of the epoch.
        world: The job, and the worker in it.
        batch_size: Samples of a batch on one rank.
        chunk: About how many positions to give at once; always whole batches.
        start: Position to begin at, for an epoch that goes on; batches count from there.

    Yields:
        Positions in [0, num_samples), int64 of shape (up to about chunk,).
    """
    rank_samples = samples_per_rank(num_samples - start, world.num_ranks)
    steps = -(-rank_samples // batch_size)
    own_steps = np.arange(world.worker, steps, world.workers_per_rank, dtype=np.int64)
    steps_at_once = max(chunk // batch_size, 1)
    within = np.arange(batch_size, dtype=np.int64)
    lane = world.node + world.num_nodes * world.rank_of_node
    for first in range(0, len(own_steps), steps_at_once):
        chunk_steps = own_steps[first : first + steps_at_once]
        local = (chunk_steps[:, None] * batch_size + within).reshape(-1)  # (steps * batch,), counted within the rank
        local = local[local < rank_samples]
        yield (start + lane + world.num_ranks * local) % num_samples
