"""The limit of reading: mapped files made for exactly these rows, gathered by hand.

Columns of equal size lie in one file of records, ragged ones in a pair of offsets and bytes. No index, no cache, no
mixture, no resume: what is left is the work that no library can avoid.
"""

import json
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers import base
from benchmarks.request import Request
from benchmarks.rows import Ragged, Rows, Sample, crop


class Peer(base.Peer):
    name = "memmap"
    distributions = ("torch",)
    tasks: Mapping[str, tuple[str, ...]] = {
        "random_sample": ("",),
        "iterate": ("",),
        "loader": ("",),
    }

    def write_samples(self, request: Request, rows: Rows, samples: list[Sample]) -> None:  # noqa: ARG002
        out = request.data
        out.mkdir()
        fixed = {name: column for name, column in rows.columns.items() if not isinstance(column, Ragged)}
        dtype = np.dtype([(name, column.dtype, column.shape[1:]) for name, column in fixed.items()])
        records = np.empty(len(rows), dtype)
        for name, column in fixed.items():
            records[name] = column
        np.save(out / "records.npy", records)
        for name, column in rows.columns.items():
            if isinstance(column, Ragged):
                np.save(out / f"{name}.offsets.npy", column.offsets)
                column.content.tofile(out / f"{name}.bytes")
        (out / "encodings.json").write_text(json.dumps(rows.encodings))

    def open(self, request: Request):
        return Mapped(request.data)

    def shuffled(self, request: Request) -> Iterable[Sample]:
        return ShuffledSamples(Mapped(request.data), request.batch_size)

    def batches(self, request: Request):
        from torch.utils.data import BatchSampler, RandomSampler

        if not request.options["num_workers"]:
            return ShuffledBatches(request)
        mapped = TensorBatches(request)
        sampler = BatchSampler(RandomSampler(range(len(mapped))), request.batch_size, drop_last=False)
        return base.torch_loader(request, mapped, sampler=sampler, batch_size=None)


class Mapped:
    """Mapped rows: ``[i]`` is a sample, ``gather(ids)`` the columns of many."""

    def __init__(self, directory: Path) -> None:
        self.encodings = json.loads((directory / "encodings.json").read_text())
        self.records = np.load(directory / "records.npy", mmap_mode="r")
        self.fixed = {name: self.records[name] for name in self.records.dtype.names}
        self.text = {name: _map_text(directory, name) for name in self.encodings if name not in self.fixed}
        # Scalars through a memoryview: a Python int an item, without a NumPy scalar in between.
        self.scalars = {
            name: memoryview(column) if column.ndim == 1 else np.asarray(column) for name, column in self.fixed.items()
        }

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int) -> Sample:
        sample = {name: column[i] for name, column in self.scalars.items()}
        for name, (content, offsets) in self.text.items():
            sample[name] = str(content[offsets[i] : offsets[i + 1]], "utf-8")
        return sample

    def gather(self, ids: np.ndarray) -> dict[str, object]:
        records = self.records[ids]  # (batch,): one pass over whole records
        columns: dict[str, object] = {name: records[name] for name in self.fixed}
        for name, (content, offsets) in self.text.items():
            columns[name] = [str(content[offsets[i] : offsets[i + 1]], "utf-8") for i in ids.tolist()]
        return columns


class ShuffledSamples:
    """An epoch after the other, each in a fresh permutation, gathered a batch at a time and handed out by sample."""

    def __init__(self, mapped: Mapped, batch_size: int) -> None:
        self.mapped = mapped
        self.batch_size = batch_size
        self.epoch = 0

    def __iter__(self) -> Iterator[Sample]:
        ids = np.random.default_rng((0, self.epoch)).permutation(len(self.mapped))
        self.epoch += 1
        for start in range(0, len(ids), self.batch_size):
            columns = self.mapped.gather(ids[start : start + self.batch_size])
            lists = [
                column.tolist() if isinstance(column, np.ndarray) and column.ndim == 1 else column
                for column in columns.values()
            ]
            names = tuple(columns)
            for values in zip(*lists, strict=True):
                yield dict(zip(names, values, strict=True))


class ShuffledBatches:
    """An epoch after the other in one process: one fancy index gathers a column."""

    def __init__(self, request: Request) -> None:
        self.batches = TensorBatches(request)
        self.batch_size = request.batch_size
        self.epoch = 0

    def __iter__(self) -> Iterator[dict[str, object]]:
        order = np.random.default_rng((0, self.epoch)).permutation(len(self.batches))
        self.epoch += 1
        for start in range(0, len(order), self.batch_size):
            yield self.batches[order[start : start + self.batch_size]]


class TensorBatches:
    """A map-style dataset of batches: ids in, what ``default_collate`` would give out.

    Each column is in a mapped file of its own.
    """

    def __init__(self, request: Request) -> None:
        import torch

        rows, mapped = Path(request.rows_dir), Mapped(request.data)
        self.request = request
        self.fixed = {name: np.load(rows / f"{name}.npy", mmap_mode="r") for name in mapped.fixed}
        self.text = mapped.text
        self.to_tensor = torch.from_numpy
        self.to_value = self._pixels if request.has_jpeg else _text

    def __len__(self) -> int:
        return len(self.fixed["id"])

    def __getitem__(self, ids: Sequence[int]) -> dict[str, object]:
        ids = np.asarray(ids)
        batch: dict[str, object] = {name: self.to_tensor(column[ids]) for name, column in self.fixed.items()}
        for name, (content, offsets) in self.text.items():
            values = [self.to_value(content[offsets[i] : offsets[i + 1]]) for i in ids.tolist()]
            batch[name] = self.to_tensor(np.stack(values)) if self.request.has_jpeg else values
        return batch

    @staticmethod
    def _pixels(content: memoryview) -> np.ndarray:
        from simplejpeg import decode_jpeg

        return crop(decode_jpeg(content, "RGB"))

    def __reduce__(self):
        return TensorBatches, (self.request,)  # maps do not pickle, paths do


def _text(content: memoryview) -> str:
    return str(content, "utf-8")


def _map_text(directory: Path, name: str) -> tuple[memoryview, memoryview]:
    with (directory / f"{name}.bytes").open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return content, memoryview(np.load(directory / f"{name}.offsets.npy"))
