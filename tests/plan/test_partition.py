"""Who reads what: every split of a job reads the same batches, and nothing is left out."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.plan.partition import samples_per_rank, worker_positions
from arrowstream.world import World

CHUNKS = st.integers(1, 64)


@dataclass(frozen=True)
class Job:
    num_nodes: int
    ranks_per_node: int
    workers: int
    batch_size: int

    @property
    def num_ranks(self) -> int:
        return self.num_nodes * self.ranks_per_node

    def worker_batches(self, num_samples: int, rank: int, worker: int, chunk: int) -> list[list[int]]:
        """Cut a worker's positions into the batches that its loader makes of them."""
        world = World(
            num_nodes=self.num_nodes,
            ranks_per_node=self.ranks_per_node,
            workers_per_rank=self.workers,
            rank=rank,
            worker=worker,
        )
        parts = list(worker_positions(num_samples, world, self.batch_size, chunk))
        positions = [position for part in parts for position in part.tolist()]
        return [positions[start : start + self.batch_size] for start in range(0, len(positions), self.batch_size)]

    def rank_batches(self, num_samples: int, rank: int, chunk: int = 16) -> list[list[int]]:
        """Take one batch from each worker in turn, as a loader does; one that has no more is passed over."""
        queues = [self.worker_batches(num_samples, rank, worker, chunk) for worker in range(self.workers)]
        rounds = max(map(len, queues))
        return [queue[turn] for turn in range(rounds) for queue in queues if turn < len(queue)]

    def global_batches(self, num_samples: int) -> list[list[int]]:
        ranks = [self.rank_batches(num_samples, rank) for rank in range(self.num_ranks)]
        return [[position for batch in step for position in batch] for step in zip(*ranks, strict=True)]


JOBS = st.builds(
    Job,
    num_nodes=st.integers(1, 4),
    ranks_per_node=st.integers(1, 4),
    workers=st.integers(1, 4),
    batch_size=st.integers(1, 9),
)
NUM_SAMPLES = st.integers(0, 300)


@given(job=JOBS, num_samples=NUM_SAMPLES, chunk=CHUNKS)
def test_every_rank_reads_the_same_number(job: Job, num_samples: int, chunk: int) -> None:
    for rank in range(job.num_ranks):
        batches = job.rank_batches(num_samples, rank, chunk)
        assert sum(map(len, batches)) == samples_per_rank(num_samples, job.num_ranks)


@given(job=JOBS, num_samples=NUM_SAMPLES)
def test_every_position_is_read_and_few_are_repeated(job: Job, num_samples: int) -> None:
    read = [position for batch in job.global_batches(num_samples) for position in batch]
    assert set(read) == set(range(num_samples))
    assert len(read) - num_samples <= job.num_ranks - 1


@given(job=JOBS, num_samples=NUM_SAMPLES, rank=st.integers(0, 15))
def test_only_the_last_batch_of_a_rank_may_be_short(job: Job, num_samples: int, rank: int) -> None:
    batches = job.rank_batches(num_samples, rank % job.num_ranks)
    assert all(len(batch) == job.batch_size for batch in batches[:-1])


@given(job=JOBS, num_samples=NUM_SAMPLES)
def test_a_step_is_a_run_of_positions_whatever_the_split(job: Job, num_samples: int) -> None:
    size = job.num_ranks * job.batch_size
    steps = job.global_batches(num_samples)
    assert len(steps) == -(-num_samples // size)
    for number, step in enumerate(steps):
        # Read on to where the ranks are even; what lies beyond the end is the begin again.
        stop = min((number + 1) * size, job.num_ranks * samples_per_rank(num_samples, job.num_ranks))
        assert sorted(step) == sorted(position % num_samples for position in range(number * size, stop))


@given(
    splits=st.sampled_from([(1, 1, 12), (1, 2, 6), (2, 1, 6), (2, 2, 3), (3, 4, 1), (4, 3, 1), (1, 12, 1), (6, 1, 2)]),
    workers=st.integers(1, 4),
    num_steps=st.integers(1, 20),
)
def test_equal_global_batches_hold_equal_samples(splits: tuple[int, int, int], workers: int, num_steps: int) -> None:
    num_nodes, ranks_per_node, batch_size = splits
    alone = Job(num_nodes=1, ranks_per_node=1, workers=1, batch_size=12)
    split = Job(num_nodes=num_nodes, ranks_per_node=ranks_per_node, workers=workers, batch_size=batch_size)
    num_samples = 12 * num_steps
    assert [sorted(step) for step in split.global_batches(num_samples)] == alone.global_batches(num_samples)


@given(job=JOBS, num_samples=NUM_SAMPLES, rank=st.integers(0, 15), chunk=CHUNKS)
def test_a_loader_of_several_workers_delivers_what_one_would(job: Job, num_samples: int, rank: int, chunk: int) -> None:
    single = Job(job.num_nodes, job.ranks_per_node, 1, job.batch_size)
    rank %= job.num_ranks
    assert job.rank_batches(num_samples, rank, chunk) == single.rank_batches(num_samples, rank, 1)


@given(job=JOBS, num_samples=NUM_SAMPLES, chunk=CHUNKS)
def test_positions_come_in_pieces_of_the_size_that_was_asked_for(job: Job, num_samples: int, chunk: int) -> None:
    world = World(
        num_nodes=job.num_nodes, ranks_per_node=job.ranks_per_node, workers_per_rank=job.workers, worker=job.workers - 1
    )
    for part in worker_positions(num_samples, world, job.batch_size, chunk):
        assert part.dtype == np.int64
        assert 0 < len(part) <= max(chunk, job.batch_size)
