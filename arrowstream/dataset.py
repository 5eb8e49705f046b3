"""The dataset: samples of any number of streams, by id or one after the other in the order of a plan."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from arrowstream.batch_forms import NUMPY_FORM, BatchForm
from arrowstream.batches import BatchReader, Images, RaggedForm, check_batch_size, form_for, make_batch_reader
from arrowstream.by_id import SamplesById
from arrowstream.cursor import Cursor
from arrowstream.map_style import MapStyleDataset
from arrowstream.plan.arguments import check_arguments, choose_plan
from arrowstream.plan.epoch_plan import EpochPlan
from arrowstream.plan.partition import Tail
from arrowstream.plan.schedule import Schedule
from arrowstream.plan.window import ShuffleUnit
from arrowstream.resumable import Resumable
from arrowstream.share import Share
from arrowstream.stream import DEFAULTS, Stream
from arrowstream.units import parse_bytes, parse_count
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]


class StreamingDataset(SamplesById, Resumable):
    """Samples of one or several streams, by id, by slice, or one after the other.

    It takes the arguments of mosaicml-streaming's class of the same name and means the same by them. Nothing is read
    when it is made; the index is read at the first use, a shard when a sample of it is first asked for.

    Args:
        streams: Sources of samples, one behind the other. Either these, or ``remote`` and ``local``.
        remote: Directory or URL that holds ``index.json`` and the shards. None: ``local`` holds them all and is read
            in place.
        local: Directory of the cache. None: a folder of the system's temporary directory that is named after the
            remote; a remote that is a directory of this machine is then read in place.
        split: Subdirectory of both.
        download_retry: Attempts in all for each download.
        download_timeout: Seconds that a request may take.
        validate_hash: Name of the hash that arriving shards are checked with. None: the one every writer stores.
        keep_zip: Whether what was compressed for transport is kept in the cache beside its shard, and used again when
            the shard is gone.
        cache_limit: Bytes, also as "100gb", that the caches of all streams may take on the disk together, unfinished
            files included. The shards that are needed last are deleted to make room. Local data is not. None: no limit.
        random_access: What ``dataset[i]`` and ``take`` fetch of a shard that is not in the cache: ``record_batch``, the
            record batches that they need; ``shard``, all of it; ``auto``, record batches until the shard would have
            cost less. Iterations fetch what their ``shuffle_unit`` is.
        predownload: Samples to look ahead when fetching shards. None: 8 batches, or 64 without a batch size.
        batch_size: Samples of a batch on one rank. The workers of a loader need it to share out the epoch.
        shuffle: Whether an iteration goes through the samples in a new random order each epoch.
        shuffle_seed: What that order is drawn from, together with the epoch.
        shuffle_block_size: Samples of the whole job that are shuffled with each other, within shards that are shuffled
            as a whole. None: 262,144.
        shuffle_unit: What the shuffle moves as a whole: ``shard`` or ``record_batch``. None: shards, unless a
            ``shuffle_budget`` holds fewer than 256 of them.
        shuffle_budget: Bytes that are between their first use and their last at any moment, in the whole job, also as
            "2gb"; chooses the ``shuffle_block_size``. None: no such bound.
        num_canonical_nodes: Distant places of the data that every batch draws from. Machines whose number divides it
            read disjoint parts of the data. None: up to 64, as the number of units and a ``shuffle_budget`` suggest; 1
            without shuffling.
        epoch_size: Samples of an epoch, also as "100k". None: what the streams' weights come to.
        sampling_method: ``balanced`` draws a part of a stream anew each epoch, ``fixed`` draws once.
        sampling_granularity: Samples that are drawn from one shard at a time.
        partition_algo: ``relaxed`` or ``orig``, of mosaicml-streaming's orders.
        shuffle_algo: None: arrowstream's own order. ``py1e``, ``py1br``, ``py1s``, ``py2s`` or ``naive``: that of
            mosaicml-streaming, sample by sample. Weighted streams, an ``epoch_size`` and a ``batching_method`` go with
            the latter (``py1e`` unless named); it lays out whole epochs, which takes time and memory of their size.
        batching_method: ``random``, ``stratified``, ``per_stream`` or ``device_per_stream``.
        replication: Consecutive ranks that read the same samples.
        mixing: ``even``: an order of arrowstream's own for weighted streams, computed position by position, that keeps
            the streams' shares to within one sample at every point; it goes with neither ``shuffle_algo`` nor
            ``batching_method``. None: weighted streams follow mosaicml-streaming.
        mixing_schedule: Shares that change: pairs of a position and the proportions of all streams from there on, as in
            ``[(0, [3, 1]), (100_000, [1, 1])]``. Positions count the samples of all ranks and all epochs. It implies
            ``mixing="even"``, and takes the place of the streams' weights.
        tail: What becomes of the last samples of an epoch where they do not come out even. ``repeat``: none is left
            out, and some ranks read one again. ``drop``: what does not fill a step of all ranks is left out. ``pad``:
            as ``repeat``, and each sample says under ``is_padding`` whether it was read before.
        rank: This process among those that share out the samples: its data-parallel rank, where several ranks train
            together on the same ones. None: as torch.distributed or the launcher has it.
        world_size: How many ranks share out the samples; goes with ``rank``.
        allow_unsafe_types: Whether ``pkl`` columns are read, which run code that came with the data.
        columns: The columns that samples have, in their order; the others are not decoded, and a ``pkl`` column that is
            left out needs no trust. None: all that their shard has.
        storage_options: Passed to fsspec's file system as they are.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
    """

    _map_style_class: ClassVar[type[MapStyleDataset]] = MapStyleDataset

    def __init__(
        self,
        *,
        streams: Sequence[Stream] | None = None,
        remote: str | PathLike[str] | None = None,
        local: str | PathLike[str] | None = None,
        split: str | None = None,
        download_retry: int = 2,
        download_timeout: float = 60.0,
        validate_hash: str | None = None,
        keep_zip: bool = False,
        cache_limit: int | str | None = None,
        random_access: str = "auto",
        predownload: int | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        shuffle_seed: int = 9176,
        shuffle_block_size: int | None = None,
        num_canonical_nodes: int | None = None,
        epoch_size: int | str | None = None,
        sampling_method: str = "balanced",
        sampling_granularity: int = 1,
        partition_algo: str = "relaxed",
        shuffle_algo: str | None = None,
        batching_method: str = "random",
        replication: int | None = None,
        mixing: str | None = None,
        mixing_schedule: Sequence[tuple[int, Sequence[float]]] | None = None,
        tail: Tail = "repeat",
        shuffle_unit: ShuffleUnit | None = None,
        shuffle_budget: int | str | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        allow_unsafe_types: bool = False,
        columns: Sequence[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if bool(streams) == bool(remote or local):
            raise ValueError("You must provide either `streams` or `remote`/`local`, but not both.")
        Resumable.__init__(self, batch_size=batch_size, replication=replication, rank=rank, world_size=world_size)
        SamplesById.__init__(
            self,
            streams or [Stream(remote=remote, local=local, storage_options=storage_options)],
            allow_unsafe_types=allow_unsafe_types,
            columns=columns,
            cache_limit=parse_bytes(cache_limit) if cache_limit is not None else None,
            random_access=random_access,
        )
        settings = (split, download_retry, download_timeout, validate_hash, keep_zip)
        for stream in self.streams:
            stream.apply_default(dict(zip(DEFAULTS, settings, strict=True)))
        self.predownload = predownload if predownload is not None else (8 * batch_size if batch_size else 64)
        self.shuffle = shuffle
        self.shuffle_seed = shuffle_seed
        self.shuffle_block_size = shuffle_block_size
        self.num_canonical_nodes = num_canonical_nodes
        self.epoch_size = parse_count(epoch_size) if epoch_size is not None else None
        self.sampling_method = sampling_method
        self.sampling_granularity = sampling_granularity
        self.partition_algo = partition_algo
        self.shuffle_algo = shuffle_algo
        self.batching_method = batching_method
        self.mixing = "even" if mixing is None and mixing_schedule is not None else mixing
        self.mixing_schedule = (
            Schedule.parse(mixing_schedule, len(self.streams)) if mixing_schedule is not None else None
        )
        self.tail = tail
        self.shuffle_unit = shuffle_unit
        self.shuffle_budget = parse_bytes(shuffle_budget) if shuffle_budget is not None else None
        check_arguments(self, [stream.weight for stream in self.streams])
        self._idle_batch_readers: dict[Hashable, BatchReader] = {}

    # What it holds ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Give the number of samples that an epoch has on this rank."""
        return self._make_plan().rank_samples(self._world())

    def __repr__(self) -> str:
        held = "index not read yet"
        if self._reader is not None:
            shards = f"{self.num_shards:,} shard{'' if self.num_shards == 1 else 's'}"
            held = f"{self.num_samples:,} samples in {shards}"
        settings = [f"batch_size={self.batch_size}", f"shuffle={self.shuffle}"]
        return f"{type(self).__name__}({', '.join(map(repr, self.streams))}, {', '.join(settings)}: {held})"

    def map_style(
        self,
        as_: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        images: Images = "pil",
        ragged: RaggedForm | None = None,
    ) -> MapStyleDataset:
        """Give a view of all samples by their ids, for loaders and samplers that want a map-style dataset.

        Its ``sampler()`` gives the ids of this rank in the order of the plan.

        Args:
            as_: What the view's ``__getitems__`` gives: None for samples, or the form of whole batches.
            columns: The columns of a batch; None: all.
            images: As for ``batches``.
            ragged: As for ``batches``.

        Raises:
            ValueError: Columns or forms are given for samples.
        """
        return self._map_style_class(self, as_=as_, columns=columns, images=images, ragged=ragged)

    # One after the other ---------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """Go through this process's share of the next epoch.

        Raises:
            ValueError: Several worker processes share the epoch and no ``batch_size`` was given.
        """
        world, cursor = self._begin_iteration()
        return self._iterate(world, cursor)

    def _iterate(self, world: World, cursor: Cursor) -> Iterator[Any]:
        mine = StreamingDataset
        overridden = type(self).__getitem__ is not mine.__getitem__ or type(self).get_item is not mine.get_item
        if (share := self._take_share(world, cursor)) is not None:
            yield from share.samples(self.__getitem__ if overridden else None)

    def _take_share(self, world: World, cursor: Cursor) -> Share | None:
        """Begin to read this process's share; None where there is nothing at all."""
        reader = self._reader or self._load()
        if not reader.num_samples:
            return None
        return Share(
            reader=reader,
            position=cursor.begin(self._epochs),
            plan=self._current_plan(),
            world=world,
            cursor=cursor,
            predownload=self.predownload,
            marks_padding=self.tail == "pad",
        )

    def batches(
        self,
        batch_size: int | None = None,
        columns: Sequence[str] | None = None,
        as_: str = "torch",
        *,
        images: Images = "pil",
        ragged: RaggedForm | None = None,
        num_threads: int | None = None,
        num_ahead: int = 0,
    ) -> Iterator[Any]:
        """Go through this process's share of the next epoch, a batch at a time.

        The samples and their order are those of an iteration over the dataset. They are read as they are stored:
        ``__getitem__`` and ``get_item`` of a subclass are not called.

        Args:
            batch_size: Samples of a batch; the last one may be short. None: the dataset's.
            columns: The columns to read; None: all.
            as_: ``torch``: tensors, equal to what ``default_collate`` makes of the samples; ``numpy``: arrays;
                ``arrow``: tables. docs/batches.md has a table of what each encoding becomes.
            images: ``pil``: lists of PIL images, decoded; ``array``: lists of arrays or tensors of pixels, uint8 of
                shape (height, width, channels), or (height, width) without colours.
            ragged: What arrays of differing shapes become. ``offsets``: laid end to end, with offsets; ``pad``: filled
                up with zeros; None: what ``default_collate`` or NumPy makes of them, if anything.
            num_threads: That decode images. None: one for each core, or one in a worker process of a loader.
            num_ahead: Batches that a thread may read ahead, where that pays; they count when they are given out.

        Returns:
            Batches that own their memory: dictionaries of columns, or tables.

        Raises:
            ValueError: There is no batch size, or an argument has an unknown value.
            MissingColumnError: There is no such column.
            MissingDependencyError: Tensors were asked for, and this class knows nothing of torch.
            EncodingError: While iterating: values have no such form; the message names the column and the ways out.
        """
        form = form_for(as_, self._batch_forms())
        return self._batches(
            form, batch_size, columns, images=images, ragged=ragged, num_threads=num_threads, num_ahead=num_ahead
        )

    def _batches(
        self,
        form: BatchForm | None,
        batch_size: int | None,
        columns: Sequence[str] | None = None,
        *,
        images: Images = "pil",
        ragged: RaggedForm | None = None,
        num_threads: int | None = None,
        num_ahead: int = 0,
    ) -> Iterator[Any]:
        """Do what ``batches`` says, in any form; None is Arrow's."""
        batch_size = check_batch_size(batch_size if batch_size is not None else self.batch_size)
        num_threads = 1 if num_threads is None and self._worker() else num_threads
        key = (form, tuple(columns) if columns is not None else None, images, ragged, num_threads)
        # What an epoch found out serves the next one; epochs at the same time have one each.
        batch_reader = self._idle_batch_readers.pop(key, None) or self._make_batch_reader(
            form, columns, images=images, ragged=ragged, num_threads=num_threads
        )
        return self._iterate_batches(batch_reader, key, batch_size, num_ahead, self._begin_iteration())

    def _iterate_batches(
        self, batch_reader: BatchReader, key: Hashable, batch_size: int, num_ahead: int, begun: tuple[World, Cursor]
    ) -> Iterator[Any]:
        if (share := self._take_share(*begun)) is not None:
            try:
                yield from share.batches(batch_reader, batch_size, num_ahead)
            finally:
                self._idle_batch_readers = {key: batch_reader}  # one alone: it holds maps of shards

    def _make_batch_reader(
        self,
        form: BatchForm | None,
        columns: Sequence[str] | None,
        *,
        images: Images = "pil",
        ragged: RaggedForm | None = None,
        num_threads: int | None = None,
    ) -> BatchReader:
        reader = self._reader or self._load()
        return make_batch_reader(reader, columns, form, images=images, ragged=ragged, num_threads=num_threads)

    def _batch_forms(self) -> dict[str, BatchForm]:
        """Give what columns can be made into; the class for torch knows tensors too."""
        return {"numpy": NUMPY_FORM}

    # Processes -------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        self._epochs  # noqa: B018  # a rank that was handed the dataset parts with whoever did, before its workers begin
        return {**super().__getstate__(), "_idle_batch_readers": {}, "_plan": None, "_cursor": None}

    def _choose_plan(self) -> EpochPlan:
        reader = self._reader or self._load()
        weights = [stream.weight for stream in self.streams]
        return choose_plan(self, weights, reader.samples_per_stream_shard, reader.shards)

    def _fingerprint(self) -> str:
        return (self._reader or self._load()).fingerprint
