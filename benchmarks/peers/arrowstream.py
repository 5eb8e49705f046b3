"""arrowstream, as installed beside the harness."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.peers import base
from benchmarks.request import Request
from benchmarks.rows import Rows, Sample, crop


class Peer(base.Peer):
    name = "arrowstream"
    distributions = ("arrowstream", "pyarrow", "torch")
    imports: Mapping[str, str] = {
        "package": "import arrowstream",
        "dataset": "from arrowstream import MDSWriter, StreamingDataset",
    }
    tasks: Mapping[str, tuple[str, ...]] = {
        "import": ("",),
        "write_sample": ("",),
        "write_frame": ("",),
        "random_sample": ("",),
        "iterate": ("",),
        "loader": ("", "StreamingDataLoader"),
        "mosaic_files": ("",),
    }

    def write_samples(self, request: Request, rows: Rows, samples: list[Sample]) -> None:
        from arrowstream import MDSWriter

        with MDSWriter(out=str(request.data), columns=rows.encodings, size_limit=request.shard_bytes) as writer:
            for sample in samples:
                writer.write(sample)

    def write_table(self, request: Request, table) -> None:
        from arrowstream import write_dataframe

        compression = request.options["compression"]
        write_dataframe(table, str(request.data), compression=compression, size_limit=request.shard_bytes)

    def open(self, request: Request):
        from arrowstream import StreamingDataset

        return StreamingDataset(local=str(request.data), batch_size=1)

    def shuffled(self, request: Request) -> Iterable[Sample]:
        from arrowstream import StreamingDataset

        return StreamingDataset(local=str(request.data), shuffle=True, batch_size=request.batch_size)

    def ways(self, task: str, options: Mapping[str, object], rows: str) -> tuple[str, ...]:
        found = super().ways(task, options, rows)
        return (*found, "batches()") if task == "loader" and not options["num_workers"] and rows != "jpeg" else found

    def batches(self, request: Request):
        dataset = self.shuffled(request)
        if request.way == "batches()":
            return Batches(dataset)
        if request.way == "StreamingDataLoader":
            from arrowstream import StreamingDataLoader

            options = {"images": "array", "batch_transform": collate_arrays} if request.has_jpeg else {}
            return base.torch_loader(request, dataset, loader_class=StreamingDataLoader, **options)
        return base.torch_loader(request, dataset, **({"collate_fn": base.collate_images} if request.has_jpeg else {}))

    def write_mosaic(self, request: Request, rows: Rows, samples: list[Sample]) -> None:
        from arrowstream import MosaicWriter

        with MosaicWriter(out=str(request.data), columns=rows.encodings, size_limit=request.shard_bytes) as writer:
            for sample in samples:
                writer.write(sample)

    def stream(self, request: Request, cache: Path) -> Iterable[Sample]:
        from arrowstream import StreamingDataset

        return StreamingDataset(remote=str(request.data), local=str(cache), shuffle=True, batch_size=request.batch_size)


class Batches:
    """An epoch of whole batches after the other."""

    def __init__(self, dataset) -> None:
        self.dataset = dataset

    def __iter__(self):
        return self.dataset.batches()


def collate_arrays(batch: dict[str, object]) -> dict[str, object]:
    """Cut the middles out of images that are decoded, and collate them.

    By NumPy: torch's threads would wait for each other while the threads that decode the next batch have the cores.
    """
    import numpy as np
    import torch

    return {**batch, "image": torch.from_numpy(np.stack([crop(pixels.numpy()) for pixels in batch["image"]]))}
