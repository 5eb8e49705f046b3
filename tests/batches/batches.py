"""Small datasets of any columns, batches of chosen samples, and comparing them to the bit."""

import math
import pickle
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.batch_forms import BatchForm
from arrowstream.batches import form_for, make_batch_reader
from arrowstream.deliveries import SentForm
from arrowstream.slabs import SlabPool, SlabTable
from arrowstream.transport import Packer, Sent, unpack


def write(out: Path, columns: Mapping[str, Any], samples: Iterable[dict[str, Any]], **arguments: Any) -> Path:
    with MDSWriter(out=out, columns=dict(columns), **arguments) as writer:
        for sample in samples:
            writer.write(sample)
    return out


def read_batch(
    dataset: StreamingDataset, ids: Sequence[int], as_: str | BatchForm = "torch", columns: Any = None, **arguments: Any
) -> Any:
    """Read the batch of some samples, wherever they stand in the order."""
    reader = dataset._reader or dataset._load()
    chosen = {"images": "pil", "ragged": None, "num_threads": 1, **arguments}
    form = form_for(as_, dataset._batch_forms()) if isinstance(as_, str) else as_
    batch_reader = make_batch_reader(reader, columns, form, **chosen)
    numbers = np.asarray(ids, np.int64)
    return next(batch_reader.read(numbers, *reader.locate(numbers), len(numbers) or 1, None))


def send_batch(dataset: StreamingDataset, ids: Sequence[int]) -> Any:
    """Read it as a loader's worker does, and take it through the loader's queue."""
    table = SlabTable()
    packer = Packer(SlabPool(table, 2))
    for _ in range(2):  # the second one lies in shared memory from the start
        sent = Sent(0, [packer.pack(read_batch(dataset, ids, SentForm(packer.take)))])
        (packed,) = pickle.loads(ForkingPickler.dumps(sent)).batches
        arrived = unpack(packed)
    return arrived


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
