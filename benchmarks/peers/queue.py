"""The limit of worker processes: each copies one batch into shared memory again and again; torch's queue sends it."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from benchmarks.peers import base, memmap
from benchmarks.request import Request


class Peer(memmap.Peer):
    name = "queue"
    tasks: Mapping[str, tuple[str, ...]] = {"loader": ("",)}
    reads_all: ClassVar[bool] = False

    def ways(self, task: str, options: Mapping[str, object], rows: str) -> tuple[str, ...]:
        return super().ways(task, options, rows) if options.get("num_workers") else ()

    def batches(self, request: Request):
        from torch.utils.data import IterableDataset

        class Copies(IterableDataset):
            """As many copies of a batch as an epoch has batches."""

            batches: memmap.TensorBatches | None = None
            batch: dict[str, object]

            def __iter__(self) -> Iterator[dict[str, object]]:
                from torch.utils.data import get_worker_info

                if self.batches is None:
                    self.batches = memmap.TensorBatches(request)
                    self.batch = self.batches[range(request.batch_size)]
                worker = get_worker_info()
                for _ in range(worker.id, -(-len(self.batches) // request.batch_size), worker.num_workers):
                    yield {name: _shared(column) for name, column in self.batch.items()}

        return base.torch_loader(request, Copies(), batch_size=None)


def _shared(column: object) -> object:
    """Copy a tensor into shared memory of its own, as ``default_collate`` does in a worker."""
    import torch

    if not isinstance(column, torch.Tensor):
        return column
    storage = torch.UntypedStorage._new_shared(column.numel() * column.element_size())
    return torch.empty(0, dtype=column.dtype).set_(storage).view(column.shape).copy_(column)
