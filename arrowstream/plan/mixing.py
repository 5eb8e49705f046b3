"""Which stream stands at which position of a mixture: never a whole sample away from the shares.

With shares p_1 … p_S, let T_s(t) count the samples of stream s among the first t. Here T_s(t) is t·p_s rounded down or
up, for every t and s: every prefix holds each stream's share to within less than one sample. That this can be done is
the chairman assignment problem (Tijdeman, The chairman assignment problem, Discrete Mathematics 32, 1980), whose known
methods count from the beginning, one position after the other. This one computes T(t) where it is asked for.

The shares are integers over their sum W, so T(0) and T(W) are exact, and all repeats with period W. Between two known
states the one in the middle is chosen, and so on, halving: log2(W) choices lead to any position.

*What a choice has to respect.* Say stream s is open at t if t·p_s is no integer, f_s its fraction. m(t), the sum of the
fractions, is the number of streams that are rounded up at t. A stream rounded up at t remains so until its deadline,
the next time at which t·p_s is passed by an integer; one rounded down at t was so since its release, the last such
time. So between a chosen t and any later b at most m(b) of those rounded up at t may have a deadline after b, and the
like for those rounded down, backwards; by Hall's theorem that is all that two neighbouring states need for a path
between them.

*Why there is always a choice.* F are the streams that the state on the left rounds up, with a deadline after the
middle; G those that the state on the right rounds down, with a release before it. Let d = sum over F of (1 - f) - sum
over G of f. Round down as many of the open others as have late deadlines, but among those with the i earliest releases
no more than ceil(d + sum of their (1 - f)). As fractions only move towards the next integer between release and
deadline, this bound is sound for every earlier time, and the same for later times and deadlines is met by the fractions
themselves, after d has been taken from those with the latest deadlines (or added to those with the earliest releases).
Both families of bounds are chains of integers, hence met by a choice of whole streams as well (two chains are a
totally unimodular system); and the greedy choice, latest deadline first, is optimal in the matroid of the one chain
for every member of the other.

The last few positions between two states are filled by taking, of the streams that may come, the one with the earliest
deadline: exact wherever there is a solution.
"""

from functools import lru_cache
from math import gcd

import numpy as np
import numpy.typing as npt

from arrowstream.plan.schedule import Schedule

IntArray = npt.NDArray[np.int64]

_FEWEST_POSITIONS = 16  # that are filled one by one; as many as there are streams, or more
_NEVER = np.iinfo(np.int64).max


class EvenMixing:
    """A sequence of streams that keeps their shares in every prefix; nothing of it is stored.

    Args:
        weights: Shares of the streams: not negative, one above 0, in sum at most 2^50, which is what float64 and int64
            together can divide exactly; int64 of shape (streams,).
    """

    def __init__(self, weights: IntArray) -> None:
        self._num_streams = len(weights)
        self._streams = np.flatnonzero(weights)  # (S,), those that appear
        self._weights = weights[self._streams] // gcd(*weights.tolist())  # (S,)
        self.period = int(self._weights.sum())
        self._leaf_bits = (max(_FEWEST_POSITIONS, len(self._streams)) - 1).bit_length()
        self._depth = ((self.period - 1) >> self._leaf_bits).bit_length()
        self._ends = lru_cache(maxsize=256)(self._find_ends)

    def locate(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        """Tell which streams stand at these positions, and how many samples of its stream each has before it.

        Args:
            positions: Not negative, int64 of shape (n,).

        Returns:
            Numbers of streams, and positions within those streams, both int64 of shape (n,).
        """
        if not len(positions):
            return positions, positions
        cycles = positions // self.period  # (n,)
        within = positions - cycles * self.period  # (n,); np.divmod takes twice as long
        leaves, leaf_of = _distinct(within >> self._leaf_bits)  # (leaves,), (n,)
        streams, counts = self._fill(leaves)
        places = leaf_of, within & ((1 << self._leaf_bits) - 1)
        found = streams[places]  # (n,), numbers among those that appear
        return self._streams[found], cycles * self._weights[found] + counts[places]

    def counts_before(self, position: int) -> IntArray:
        """Count the samples of each stream before a position, int64 of shape (streams,)."""
        cycle, within = divmod(position, self.period)
        leaf, offset = within >> self._leaf_bits, within & ((1 << self._leaf_bits) - 1)
        low, _ = self._ends(0, leaf)
        streams, _ = self._fill(np.array([leaf]))
        counts = np.zeros(self._num_streams, np.int64)
        in_leaf = np.bincount(streams[0, :offset], minlength=len(self._streams))
        counts[self._streams] = cycle * self._weights + low + in_leaf
        return counts

    def positions_of(self, stream: int, counts: IntArray) -> IntArray:
        """Tell where the samples of a stream stand; the inverse of :meth:`locate`.

        Args:
            stream: One that has a share.
            counts: Positions within the stream, not negative, int64 of shape (n,).

        Returns:
            Positions, int64 of shape (n,).
        """
        column = int(np.searchsorted(self._streams, stream))
        cycles, within = np.divmod(counts, self._weights[column])  # (n,) each
        leaves = np.zeros_like(counts)
        low, high = np.zeros_like(self._weights)[None], self._weights[None]  # (n or 1, S)
        for level in range(self._depth, 0, -1):
            middle = self._middle(level, leaves, low, high)
            right = middle[:, column] <= within
            leaves = 2 * leaves + right
            low, high = np.where(right[:, None], middle, low), np.where(right[:, None], high, middle)
        wanted, leaf_of = np.unique(leaves, return_inverse=True)
        streams, before = self._fill(wanted)
        offsets = ((streams[leaf_of] == column) & (before[leaf_of] == within[:, None])).argmax(axis=1)
        return np.asarray(cycles * self.period + (leaves << self._leaf_bits) + offsets)

    # Between two states ----------------------------------------------------------------------------------------------

    def _find_ends(self, level: int, node: int) -> tuple[IntArray, IntArray]:
        """Give the states at both ends of one node: the interval of leaves [node << level, node + 1 << level)."""
        if level == self._depth:
            return np.zeros_like(self._weights), self._weights  # (S,) each
        low, high = self._ends(level + 1, node >> 1)
        middle = self._middle(level + 1, np.array([node >> 1]), low[None], high[None])[0]
        return (middle, high) if node & 1 else (low, middle)

    def _leaf_ends(self, leaves: IntArray) -> tuple[IntArray, IntArray]:
        """Give the states at both ends of leaves that are sorted and differ, int64 of shape (leaves, S) each."""
        level = (int(leaves[0]) ^ int(leaves[-1])).bit_length()
        low, high = (end[None] for end in self._ends(level, int(leaves[0]) >> level))  # (nodes, S) each
        nodes = leaves[:1] >> level
        for below in range(level - 1, -1, -1):
            middle = self._middle(below + 1, nodes, low, high)
            children = leaves >> below
            children = children[np.flatnonzero(np.diff(children, prepend=-1))]  # (nodes below,)
            parents = np.searchsorted(nodes, children >> 1)
            right = (children & 1).astype(bool)[:, None]
            low, high = (
                np.where(right, middle[parents], low[parents]),
                np.where(right, high[parents], middle[parents]),
            )
            nodes = children
        return low, high

    def _ideal(self, times: IntArray) -> tuple[IntArray, IntArray]:
        """Divide times·weights by the period: quotients and remainders, int64 of shape (times, S) each."""
        products = times.astype(np.uint64)[:, None] * self._weights.astype(np.uint64)  # modulo 2^64
        quotients = (times[:, None] * (self._weights / self.period)).astype(np.int64)  # off by few at most
        remainders = (products - quotients.astype(np.uint64) * np.uint64(self.period)).view(np.int64)
        off, remainders = np.divmod(remainders, self.period)
        return quotients + off, remainders

    def _middle(self, level: int, nodes: IntArray, low: IntArray, high: IntArray) -> IntArray:
        """Choose the states in the middle of nodes of one level.

        Args:
            level: At least 1.
            nodes: int64 of shape (nodes,).
            low: States at their beginnings, int64 of shape (nodes, S).
            high: States at their ends.

        Returns:
            int64 of shape (nodes, S); where the middle lies behind the period, the state at its end.
        """
        times = np.minimum((2 * nodes + 1) << (level - 1 + self._leaf_bits), self.period)
        down, rest = self._ideal(times)  # (nodes, S) each; the fractions are rest / period
        left_up = low > down
        right_down = (high == down) & (rest > 0)
        is_open = (rest > 0) & ~left_up & ~right_down
        shift = (left_up * (self.period - rest) - right_down * rest).sum(axis=1)  # (nodes,)
        since_release = np.where(is_open, -(-rest // self._weights), -1)
        by_release = np.argsort(-since_release, axis=1, kind="stable")  # the earliest first, those not open last
        missing = np.where(is_open, self.period - rest, 0)
        allowed = np.cumsum(np.take_along_axis(missing, by_release, axis=1), axis=1) + shift[:, None]
        allowed = np.maximum(-(-allowed // self.period), 0)  # rounded down, among the i earliest releases
        to_deadline = np.where(is_open, -((rest - self.period) // self._weights), -1)
        by_deadline = np.argsort(-to_deadline, axis=1, kind="stable")  # the latest first
        rounded_down = _choose_in_chain(by_deadline, by_release, allowed)
        return np.asarray(down + left_up + (is_open & ~rounded_down))

    def _fill(self, leaves: IntArray) -> tuple[IntArray, IntArray]:
        """Go through leaves position by position, all of them side by side.

        Returns:
            Numbers of streams among those that appear, and samples of that stream before the position, both int64 of
            shape (leaves, positions of a leaf). What lies behind the period means nothing.
        """
        counts, ends = self._leaf_ends(leaves)
        counts = counts.copy()  # (leaves, S)
        down, rest = self._ideal(leaves << self._leaf_bits)
        # A stream's next sample may come from release on and has to come before deadline, from the leaf's start on.
        due = (counts + 1 - down) * self.period - rest
        deadline = -(-due // self._weights)
        release = np.where(counts < ends, (due - self.period) // self._weights, _NEVER)
        rows = np.arange(len(leaves))
        size = 1 << self._leaf_bits
        streams, before = np.empty((2, size, len(leaves)), np.int64)
        for step in range(size):
            chosen = np.where(release <= step, deadline, _NEVER).argmin(axis=1)  # (leaves,)
            place = rows, chosen
            streams[step], before[step] = chosen, counts[place]
            counts[place] += 1
            due[place] += self.period
            weights = self._weights[chosen]
            deadline[place] = -(-due[place] // weights)
            release[place] = np.where(counts[place] < ends[place], (due[place] - self.period) // weights, _NEVER)
        return streams.T, before.T


def _distinct(numbers: IntArray) -> tuple[IntArray, IntArray]:
    """Give the numbers that occur, ascending, and for each of (n,) which of them it is; faster than np.unique."""
    first = int(numbers.min())
    span = int(numbers.max()) - first + 1
    if span > 4 * len(numbers):
        return np.unique(numbers, return_inverse=True)
    occurs = np.zeros(span, np.int64)
    occurs[numbers - first] = 1
    return np.flatnonzero(occurs) + first, (np.cumsum(occurs) - 1)[numbers - first]


def _choose_in_chain(by_preference: IntArray, in_chain: IntArray, allowed: IntArray) -> npt.NDArray[np.bool_]:
    """Choose as many items as a chain of bounds allows, those that are preferred first.

    Args:
        by_preference: Items in the order of preference, int64 of shape (rows, items).
        in_chain: Items in the order of the chain.
        allowed: How many of the first i + 1 items of the chain may be chosen; not falling.

    Returns:
        Whether an item is chosen, bool of shape (rows, items).
    """
    places = np.argsort(in_chain, axis=1)  # of each item in the chain
    left = allowed.copy()
    chosen = np.zeros(by_preference.shape, bool)
    rows, columns = np.arange(len(by_preference)), np.arange(by_preference.shape[1])
    for items in by_preference.T:  # (rows,)
        bounds = columns >= places[rows, items][:, None]  # those that an item counts for
        fits = np.where(bounds, left, 1).min(axis=1) > 0
        chosen[rows, items] = fits
        left -= bounds & fits[:, None]
    return chosen


class Mixing:
    """Which sample of which stream stands at each position of a run whose shares change by a schedule.

    A stream goes on where it stood when the shares change: nothing of it is repeated or left out.

    Args:
        schedule: The shares from each position on.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._starts = np.array(schedule.starts, np.int64)  # (segments,)
        self._segments = [EvenMixing(np.array(weights, np.int64)) for weights in schedule.weights]
        # Of each stream, samples before each segment that was needed so far, int64 of shape (streams,) each.
        self._before = [np.zeros(len(schedule.weights[0]), np.int64)]

    def locate(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        """Tell which streams stand at these positions, and how many samples of its stream each has before it.

        Args:
            positions: Counted from the beginning of the run, not negative; int64 of shape (n,).

        Returns:
            Numbers of streams, and positions within those streams, both int64 of shape (n,).
        """
        streams, counts = np.empty((2, len(positions)), np.int64)
        segments = np.searchsorted(self._starts, positions, side="right") - 1  # (n,)
        for segment in np.unique(segments).tolist():
            own = segments == segment
            found, within = self._segments[segment].locate(positions[own] - self._starts[segment])
            streams[own], counts[own] = found, within + self._counts_before(segment)[found]
        return streams, counts

    def counts_before(self, position: int) -> IntArray:
        """Count the samples of each stream before a position of the run, int64 of shape (streams,)."""
        segment = int(np.searchsorted(self._starts, position, side="right")) - 1
        within = position - int(self._starts[segment])
        return self._counts_before(segment) + self._segments[segment].counts_before(within)

    def positions_of(self, stream: int, counts: IntArray) -> IntArray:
        """Tell where the samples of a stream stand in the run.

        Args:
            stream: Its number.
            counts: Positions within the stream that the run reaches, int64 of shape (n,).

        Returns:
            Positions, int64 of shape (n,).
        """
        before = np.array([self._counts_before(segment)[stream] for segment in range(len(self._segments))])
        segments = np.searchsorted(before, counts, side="right") - 1  # (n,), the last that has not gone past it
        positions = np.empty_like(counts)
        for segment in np.unique(segments).tolist():
            own = segments == segment
            within = self._segments[segment].positions_of(stream, counts[own] - before[segment])
            positions[own] = self._starts[segment] + within
        return positions

    def _counts_before(self, segment: int) -> IntArray:
        while len(self._before) <= segment:
            last = len(self._before) - 1
            length = int(self._starts[last + 1] - self._starts[last])
            self._before.append(self._before[last] + self._segments[last].counts_before(length))
        return self._before[segment]
