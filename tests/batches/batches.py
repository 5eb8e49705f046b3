"""Small datasets of any columns, batches of chosen samples, and comparing them to the bit."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.batches import make_batch_reader


def write(out: Path, columns: Mapping[str, Any], samples: Iterable[dict[str, Any]], **arguments: Any) -> Path:
    with MDSWriter(out=out, columns=dict(columns), **arguments) as writer:
        for sample in samples:
            writer.write(sample)
    return out


def read_batch(
    dataset: StreamingDataset, ids: Sequence[int], as_: str = "torch", columns: Any = None, **arguments: Any
) -> Any:
    """Read the batch of some samples, wherever they stand in the order."""
    reader = dataset._reader or dataset._load()
    chosen = {"images": "pil", "ragged": None, "num_threads": 1, **arguments}
    batch_reader = make_batch_reader(reader, columns, as_, dataset._batch_forms(), **chosen)
    numbers = np.asarray(ids, np.int64)
    return next(batch_reader.read(numbers, *reader.locate(numbers), len(numbers) or 1, None))


def assert_same(left: Any, right: Any, where: str = "") -> None:
    """Compare what two ways of collating gave: types, dtypes, shapes and bits."""
    assert type(left) is type(right), where
    if isinstance(left, torch.Tensor):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        bits = torch.uint8 if left.ndim else left.dtype
        assert torch.equal(left.contiguous().view(bits), right.contiguous().view(bits)), where
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        assert left.tobytes() == right.tobytes(), where
    elif isinstance(left, dict):
        assert list(left) == list(right), where
        for name in left:
            assert_same(left[name], right[name], f"{where}[{name!r}]")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    elif isinstance(left, float) and math.isnan(left):
        assert math.isnan(right), where
    else:
        assert left == right, where
