"""The dataset for PyTorch's loaders."""

import gc
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import distributed
from torch.utils.data import Dataset, DistributedSampler, IterableDataset, get_worker_info

from arrowstream import dataset, local, map_style, sequences
from arrowstream.accelerate import check_shared_out_once
from arrowstream.batch_forms import BatchForm
from arrowstream.collate import TORCH_FORM
from arrowstream.cursor import Cursor
from arrowstream.per_process import PerProcess
from arrowstream.small_tensors import send_inline
from arrowstream.world import World

#: Once in a worker: a collection writes to every object, and so copies all that a forked process has from its parent.
_spare_memory = PerProcess(gc.freeze)


class PlanSampler(map_style.PlanSampler, DistributedSampler[int]):
    """The plan's order as a ``Sampler``; see :class:`arrowstream.map_style.PlanSampler`.

    It is a ``DistributedSampler`` so that trainers, Lightning and Composer among them, do not put one around it.
    """

    def __iter__(self) -> Iterator[int]:
        """Give the ids of the next epoch; it begins with the first one that is asked for.

        Raises:
            SharedOutTwiceError: Accelerate shares them out again.
        """
        if self._view.samples._world().num_ranks > 1:
            check_shared_out_once(self)
        return super().__iter__()


class MapStyleDataset(map_style.MapStyleDataset, Dataset[Any]):
    """The view as a map-style ``Dataset``; see :class:`arrowstream.map_style.MapStyleDataset`."""

    _sampler_class: ClassVar[type[map_style.PlanSampler]] = PlanSampler

    def __getitems__(self, ids: Sequence[int]) -> Any:
        """Read a batch, as PyTorch's loader asks for it: its shards are fetched side by side.

        Raises:
            IndexError: An id is out of bounds.
        """
        if get_worker_info() is not None:
            _spare_memory.get()
            send_inline()
        return super().__getitems__(ids)


class StreamingDataset(dataset.StreamingDataset, IterableDataset[Any]):
    """The dataset as an ``IterableDataset``: a loader's workers share out each epoch.

    See :class:`arrowstream.dataset.StreamingDataset` for its arguments.
    """

    _map_style_class: ClassVar[type[map_style.MapStyleDataset]] = MapStyleDataset
    _iterations = 0  # of this copy: a persistent worker begins one epoch after the other
    _parent: tuple[int, World] | None = None  # who pickled this copy: its process id, and its rank

    def _batch_forms(self) -> dict[str, BatchForm]:
        return {"torch": TORCH_FORM, **super()._batch_forms()}

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

    def _begin_iteration(self) -> tuple[World, Cursor]:
        self._check_shared_out_once()
        if get_worker_info() is not None:
            _spare_memory.get()
        return super()._begin_iteration()

    def _iterate(self, world: World, cursor: Cursor) -> Iterator[Any]:
        if get_worker_info() is not None:
            send_inline()  # what a loader makes of samples: batches() has whole ones, and ways of its own to send them
        return super()._iterate(world, cursor)

    def _check_shared_out_once(self) -> None:
        if self._world().num_ranks > 1:
            check_shared_out_once(self)

    def __getstate__(self) -> dict[str, Any]:
        if multiprocessing.context.get_spawning_popen() is not None:
            self._check_shared_out_once()  # a worker that is spawned cannot see the loader
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
