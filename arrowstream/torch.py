"""The dataset for PyTorch's loaders."""

from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from arrowstream import dataset
from arrowstream.batch_forms import BatchForm
from arrowstream.collate import TorchForm
from arrowstream.world import World


class StreamingDataset(dataset.StreamingDataset, IterableDataset[Any]):
    """The dataset as an ``IterableDataset``: a loader's workers share out each epoch.

    See :class:`arrowstream.dataset.StreamingDataset` for its arguments.
    """

    _iterations = 0  # of this copy: a persistent worker begins one epoch after the other

    def _batch_forms(self) -> dict[str, BatchForm]:
        return {"torch": TorchForm(), **super()._batch_forms()}

    def _world(self) -> World:
        world = World.from_environment()
        worker = get_worker_info()
        return world if worker is None else world.with_worker(worker.id, worker.num_workers)

    def _worker(self) -> tuple[int, int] | None:
        worker = get_worker_info()
        return None if worker is None else (worker.id, worker.num_workers)

    def _iteration_token(self) -> tuple[int, int] | None:
        worker = get_worker_info()
        if worker is None:
            return None
        self._iterations += 1
        # The loader draws a seed for each of its iterators and gives worker w the seed + w.
        return worker.seed - worker.id, self._iterations
