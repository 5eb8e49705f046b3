"""The loader: torch's DataLoader, which delivers whole batches and knows to the sample how far it has come."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing import connection
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from arrowstream.batches import Images
from arrowstream.deliveries import Deliveries, Delivery, SeesDataset
from arrowstream.errors import WorkerDiedError
from arrowstream.loader_stats import LoaderStats
from arrowstream.plan.state import Position
from arrowstream.torch import StreamingDataset
from arrowstream.transport import in_turn, unpack

#: Batches that a thread reads ahead where there are no worker processes.
NUM_AHEAD = 2
# A process that is killed is dead as soon as it has freed its memory.
_DEATH_S = 5.0
_TAKEN_BY_TORCH = inspect.signature(DataLoader.__init__).parameters
_PASSED_ON = [
    name
    for name in (
        "num_workers",
        "pin_memory",
        "timeout",
        "multiprocessing_context",
        "generator",
        "prefetch_factor",
        "persistent_workers",
        "pin_memory_device",
        "in_order",  # since torch 2.6
    )
    if name in _TAKEN_BY_TORCH
]


@dataclass(slots=True)
class _Iteration:
    """One pass of a loader over an epoch.

    Attributes:
        began: The epoch, and the sample that it began with; None before the first batch.
        num_samples: Samples of this rank that were delivered.
        is_over: Whether the loop was told that there are no more.
    """

    began: tuple[int, int] | None = None
    num_samples: int = 0
    is_over: bool = False


class StreamingDataLoader(DataLoader[Any]):
    """A DataLoader whose state is right to the sample, and that reads whole batches where nothing is done by sample.

    Where the dataset's ``__getitem__``, ``get_item`` and ``__iter__`` are its own, and there is neither a ``transform``
    nor a ``collate_fn``, batches are gathered from the mapped shards at once; they equal ``default_collate``'s to the
    bit. Otherwise samples are read and collated one by one, as torch does. Other datasets are loaded as torch does.

    An iteration begins with its first batch: an iterator that is not asked for one takes no epoch.

    Args:
        dataset: A ``StreamingDataset``, or any other dataset.
        *args: Those of torch's ``DataLoader``.
        transform: Called with each sample, gives what goes into the batch.
        batch_transform: Called with each batch, gives what the loop gets; in the worker process if there is one.
        images: What images in whole batches are: of PIL, or ``array``: tensors of pixels, decoded in threads, which
            takes less time; lists of these, because sizes differ. See ``StreamingDataset.batches``.
        progress_bar: Whether a bar on standard error says how far the epoch is, how fast, and how long the loop waits.
        **kwargs: Those of torch's ``DataLoader``. Without ``batch_size`` it is the dataset's. ``prefetch_factor`` may
            be given without workers too: whole batches that a thread reads ahead where that pays (2 unless given, 0
            for none). With workers it counts messages, which hold several batches where these are small, 8 MiB and 8
            batches at the most.

    Raises:
        ValueError: Arguments contradict each other.
    """

    def __init__(
        self,
        dataset: Any,
        *args: Any,
        transform: Callable[[Any], Any] | None = None,
        batch_transform: Callable[[Any], Any] | None = None,
        images: Images = "pil",
        progress_bar: bool = False,
        **kwargs: Any,
    ) -> None:
        streams = isinstance(dataset, StreamingDataset)
        if not streams and (transform or batch_transform):
            raise ValueError(f"transform and batch_transform need a StreamingDataset, not a {type(dataset).__name__}")
        given = inspect.signature(DataLoader.__init__).bind_partial(None, dataset, *args, **kwargs).arguments
        if streams and "batch_size" not in given:
            kwargs["batch_size"] = dataset.batch_size or 1
        self._num_ahead = NUM_AHEAD
        if not given.get("num_workers") and kwargs.get("prefetch_factor") is not None:
            self._num_ahead = kwargs.pop("prefetch_factor")
            if self._num_ahead < 0:
                raise ValueError(f"prefetch_factor is {self._num_ahead}; expected at least 0")
        self.transform = transform
        self.batch_transform = batch_transform
        self.images = images
        self.progress_bar = progress_bar
        self._current: _Iteration | None = None
        self._stats = LoaderStats()
        self._source: DataLoader[Any] | None = None  # lives on with its workers if they do
        super().__init__(dataset, *args, **kwargs)
        # Accelerate would share out again what each rank reads of its own; so it leaves the loader alone, and saves it.
        self._is_accelerate_prepared = self.use_stateful_dataloader = streams

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Go through the dataset's next epoch.

        Raises:
            ArrowStreamError: What went wrong in reading, as it was raised in the worker.
            WorkerDiedError: A worker process was killed.
        """
        return self._deliver(self.dataset) if isinstance(self.dataset, StreamingDataset) else super().__iter__()

    def stats(self) -> LoaderStats:
        """Say what was delivered so far, and where the time went; ``str()`` of it is a line to be shown."""
        return replace(self._stats)

    # State -----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any] | None:
        """Say what the loop has got, for a checkpoint; every rank says the same.

        Returns:
            The state of the dataset; None if that is no ``StreamingDataset``.

        Raises:
            ValueError: Batches are not delivered in the order of the epoch, so that no number says which they were.
        """
        dataset, current = self.dataset, self._current
        if not isinstance(dataset, StreamingDataset):
            return None
        if current is None:
            epoch, sample = dataset._epochs.upcoming
            return self._state(dataset, epoch, sample)
        epoch, first = current.began or dataset._epochs.begun or dataset._epochs.upcoming
        num_samples = dataset.plan(epoch).num_samples
        if current.is_over:
            return self._state(dataset, epoch, num_samples)
        self._check_countable(dataset)
        world = dataset._world()
        sample = first + current.num_samples * (world.num_ranks // (dataset.replication or 1))
        if self.drop_last and self.batch_size is not None:
            left = dataset._samples_left(Position(epoch=epoch, sample=sample))
            sample = sample if left >= self.batch_size else num_samples
        return self._state(dataset, epoch, sample)

    def load_state_dict(self, obj: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was made, with the next iteration; workers that persist are started anew.

        Args:
            obj: What ``state_dict`` of this class or of the dataset gave.

        Raises:
            StateMismatchError: The data, the seed or another setting that the order depends on differs.
        """
        if isinstance(self.dataset, StreamingDataset):
            self.dataset.load_state_dict(obj)
            self._current = None
            self._dismiss_workers()

    @staticmethod
    def _state(dataset: StreamingDataset, epoch: int, sample: int) -> dict[str, Any]:
        counted_from = dataset._epochs.begun or dataset._epochs.upcoming
        # A subclass may have a state_dict of its own, with the arguments of mosaicml-streaming's.
        named = {} if counted_from[0] == epoch else {"epoch": epoch}
        return dataset.state_dict(num_samples=sample, from_beginning=True, **named)

    @property
    def _is_in_order(self) -> bool:
        return "in_order" not in _PASSED_ON or self.in_order

    def _check_countable(self, dataset: StreamingDataset) -> None:
        if self.num_workers > 1 and self.batch_size is not None and self.batch_size != dataset.batch_size:
            raise ValueError(
                f"the loader's batch_size is {self.batch_size}, the dataset's {dataset.batch_size}, by which the "
                f"{self.num_workers} workers share out the epoch: give both the same, or there is no state in between"
            )
        if self.num_workers > 1 and not self._is_in_order:
            raise ValueError("in_order=False delivers batches in any order, so that there is no state in between")

    # Iteration -------------------------------------------------------------------------------------------------------

    def _deliver(self, dataset: StreamingDataset) -> Iterator[Any]:
        current = self._current = _Iteration()
        asked = perf_counter()
        iterator: Iterator[Any] | None = None
        keeps_workers = False
        bar = self._make_bar(dataset)
        try:
            source = self._open_source(dataset)
            iterator = _begin(source)
            deliveries = self._take_apart(_arriving(iterator), source.num_workers)
            while True:
                if self.persistent_workers:
                    self._check_alone(current)
                delivery = next(deliveries, None)
                if delivery is None:
                    break
                current.began = current.began or (delivery.began and (delivery.began[0], delivery.began[1]))
                current.num_samples += delivery.num_samples
                arrived = perf_counter()
                self._count(delivery, arrived - asked)
                if bar is not None:
                    bar.update(delivery.num_samples)
                    bar.set_postfix_str(f"{self._stats.waiting:.0%} waiting", refresh=False)
                keeps_workers = True  # if the loop is left now
                yield delivery.batch
                del delivery  # its memory may be all that the next batch waits for
                keeps_workers = False
                asked = perf_counter()
                self._stats.elapsed_s += asked - arrived
            current.is_over = keeps_workers = True
        finally:
            if bar is not None:
                bar.close()
            if not (keeps_workers and self.persistent_workers):
                self._source = None
                _shut_down(iterator)

    def _open_source(self, dataset: StreamingDataset) -> DataLoader[Any]:
        if self._source is None:
            # Made at the last moment: trainers set attributes of a loader that they are given.
            deliveries = Deliveries(
                dataset,
                batch_size=self.batch_size,
                drop_last=self.drop_last,
                collate_fn=self.collate_fn,
                transform=self.transform,
                batch_transform=self.batch_transform,
                images=self.images,
                num_ahead=self.prefetch_factor or self._num_ahead,
            )
            arguments = {name: getattr(self, name) for name in _PASSED_ON}
            init = SeesDataset(self.worker_init_fn)
            self._source = DataLoader(deliveries, None, collate_fn=_same, worker_init_fn=init, **arguments)
        return self._source

    def _take_apart(self, arriving: Iterator[Any], num_workers: int) -> Iterator[Delivery]:
        if not num_workers:
            return arriving
        if not self._is_in_order:
            return (unpack(packed) for _, batches in arriving for packed in batches)
        return map(unpack, in_turn(arriving, num_workers))

    def _check_alone(self, current: _Iteration) -> None:
        if self._current is not current:
            raise RuntimeError("workers that persist do one iteration at a time, and a later one or a resume has begun")

    def _dismiss_workers(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            _shut_down(source._iterator)

    def _count(self, delivery: Delivery, waited_s: float) -> None:
        stats = self._stats
        stats.num_samples += delivery.num_samples
        stats.num_batches += 1
        stats.num_bytes += delivery.num_bytes
        stats.elapsed_s += waited_s
        stats.waiting_s += waited_s
        stats.fetch_s += delivery.fetch_s
        stats.read_s += delivery.read_s
        stats.collate_s += delivery.collate_s

    def _make_bar(self, dataset: StreamingDataset) -> "tqdm[Any] | None":
        if not self.progress_bar:
            return None
        epoch, sample = dataset._epochs.upcoming
        total = dataset._samples_left(Position(epoch=epoch, sample=sample))
        return tqdm(total=total, desc=f"epoch {epoch}", unit=" samples", unit_scale=True, dynamic_ncols=True)


def _same(delivery: Any) -> Any:
    return delivery


def _begin(source: DataLoader[Any]) -> Iterator[Any]:
    if source.num_workers or source.pin_memory:
        return iter(source)
    # Torch's iterator would only call the next one, for a tenth of the time that a small batch takes.
    torch.empty((), dtype=torch.int64).random_(generator=source.generator)  # and draw a seed, as others expect
    return iter(source.dataset)


def _arriving(iterator: Iterator[Any]) -> Iterator[Any]:
    """Give what torch's iterator gives.

    Raises:
        WorkerDiedError: A worker process is dead. Torch says so, or that a connection was reset, as chance has it.
    """
    try:
        yield from iterator
    except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
        workers = getattr(iterator, "_workers", [])
        # Torch's handler of SIGCHLD raises in the middle of whatever is being done, this included.
        with contextlib.suppress(RuntimeError):
            # One that is being killed resets its connections first.
            connection.wait([worker.sentinel for worker in workers], timeout=0.5)
        dead = [worker for worker in workers if worker.exitcode]
        if not dead:
            raise
        said = ", ".join(f"{worker.pid} (exit code {worker.exitcode})" for worker in dead)
        raise WorkerDiedError(
            f"worker process {said} of the loader died; -9 often means that the machine ran out of memory: take fewer "
            f"num_workers or a smaller prefetch_factor"
        ) from error


def _shut_down(iterator: Any) -> None:
    """End the workers of torch's iterator now.

    Torch leaves that to the garbage collector. After an error that finds the iterator in a cycle with it, takes its
    queues apart first, and then has the training process wait ten seconds for workers that nobody told to end.
    """
    end = getattr(iterator, "_shutdown_workers", None)
    if end is None:
        return
    try:
        end()
    finally:
        # Torch's handler of SIGCHLD may end its waiting, and older releases do not wait for those that they kill.
        for worker in iterator._workers:
            worker.join(timeout=_DEATH_S)
