"""What a loader gets from the process that reads for it: batches, and what there is to know about each."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch.utils.data import IterableDataset, default_collate, get_worker_info

from arrowstream.batch_forms import Texts
from arrowstream.batches import Images
from arrowstream.collate import TORCH_FORM, TorchForm
from arrowstream.errors import BatchSizeError
from arrowstream.slabs import NUM_SPARE, Parcel, SlabPool, SlabTable
from arrowstream.tensor_window import TakeMemory
from arrowstream.torch import StreamingDataset
from arrowstream.transport import Joined, Packer, Sent

Transform = Callable[[Any], Any]


#: Whoever overrides one of these wants it called.
_PER_SAMPLE = ("__getitem__", "get_item", "__iter__", "batches")


# A message of small batches holds several: so many bytes of them, so many at the most.
_MESSAGE_BYTES = 8 << 20
_MOST_BATCHES = 8


class Delivery(NamedTuple):
    """A batch on its way into the training loop; a named tuple, because torch pins what is in one.

    Attributes:
        batch: As the loop gets it; on the way out of a worker process its tensors lie elsewhere.
        num_samples: Of the dataset that went into it.
        began: Epoch, and the sample of it that the iteration began with; None if the dataset did not say.
        num_bytes: Of its tensors.
        fetch_s: Seconds that were spent waiting for shards, mapping them included.
        read_s: Seconds that were spent reading and decoding, without those.
        collate_s: Seconds that were spent in transforms, in the collate function and in shared memory.
    """

    batch: Any
    num_samples: int
    began: tuple[int, int] | None
    num_bytes: int
    fetch_s: float
    read_s: float
    collate_s: float


class SentForm(TorchForm):
    """Batches that a worker process sends and does not look at: in memory that is sent, and text as it is stored.

    Args:
        take_memory: Gives that memory.
    """

    def __init__(self, take_memory: TakeMemory) -> None:
        super().__init__(take_memory)
        self._take = take_memory

    def texts(self, column: str, texts: Texts) -> Any:
        """Join them."""
        return super().texts(column, texts) if texts.has_nulls else Joined.of(texts, self._take)


class Deliveries(IterableDataset[Any]):
    """Reads one process's share of an epoch, whole batches where it can.

    Args:
        dataset: What is read.
        batch_size: Samples of a batch; None: what the dataset gives one by one.
        drop_last: Whether a last batch that is not full is left out.
        collate_fn: Joins samples; of a single one where there is no batch size.
        transform: Changes each sample; None: nothing does.
        batch_transform: Changes each batch; None: nothing does.
        images: What images in whole batches are.
        num_ahead: Messages that a worker process is ahead, or batches that a thread of the training process may read
            ahead.
    """

    def __init__(
        self,
        dataset: StreamingDataset,
        *,
        batch_size: int | None,
        drop_last: bool,
        collate_fn: Callable[[Any], Any],
        transform: Transform | None,
        batch_transform: Transform | None,
        images: Images,
        num_ahead: int,
    ) -> None:
        """Store what is asked for.

        Raises:
            ValueError: Arrays of pixels are asked for, and samples are read one by one.
        """
        self.dataset = dataset
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._collate_fn = collate_fn
        self._transform = transform
        self._batch_transform = batch_transform
        self._images = images
        self._num_ahead = num_ahead
        if images != "pil" and not self.reads_whole_batches:
            raise ValueError(
                f"images={images!r} is for whole batches, and here a transform, a collate_fn or the dataset itself "
                f"read sample by sample: use batch_transform= instead, or leave images= out"
            )
        self._table = SlabTable()
        self._packer: Packer | None = None  # of a worker: it lives as long as the process
        self._form: SentForm | None = None

    @property
    def reads_whole_batches(self) -> bool:
        """Whether nothing has to be done sample by sample."""
        mine, theirs = StreamingDataset, type(self.dataset)
        return (
            self._batch_size is not None
            and self._transform is None
            and self._collate_fn is default_collate
            and all(getattr(theirs, name) is getattr(mine, name) for name in _PER_SAMPLE)
        )

    def __iter__(self) -> Iterator[Delivery | Sent]:
        """Give batches; an exception of a transform, ``StopIteration`` too, never looks like the epoch's end."""
        worker = get_worker_info()
        if worker is None:
            for _, delivery in self._read(None):
                yield delivery
            return
        size, largest = 1, self._batches_per_message()
        ready: list[tuple[Parcel | None, Delivery]] = []
        try:
            for packed in self._read(self._make_packer(largest)):
                ready.append(packed)
                if len(ready) == size:
                    yield Sent(worker.id, ready)
                    ready, size = [], min(size + 1, largest)
        except Exception:
            # What was read before is not lost; the next message is the error.
            if (sent := Sent.as_many_as_pickle(worker.id, ready)) is not None:
                yield sent
            raise
        if ready:
            yield Sent(worker.id, ready)

    def _batches_per_message(self) -> int:
        """Say how many batches go in one message when an epoch is under way; it must be the same in all workers.

        A message through torch's queues costs as much processor time on both sides together as reading a megabyte.
        """
        if not self.reads_whole_batches or self._batch_transform is not None:
            return 1
        reader = self.dataset._reader or self.dataset._load()
        batch_bytes = int(reader.shards.num_bytes.sum()) // max(reader.num_samples, 1) * (self._batch_size or 1)
        return int(min(max(_MESSAGE_BYTES // max(batch_bytes, 1), 1), _MOST_BATCHES))

    def _read(self, packer: Packer | None) -> Iterator[tuple[Parcel | None, Delivery]]:
        fetched_s = self._fetched_s()
        for batch, num_samples, took_s, joined_s in self._whole() if self.reads_whole_batches else self._collated():
            began = perf_counter()
            changed = self._batch_transform(batch) if self._batch_transform is not None else batch
            num_bytes = bytes_of(changed)
            parcel, laid = packer.pack(changed) if packer is not None else (None, changed)
            collate_s = joined_s + perf_counter() - began
            fetch_s = self._fetched_s() - fetched_s
            fetched_s += fetch_s
            read_s = max(took_s - fetch_s, 0.0)
            delivery = Delivery(laid, num_samples, self._began(), num_bytes, fetch_s, read_s, collate_s)
            yield parcel, delivery

    def _make_packer(self, batches_per_message: int) -> Packer | None:
        """Make what lays batches into memory in which they leave a worker process, if that pays."""
        if not self.reads_whole_batches:
            return None  # default_collate's tensors are in shared memory already
        if self._packer is None:
            # One message is being filled, and one may wait in the training process for the other workers' turns.
            self._packer = Packer(SlabPool(self._table, (self._num_ahead + 2) * batches_per_message + NUM_SPARE))
            if self._batch_transform is None:  # which may keep what it is given
                self._form = SentForm(self._packer.take)
        return self._packer

    def _whole(self) -> Iterator[tuple[Any, int, float, float]]:
        """Give batches, their samples, and the seconds that reading and collating them took."""
        batch_size = self._batch_size or 1
        num_ahead = 0 if get_worker_info() is not None else self._num_ahead
        given, read_s = 0, 0.0
        form = self._form or TORCH_FORM
        for batch in self.dataset._batches(form, batch_size, images=self._images, num_ahead=num_ahead):
            cursor = self.dataset._cursor
            if cursor is None:
                raise RuntimeError("the dataset was pickled or replaced while a loader was reading it")
            num_samples, took_s = cursor.samples - given, cursor.read_s - read_s
            given, read_s = cursor.samples, cursor.read_s
            if num_samples == batch_size or not self._drop_last:
                yield batch, num_samples, took_s, 0.0

    def _collated(self) -> Iterator[tuple[Any, int, float, float]]:
        """Do what torch does, sample by sample."""
        samples = iter(self.dataset)
        change, batch_size = self._transform, self._batch_size
        gives_batches = batch_size is None and type(self.dataset).__iter__ is not StreamingDataset.__iter__
        while True:
            began = perf_counter()
            together = list(islice(samples, batch_size or 1))
            read = perf_counter()
            if not together or (self._drop_last and len(together) < (batch_size or 1)):
                return
            num_samples = num_samples_of(together[0]) if gives_batches else len(together)
            changed = [change(sample) for sample in together] if change is not None else together
            batch = self._collate_fn(changed if batch_size is not None else changed[0])
            yield batch, num_samples, read - began, perf_counter() - read

    def _began(self) -> tuple[int, int] | None:
        cursor = self.dataset._cursor
        if cursor is None or cursor.position is None:
            return None
        return cursor.position.epoch, cursor.position.sample

    def _fetched_s(self) -> float:
        reader = self.dataset._reader
        return reader.opening_s if reader is not None else 0.0


class SeesDataset:
    """Lets ``get_worker_info().dataset`` be the user's dataset, and then calls the user's ``worker_init_fn``."""

    def __init__(self, init: Callable[[int], None] | None) -> None:
        self._init = init

    def __call__(self, worker_id: int) -> None:
        """Run once in each worker."""
        worker = get_worker_info()
        if worker is not None and isinstance(worker.dataset, Deliveries):
            object.__setattr__(worker, "dataset", worker.dataset.dataset)  # it refuses plain assignment
        if self._init is not None:
            self._init(worker_id)


def bytes_of(batch: Any) -> int:
    """Count the bytes of the tensors in a batch."""
    if isinstance(batch, torch.Tensor):
        return batch.nbytes
    if isinstance(batch, Joined):
        return 0  # the loop gets a list of it
    if isinstance(batch, dict | Mapping):
        return sum(map(bytes_of, batch.values()))
    if isinstance(batch, tuple) or (isinstance(batch, list) and batch and not isinstance(batch[0], str | bytes)):
        return sum(map(bytes_of, batch))
    return 0


def num_samples_of(batch: Any) -> int:
    """Count the samples of a batch that a dataset made by itself.

    Args:
        batch: A tensor or an array; or a mapping, a list, a tuple or an object with the like inside, of which the first
            value tells.

    Raises:
        BatchSizeError: It does not tell.
    """
    shape = getattr(batch, "shape", None)
    if shape is not None and len(shape):
        return int(shape[0])
    if isinstance(batch, Mapping) and batch:
        return num_samples_of(next(iter(batch.values())))
    if isinstance(batch, list | tuple) and batch:
        nested = isinstance(batch[0], Mapping | list | tuple) or len(getattr(batch[0], "shape", ()))
        return num_samples_of(batch[0]) if nested else len(batch)
    raise BatchSizeError(
        f"the dataset's own __iter__ gave a {type(batch).__name__}, which does not tell how many samples it has: "
        f"give a tensor, or a dictionary, list or tuple of tensors; or give the loader a batch_size="
    )
