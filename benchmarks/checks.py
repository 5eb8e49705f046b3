"""Whether a peer gave what was written."""

import numpy as np

from benchmarks.rows import Rows, WrongRowError

Measured = dict[str, object]

#: What is short is repeated until it has taken as long.
MIN_SECONDS = 0.5
CHECKED_ROWS = 50


def check_reads(dataset, rows: Rows) -> None:
    for i in np.random.default_rng(2).integers(0, len(rows), CHECKED_ROWS).tolist():
        if rows.check(dataset[i]) != i:
            raise WrongRowError(f"dataset[{i}] is another row")


def check_epoch(seen: list[int], rows: Rows) -> None:
    """Every row came, in another order than it was written. (A last batch may repeat some.)"""
    missing = len(rows) - len(set(seen))
    if missing:
        raise WrongRowError(f"an epoch left out {missing} of {len(rows)} rows")
    if seen == sorted(seen):
        raise WrongRowError("an epoch that was to be shuffled came in the order of writing")
