"""LitData, the fastest of the field when this was written.

Written through ``Cache``, the writer that each worker of ``litdata.optimize`` uses, in this process: its processes and
their start are not counted against it.
"""

import os
from collections.abc import Iterable, Mapping

from benchmarks.peers import base
from benchmarks.request import Request
from benchmarks.rows import Rows, Sample

# Otherwise every dataset that is made asks the network whether a newer release exists.
os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"


class Peer(base.Peer):
    name = "litdata"
    distributions = ("litdata", "torch")
    own_environment = True
    imports: Mapping[str, str] = {
        "package": "import litdata",
        "dataset": "from litdata import StreamingDataset",
    }
    tasks: Mapping[str, tuple[str, ...]] = {
        "import": ("",),
        "write_sample": ("",),
        # By default it decodes the 256 samples around each one, which a random read throws away.
        "random_sample": ("", "batch_decode=0"),
        "iterate": ("",),
        "loader": ("", "StreamingDataLoader"),
    }

    def write_samples(self, request: Request, rows: Rows, samples: list[Sample]) -> None:  # noqa: ARG002
        from litdata.streaming import Cache

        writer = Cache(str(request.data), chunk_bytes=request.shard_bytes)
        for i, sample in enumerate(samples):
            writer[i] = sample
        writer.done()
        writer.merge()

    def open(self, request: Request):
        from litdata import StreamingDataset

        options = {"batch_decode": 0} if request.way == "batch_decode=0" else {}
        return StreamingDataset(str(request.data), **options)

    def shuffled(self, request: Request) -> Iterable[Sample]:
        from litdata import StreamingDataset

        return StreamingDataset(str(request.data), shuffle=True)

    def batches(self, request: Request):
        loader_class = None
        if request.way == "StreamingDataLoader":
            from litdata import StreamingDataLoader as loader_class  # noqa: N813
        # Images are stored as bytes: litdata decodes them with torchvision, which needs the CUDA build of torch.
        options = {"collate_fn": base.collate_files} if request.has_jpeg else {}
        return base.torch_loader(request, self.shuffled(request), loader_class=loader_class, **options)
