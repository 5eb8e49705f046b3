"""Samples that are read only so that all ranks take as many steps, marked for those who count each sample once."""

from collections.abc import Iterator
from typing import Any

#: The key that every sample gets with ``tail="pad"``: whether the epoch has had this sample before.
PADDING = "is_padding"


def mark_padding(samples: Iterator[Any], padding_at: int | None, first: int) -> Iterator[Any]:
    """Say of every sample whether it is padding.

    Args:
        samples: In the order of a process; their dictionaries are changed.
        padding_at: The number of the one that is; None if none is.
        first: The number of the first.

    Raises:
        TypeError: A sample is no dictionary, because a subclass made something else of it.
        ValueError: The samples have a column of that name.
    """
    for number, sample in enumerate(samples, first):
        if not isinstance(sample, dict):
            raise TypeError(
                f"tail='pad' marks each sample with the key {PADDING!r}, but __getitem__ gave a "
                f"{type(sample).__name__}; give a dictionary, or use tail='repeat' or 'drop'"
            )
        if PADDING in sample:
            raise ValueError(f"tail='pad' marks each sample with the key {PADDING!r}, which is a column of the data")
        sample[PADDING] = number == padding_at
        yield sample
