"""The dataset for PyTorch's loaders."""

import multiprocessing
import os
from typing import Any, ClassVar

from torch import distributed
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from arrowstream import dataset, local, map_style, sequences
from arrowstream.batch_forms import BatchForm
from arrowstream.collate import TorchForm
from arrowstream.world import World


class PlanSampler(map_style.PlanSampler, Sampler[int]):
    """The plan's order as a ``Sampler``; see :class:`arrowstream.map_style.PlanSampler`."""


class MapStyleDataset(map_style.MapStyleDataset, Dataset[Any]):
    """The view as a map-style ``Dataset``; see :class:`arrowstream.map_style.MapStyleDataset`."""

    _sampler_class: ClassVar[type[map_style.PlanSampler]] = PlanSampler


class StreamingDataset(dataset.StreamingDataset, IterableDataset[Any]):
    """The dataset as an ``IterableDataset``: a loader's workers share out each epoch.

    See :class:`arrowstream.dataset.StreamingDataset` for its arguments.
    """

    _map_style_class: ClassVar[type[map_style.MapStyleDataset]] = MapStyleDataset
    _iterations = 0  # of this copy: a persistent worker begins one epoch after the other
    _parent: tuple[int, World] | None = None  # who pickled this copy: its process id, and its rank

    def _batch_forms(self) -> dict[str, BatchForm]:
        return {"torch": TorchForm(), **super()._batch_forms()}

    def _job(self) -> World:
        """Tell which rank of how many this is, as torch.distributed has it where it is initialised."""
        found = _process_group()
        if found is not None:
            return found
        parent = multiprocessing.parent_process()
        if get_worker_info() is not None and parent is not None and self._parent is not None:
            # A worker that was spawned has no process group; the rank whose worker it is had one.
            pid, job = self._parent
            if pid == parent.pid:
                return job
        return World.from_environment()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parent": (os.getpid(), self._job())}

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


class SequenceDataset(sequences.SequenceDataset, StreamingDataset):
    """Sequences as an ``IterableDataset``; see :class:`arrowstream.sequences.SequenceDataset` for its arguments."""


class LocalDataset(local.LocalDataset, Dataset[Any]):
    """The local dataset as a map-style ``Dataset``; see :class:`arrowstream.local.LocalDataset`."""


def _process_group() -> World | None:
    """Place this process as the default process group has it, on machines as the launcher's environment has them."""
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    rank, num_ranks = distributed.get_rank(), distributed.get_world_size()
    variables = dict(os.environ)
    if "LOCAL_WORLD_SIZE" in variables:
        variables = {"RANK": str(rank), "WORLD_SIZE": str(num_ranks), **variables}
    return World.from_environment(variables).regrouped(rank, num_ranks)
