"""A job whose processes are killed at random moments goes on, in the same cache, without clean-up."""

import pytest

from benchmarks.kills import Settings, run

NUM_SAMPLES = 800


@pytest.mark.parametrize(
    ("unit", "limit", "seed"), [("shard", "", 3), ("shard", "150kb", 4), ("record_batch", "8mb", 3)]
)  # the seeds are such that a batch is waited for before the kill
def test_a_job_that_is_killed_goes_on_where_it_was_when_it_is_started_again(unit: str, limit: str, seed: int) -> None:
    summary = run(Settings(num_kills=1, num_samples=NUM_SAMPLES, cache_limit=limit, unit=unit, seed=seed))
    assert summary.num_kills == 1
    assert summary.num_compared > NUM_SAMPLES  # those of killed jobs, too
    assert set(summary.last_epoch) == set(range(NUM_SAMPLES))
    assert summary.left == ()
