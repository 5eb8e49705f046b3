"""mosaicml-streaming, the library that arrowstream replaces.

Its shared memory has names that hold for the whole host: run no other job of it meanwhile.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.peers import base
from benchmarks.request import Request
from benchmarks.rows import Rows, Sample


class Peer(base.Peer):
    name = "mosaic"
    distributions = ("mosaicml-streaming", "torch")
    own_environment = True
    imports: Mapping[str, str] = {
        "package": "import streaming",
        "dataset": "from streaming import MDSWriter, StreamingDataset",
    }
    tasks: Mapping[str, tuple[str, ...]] = {
        "import": ("",),
        "write_sample": ("",),
        "random_sample": ("", "LocalDataset"),
        "iterate": ("",),
        "loader": ("",),
        "mosaic_files": ("",),
    }

    def write_samples(self, request: Request, rows: Rows, samples: list[Sample]) -> None:
        from streaming import MDSWriter

        if request.has_jpeg:
            samples = base.as_images(samples, Path(request.scratch_dir) / "images")
        with MDSWriter(out=str(request.data), columns=rows.encodings, size_limit=request.shard_bytes) as writer:
            for sample in samples:
                writer.write(sample)

    def open(self, request: Request):
        from streaming import LocalDataset

        if request.way == "LocalDataset":
            return LocalDataset(str(request.data))
        return _streaming(request, shuffle=False)

    def shuffled(self, request: Request) -> Iterable[Sample]:
        return _streaming(request, shuffle=True)

    def batches(self, request: Request):
        options = {"collate_fn": base.collate_images} if request.has_jpeg else {}
        return base.torch_loader(request, self.shuffled(request), **options)

    def write_mosaic(self, request: Request, rows: Rows, samples: list[Sample]) -> None:
        self.write_samples(request, rows, samples)

    def stream(self, request: Request, cache: Path) -> Iterable[Sample]:
        from streaming import StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        return StreamingDataset(remote=str(request.data), local=str(cache), shuffle=True, batch_size=request.batch_size)


def _streaming(request: Request, *, shuffle: bool):
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    return StreamingDataset(local=str(request.data), shuffle=shuffle, batch_size=request.batch_size)
