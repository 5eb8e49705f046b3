"""The dataset for loaders that ask for samples by their ids: a view of it, and a sampler that has the plan's order."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from arrowstream.batches import BatchReader, Images, RaggedForm, form_for
from arrowstream.plan.state import Position
from arrowstream.prefetch import Prefetcher

if TYPE_CHECKING:
    from arrowstream.dataset import StreamingDataset


class PlanSampler:
    """The sample ids that this rank reads of the next epoch, in the order of the plan: those of an iteration.

    Its state is that of the dataset, and means the same: either can go on from a checkpoint of the other.

    Args:
        view: What the ids are read from.
        stateful_loader: Whether the loader asks for a state with each batch and keeps it until that is delivered, as
            torchdata's ``StatefulDataLoader`` does; then a state counts what was given out, whoever reads it.

    Raises:
        ValueError: The dataset marks padding, which ids alone cannot.
    """

    def __init__(self, view: "MapStyleDataset", *, stateful_loader: bool = False) -> None:
        if view.samples.tail == "pad":
            raise ValueError("tail is 'pad', which marks samples; ids alone cannot: use tail='repeat' or 'drop'")
        self._view = view
        self._stateful_loader = stateful_loader
        self._begun: tuple[int, int] | None = None  # the epoch that is being read, and where that began
        self._num_given = 0
        self._num_read_before = 0

    def __len__(self) -> int:
        """Give the number of samples that an epoch has on this rank."""
        return len(self._view.samples)

    def __iter__(self) -> Iterator[int]:
        """Give the ids of the next epoch; it begins with the first one that is asked for."""
        samples = self._view.samples
        epoch, sample = self._begun = samples._epochs.claim()
        self._num_given, self._num_read_before = 0, self._view.num_read
        position = Position(epoch=epoch, sample=sample)
        for ids in samples._current_plan().sample_ids(samples._world(), position):
            for sample_id in ids.tolist():
                self._num_given += 1
                yield sample_id

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch; one that goes on after a resume stays where it was."""
        if self._view.samples.next_epoch != epoch:
            self._view.samples.next_epoch = epoch

    def state_dict(self, num_samples: int | None = None) -> dict[str, Any]:
        """Say where the epoch stands, for a checkpoint.

        Args:
            num_samples: Samples of the epoch that all ranks together have trained on. None: those that this sampler has
                given out, for a loader without worker processes, which asks for a batch when it is needed.

        Returns:
            What ``StreamingDataset.state_dict`` gives.

        Raises:
            ValueError: ``num_samples`` is None, and worker processes, which are ahead, did the reading.
        """
        samples = self._view.samples
        if num_samples is not None:
            return samples.state_dict(num_samples=num_samples)
        if self._begun is None:
            return samples.state_dict(num_samples=0, from_beginning=False)
        if samples._epochs.begun != self._begun:
            raise ValueError("another iteration of the dataset has begun since; pass num_samples=")
        if not self._stateful_loader:
            self._check_not_ahead()
        sharers = samples._world().num_ranks // (samples.replication or 1)
        return samples.state_dict(num_samples=self._begun[1] + self._num_given * sharers)

    def _check_not_ahead(self) -> None:
        num_read = self._view.num_read - self._num_read_before
        if num_read < self._num_given and (not num_read or self._num_given < len(self)):
            raise ValueError(
                f"{self._num_given} ids were given out and {num_read} samples read in this process: worker processes "
                f"read this epoch; pass num_samples=, which all ranks have trained on, or use torchdata's "
                f"StatefulDataLoader with sampler(stateful_loader=True)"
            )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was made.

        Raises:
            StateMismatchError: The data, the seed or another setting that the order depends on differs.
        """
        self._view.samples.load_state_dict(state)
        self._begun = None


class MapStyleDataset:
    """All samples of a dataset by their ids, whoever chooses them.

    Args:
        samples: The dataset.
        as_: What ``__getitems__`` gives: None for a list of samples; ``torch``, ``numpy`` or ``arrow`` for a batch,
            gathered as ``StreamingDataset.batches`` does, which a loader must not collate: ``collate_fn=view.collate``.
        columns: The columns of a batch; None: all.
        images: As for ``batches``.
        ragged: As for ``batches``.

    Attributes:
        samples: The dataset.
        num_read: Samples that were read through this view in this process.

    Raises:
        ValueError: Columns or forms are given for samples, which have all columns as they are.
    """

    _sampler_class: ClassVar[type[PlanSampler]] = PlanSampler

    def __init__(
        self,
        samples: "StreamingDataset",
        *,
        as_: str | None = None,
        columns: Sequence[str] | None = None,
        images: Images = "pil",
        ragged: RaggedForm | None = None,
    ) -> None:
        if as_ is None and (columns is not None or images != "pil" or ragged is not None):
            raise ValueError(
                "columns, images and ragged are for batches; say of what with as_='torch', 'numpy', 'arrow'"
            )
        self.samples = samples
        self.num_read = 0
        self._as = as_
        self._columns = list(columns) if columns is not None else None
        self._images: Images = images
        self._ragged: RaggedForm | None = ragged
        self._batch_reader: BatchReader | None = None

    def __len__(self) -> int:
        """Give the number of samples of the dataset, over all ranks."""
        return self.samples.size

    def __getitem__(self, key: Any) -> Any:
        """Read samples as the dataset does.

        Raises:
            IndexError: As NumPy raises it.
        """
        read = self.samples[key]
        self.num_read += 1
        return read

    def __getitems__(self, ids: Sequence[int]) -> Any:
        """Read a batch, as PyTorch's loader asks for it: its shards are fetched side by side.

        Raises:
            IndexError: An id is out of bounds.
        """
        wanted = np.asarray(ids, np.int64)
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        reader = self.samples._reader or self.samples._load()
        shards, rows = reader.locate(wanted)
        prefetcher = Prefetcher()
        try:
            if self._as is not None:
                self._batch_reader = self._batch_reader or self._make_batch_reader(self._as)
                reader.request(shards, rows, prefetcher)
                batch = next(self._batch_reader.read(wanted, shards, rows, len(wanted) or 1, prefetcher))
            else:
                if self.samples.random_access != "record_batch":
                    reader.request(shards, rows, prefetcher)
                    for shard, row in dict(zip(shards.tolist(), rows.tolist(), strict=True)).items():
                        reader.make_ready(shard, row, prefetcher)
                batch = [self.samples[sample_id] for sample_id in wanted.tolist()]
        finally:
            prefetcher.cancel()
        self.num_read += len(wanted)
        return batch

    def collate(self, batch: Any) -> Any:
        """Hand over what ``__getitems__`` gave: the ``collate_fn`` for batches that were gathered."""
        return batch

    def sampler(self, *, stateful_loader: bool = False) -> PlanSampler:
        """Make what gives the plan's order to a loader; see :class:`PlanSampler`."""
        return self._sampler_class(self, stateful_loader=stateful_loader)

    def _make_batch_reader(self, as_: str) -> BatchReader:
        num_threads = 1 if self.samples._worker() else None
        form = form_for(as_, self.samples._batch_forms())
        return self.samples._make_batch_reader(
            form, self._columns, images=self._images, ragged=self._ragged, num_threads=num_threads
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_batch_reader": None, "num_read": 0}
