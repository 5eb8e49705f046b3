"""A job whose processes are killed at random moments goes on, in the same cache, without clean-up."""

import pytest

from benchmarks import kills


@pytest.mark.parametrize("limit", ["", "300kb"])
def test_a_job_that_is_killed_goes_on_when_it_is_started_again(limit: str) -> None:
    kills.run(num_kills=2, num_samples=1000, limit=limit, seed=len(limit))
