"""arrowstream's own order of a mixture: computed where it is asked for, whatever the sizes of epoch and streams.

Position p of epoch e is position e·N + p of the run, N the epoch's size. :class:`arrowstream.plan.mixing.Mixing` tells
which stream stands there and how many samples k of it came before. Of a stream with n samples that is position k mod n
of its pass k div n, and :class:`arrowstream.plan.order.Order` knows each pass as it knows an epoch. So no sample of a
stream comes again before all others have come, whatever the epochs, the shares and the resumes between.

The price, beside an order without shares: which positions of a stream a machine reads depends on the mixture, so
machines do not read disjoint shards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from arrowstream.errors import StateMismatchError
from arrowstream.plan.grouping import places_by_number
from arrowstream.plan.mixing import Mixing
from arrowstream.plan.mosaic.weights import Weight, apply_weights
from arrowstream.plan.order import MOST_CANONICAL_NODES, Order, default_canonical_nodes
from arrowstream.plan.positioned import PositionedPlan
from arrowstream.plan.schedule import Schedule
from arrowstream.plan.state import Position
from arrowstream.plan.uses import Uses
from arrowstream.plan.window import ShuffleUnit
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]

MIXINGS = ("even",)
#: Positions of the run that are worked out at once, as NumPy's calls cost as much as thousands of them.
_COMPUTED = 1 << 14
#: Of which a process works out at least so many of its own.
_FEWEST_GIVEN = 1 << 11


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixedPlan(PositionedPlan):
    """Streams in shares that every prefix of the run keeps to within one sample.

    Attributes:
        samples_per_shard: Of each stream, int64 of shape (shards of the stream,).
        schedule: The shares, from each position of the run on.
        length: Samples of an epoch, over all ranks.
        shuffle: Whether there is a shuffle.
        seed: Of the shuffle; each stream draws its own from it.
        block_size: Samples that are shuffled with each other. The streams share it out by their sizes, but none gets
            less than an equal part, so that a small stream that often repeats is shuffled as well.
        num_canonical_nodes: Of each stream; None: as its shards suggest, but no more than its part, shared out alike.
            So a mixture has about as few shards live as one stream.

    Raises:
        ValueError: The epoch has no samples, or a stream without any has a share.
    """

    samples_per_shard: Sequence[IntArray]
    schedule: Schedule
    length: int
    shuffle: bool
    seed: int
    block_size: int
    num_canonical_nodes: int | None
    _sizes: IntArray = field(init=False, repr=False)  # (streams,), samples
    _first_ids: IntArray = field(init=False, repr=False)  # (streams,)
    _mixing: Mixing = field(init=False, repr=False)
    _orders: tuple[dict[int, Order], ...] = field(init=False, repr=False)  # (streams,), by pass

    def __post_init__(self) -> None:
        sizes = np.array([int(shards.sum()) for shards in self.samples_per_shard], np.int64)
        if self.length < 1:
            raise ValueError("an epoch would have no samples")
        for start, weights in zip(self.schedule.starts, self.schedule.weights, strict=True):
            for stream in np.flatnonzero((sizes == 0) & (np.array(weights) > 0)).tolist():
                raise ValueError(f"stream {stream} has no samples, but a share from position {start} on: {weights}")
        object.__setattr__(self, "_sizes", sizes)
        object.__setattr__(self, "_first_ids", np.cumsum(sizes) - sizes)
        object.__setattr__(self, "_mixing", Mixing(self.schedule))
        object.__setattr__(self, "_orders", tuple({} for _ in sizes))

    @property
    def epoch_size(self) -> int:
        """Samples of an epoch, over all ranks."""
        return self.length

    def order(self, epoch: int) -> "MixedOrder":
        """Give the order of an epoch, nothing left out."""
        return MixedOrder(self, epoch)

    def positions_at_once(self, job: World) -> int:
        """Say how many positions of one process are worked out at a time."""
        return max(_COMPUTED // (job.num_ranks * job.workers_per_rank), _FEWEST_GIVEN)

    def samples_at(self, positions: IntArray, epoch: int) -> IntArray:
        """Tell which samples stand at these positions of an epoch.

        Args:
            positions: In [0, epoch_size), int64 of shape (n,).
            epoch: Counted from 0.

        Returns:
            Sample ids over all streams, int64 of shape (n,).
        """
        streams, counts = self._mixing.locate(epoch * self.epoch_size + positions)  # (n,) each
        ids = np.empty_like(positions)
        for members in places_by_number(streams, len(self._sizes)):
            stream = int(streams[members[0]])
            ids[members] = self._first_ids[stream] + self._of_stream(stream, counts[members])
        return ids

    def _of_stream(self, stream: int, counts: IntArray) -> IntArray:
        """Tell which of a stream's samples come when so many of it came before, over all passes; int64 of shape (n,).

        Counting of ids begins anew with the stream.
        """
        size = int(self._sizes[stream])
        first, last = int(counts.min()) // size, int(counts.max()) // size
        within = counts - first * size
        if first == last:
            return self._order(stream, first).samples_at(within)
        passes = within // size
        ids = np.empty_like(counts)
        for members in places_by_number(passes, last - first + 1):
            number = int(passes[members[0]])
            ids[members] = self._order(stream, first + number).samples_at(within[members] - number * size)
        return ids

    def dealt(self, positions: IntArray, job: World, start: Position) -> IntArray:
        """Let ranks change places within each row of positions that they read side by side.

        Shares are met so evenly that with one half each and two ranks, one rank would read the one stream alone. The
        samples of a row, and so of a step, stay the same.
        """
        num_positions, num_ranks = self.num_positions(job, start.epoch), job.num_ranks
        if num_ranks == 1:
            return positions
        rows, lanes = np.divmod(positions - start.sample, num_ranks)
        first = start.sample + rows * num_ranks
        turned = first + (lanes + _scatter(start.epoch * self.epoch_size + first) % num_ranks) % num_ranks
        return np.where(first + num_ranks <= num_positions, turned, positions)

    def positions_in(self, epoch: int, ids: IntArray) -> IntArray:
        """Tell all positions of an epoch at which these samples stand: none, one, or one for each pass.

        Args:
            epoch: Counted from 0.
            ids: Over all streams, int64 of shape (n,).

        Returns:
            int64, in no particular order.
        """
        begin = epoch * self.epoch_size
        before, behind = self._mixing.counts_before(begin), self._mixing.counts_before(begin + self.epoch_size)
        streams = np.searchsorted(self._first_ids, ids, side="right") - 1  # (n,)
        found = [np.empty(0, np.int64)]
        for stream in np.unique(streams).tolist():
            first, last = int(before[stream]), int(behind[stream])
            size = int(self._sizes[stream])
            local = ids[streams == stream] - self._first_ids[stream]
            for number in range(first // size, -(-last // size)):
                counts = number * size + self._order(stream, number).positions_of(local)
                counts = counts[(counts >= first) & (counts < last)]
                found.append(self._mixing.positions_of(stream, counts) - begin)
        return np.concatenate(found)

    @property
    def unit(self) -> ShuffleUnit:
        """What an iteration fetches at once."""
        return "shard"

    def uses(self, world: World, epoch: int) -> Uses:
        """Tell when each shard is needed in an epoch, by any machine: they do not share out the shards."""
        del world
        begin = epoch * self.epoch_size
        before, behind = self._mixing.counts_before(begin), self._mixing.counts_before(begin + self.epoch_size)
        first_shards = np.cumsum([0, *map(len, self.samples_per_shard)])
        pieces = [np.empty((3, 0), np.int64)]  # shards, first and last positions
        for stream in np.flatnonzero(behind > before).tolist():
            size, sizes = int(self._sizes[stream]), self.samples_per_shard[stream]
            starts = np.cumsum(sizes) - sizes
            for number in range(int(before[stream]) // size, -(-int(behind[stream]) // size)):
                ids, _, first, last = self._order(stream, number).stretches(sizes)
                first, last = first + number * size, last + number * size  # counted over all passes
                met = (last >= before[stream]) & (first < behind[stream])
                first, last = np.maximum(first[met], before[stream]), np.minimum(last[met], behind[stream] - 1)
                shards = np.searchsorted(starts, ids[met], side="right") - 1 + first_shards[stream]
                positions = self._mixing.positions_of(stream, np.concatenate([first, last])) - begin
                pieces.append(np.stack([shards, *np.split(positions, 2)]))
        shards, first, last = np.concatenate(pieces, axis=1)
        return Uses(parts=shards, first=first, last=last, num_parts=int(first_shards[-1]), epoch_size=self.epoch_size)

    def _order(self, stream: int, number: int) -> Order:
        """Give the order of one pass of a stream; two of each stream are kept, as a chunk may lie on a border."""
        orders = self._orders[stream]
        order = orders.get(number)
        if order is None:
            order = Order(
                self.samples_per_shard[stream],
                shuffle=self.shuffle,
                # Streams of equal shards would otherwise be permuted in step.
                seed=int(np.random.SeedSequence((self.seed, stream)).generate_state(1, np.uint64)[0]),
                epoch=number,
                block_size=int(self.block_size * self._part(stream)),
                canonical_nodes=self._canonical_nodes(stream),
            )
            if len(orders) == 2:
                del orders[next(iter(orders))]
            orders[number] = order
        return order

    def _part(self, stream: int) -> float:
        """Give a stream's part of what the streams share out, whatever the shares of the mixture are by then."""
        return max(int(self._sizes[stream]) / int(self._sizes.sum()), 1 / len(self._sizes))

    def _canonical_nodes(self, stream: int) -> int:
        if self.num_canonical_nodes is not None or not self.shuffle:
            return self.num_canonical_nodes or 1
        most = max(int(MOST_CANONICAL_NODES * self._part(stream)), 1)
        return min(default_canonical_nodes(len(self.samples_per_shard[stream])), 1 << (most.bit_length() - 1))

    def settings(self, world: World) -> dict[str, Any]:
        """Say what the order depends on; the job is not part of it."""
        del world
        return {
            "num_samples": self.epoch_size,
            "mixing": self.schedule.to_json(),
            "samples_per_stream": self._sizes.tolist(),
            "shuffle": self.shuffle,
            "shuffle_algo": None,
            "shuffle_seed": self.seed,
            "shuffle_block_size": self.block_size,
            "num_canonical_nodes": [self._canonical_nodes(stream) for stream in range(len(self._sizes))],
            "tail": self.tail,
        }

    def adopt(self, state: Mapping[str, Any]) -> Self:
        """Refuse what mosaicml-streaming wrote; a state of ours decides nothing."""
        if state.get("version") is None:
            raise StateMismatchError(
                "the state was written by mosaicml-streaming, which lays mixtures out otherwise; leave out mixing= and "
                "give the dataset the shuffle_algo that wrote it to go on with the very next sample, or "
                "load_state_dict(state, strict=False) to go on at the same position of this dataset's order"
            )
        return self


@dataclass(frozen=True, slots=True)
class MixedOrder:
    """The samples of one epoch of a mixture in their sequence."""

    plan: MixedPlan
    epoch: int

    def samples_at(self, positions: IntArray) -> IntArray:
        """Tell which samples stand at these positions, int64 of shape (n,)."""
        return self.plan.samples_at(positions, self.epoch)

    def positions_of(self, ids: IntArray) -> IntArray:
        """Tell all positions at which these samples stand, int64."""
        return self.plan.positions_in(self.epoch, ids)


def mix_evenly(
    samples_per_shard: Sequence[IntArray],
    weights: Sequence[Weight],
    *,
    schedule: Schedule | None,
    epoch_size: int | None,
    seed: int,
    **order: Any,
) -> MixedPlan:
    """Make the plan of a mixture from what a user says.

    Args:
        samples_per_shard: Of each stream, int64 of shape (shards of the stream,).
        weights: Of each stream; where there is no schedule they give the shares and, without one, the epoch's size.
        schedule: The shares from each position of the run on, or None.
        epoch_size: Samples of an epoch; None with a schedule: as many as there are.
        seed: Of the shuffle; also decides which streams give one sample more where shares of an epoch are not whole.
        order: What else ``MixedPlan`` takes.

    Raises:
        ValueError: The weights contradict each other, or ask for samples that no stream has.
    """
    sizes = np.array([int(shards.sum()) for shards in samples_per_shard], np.int64)
    if schedule is None:
        mixture = apply_weights(weights, sizes, epoch_size, seed)
        if not mixture.epoch_size:
            raise ValueError("an epoch would have no samples")
        schedule, epoch_size = Schedule.constant(mixture.choose.tolist()), mixture.epoch_size
    return MixedPlan(
        samples_per_shard=samples_per_shard,
        schedule=schedule,
        length=epoch_size or int(sizes.sum()),
        seed=seed,
        **order,
    )


def check_mixing(mixing: str, weights: Sequence[Weight], schedule: Schedule | None, **others: tuple[Any, Any]) -> None:
    """Refuse a mixing that is unknown or has nothing to do with other arguments.

    Args:
        mixing: Its name.
        weights: Of each stream.
        schedule: The shares from each position of the run on, or None.
        others: By name, values of arguments that only the orders of mosaicml-streaming know, and their defaults.

    Raises:
        ValueError: It is, or one of the others is not its default.
    """
    if mixing not in MIXINGS:
        raise ValueError(f"mixing is {mixing!r}, expected one of {', '.join(MIXINGS)}, or None")
    for name, (value, default) in others.items():
        if value != default:
            raise ValueError(
                f"{name} is {value!r}, but mixing={mixing!r} has an order of its own, which knows no {name}; leave "
                "one of them out"
            )
    for stream, weight in enumerate(weights):
        if schedule is not None and weight != Weight():
            raise ValueError(
                f"mixing_schedule says what the shares are, and stream {stream} has a proportion, repeat or choose as "
                f"well; give the shares in one place"
            )


def _scatter(numbers: IntArray) -> IntArray:
    """Give each number another that looks random, in [0, 2^31).

    The mixing function of SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014).
    """
    bits = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((bits ^ (bits >> np.uint64(31))) >> np.uint64(33)).astype(np.int64)
