"""The five shuffles of mosaicml-streaming, bit for bit.

Each takes the sizes of the shuffle units (a shard, or what was drawn of it) and gives the sample that stands at each
position. What is drawn from which generator, and in what sequence, is the promise: a draw more or less and every later
sample is another one. ``seed`` alone decides what canonical nodes are made of; ``seed + epoch`` decides the rest.

All of them take time and memory in proportion to the number of samples.
"""

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
#: (unit sizes, canonical nodes, seed, epoch, block size) -> permutation.
Shuffle = Callable[[IntArray, int, int, int, int], IntArray]

#: The block size of a shuffle that is called without one.
BLOCK_SIZE = 1 << 18

_BLOCK_TOO_SMALL = (
    "Shuffle block size was smaller than shard size for some shards. This will result in these shards not being"
    " shuffled with other shards. Set shuffle_block_size to a larger value for a higher quality shuffle."
)


def naive(
    shard_sizes: IntArray, num_canonical_nodes: int, seed: int, epoch: int, block_size: int = BLOCK_SIZE
) -> IntArray:
    """Shuffle all samples with each other, whatever shard they are in.

    Args:
        shard_sizes: Samples of each shuffle unit, int64 of shape (units,).
        num_canonical_nodes: Without effect.
        seed: Not negative, as ``seed + epoch``.
        epoch: Counted from 0.
        block_size: Without effect.

    Returns:
        Samples in the order of the epoch, int64 of shape (samples,).
    """
    del num_canonical_nodes, block_size
    return np.random.default_rng(seed + epoch).permutation(int(np.sum(shard_sizes)))


def py1s(
    shard_sizes: IntArray, num_canonical_nodes: int, seed: int, epoch: int, block_size: int = BLOCK_SIZE
) -> IntArray:
    """Permute the units, then the samples within each part of a unit.

    Args and returns as :func:`naive`, and ``num_canonical_nodes`` parts of the data stay apart.
    """
    del block_size
    nodes, generator = _spans_of_nodes(shard_sizes, num_canonical_nodes, seed, epoch)
    return _lay_out(np.concatenate(nodes), generator)


def py1br(
    shard_sizes: IntArray, num_canonical_nodes: int, seed: int, epoch: int, block_size: int = BLOCK_SIZE
) -> IntArray:
    """Permute the units, then the samples within blocks of about ``block_size``, staggered between nodes.

    Args and returns as :func:`py1s`.

    Raises:
        ValueError: The block size is too small to vary.
    """
    nodes, generator = _spans_of_nodes(shard_sizes, num_canonical_nodes, seed, epoch)
    shortest, longest = int(0.75 * block_size), int(1.25 * block_size)
    staggers = generator.integers(0, shortest, (num_canonical_nodes,))
    ids = _lay_out(np.concatenate(nodes))
    node_start = 0
    for spans, stagger in zip(nodes, staggers.tolist(), strict=True):
        node_stop = node_start + int((spans[:, 1] - spans[:, 0]).sum())
        blocks = []
        end = node_start
        while end < node_stop:
            length = int(generator.integers(shortest, longest))
            start = max(end - stagger, node_start)
            stop = min(end + length - stagger, node_stop)
            blocks.append((start, stop))
            end += stop - start
        for start, stop in blocks:
            generator.shuffle(ids[start:stop])
        node_start = node_stop
    return ids


def py1e(
    shard_sizes: IntArray, num_canonical_nodes: int, seed: int, epoch: int, block_size: int = BLOCK_SIZE
) -> IntArray:
    """Permute the units, then move each sample by a random distance within about ``block_size``.

    Args and returns as :func:`py1s`.

    Raises:
        ValueError: A canonical node has no samples.
    """
    nodes, generator = _spans_of_nodes(shard_sizes, num_canonical_nodes, seed, epoch)
    shortest, longest = int(0.75 * block_size), int(1.25 * block_size)
    shuffled = np.empty(int(np.sum(shard_sizes)), np.int64)
    node_start = 0
    too_small = False
    for spans in nodes:
        ids = _lay_out(spans, generator)
        if not len(ids):
            raise ValueError(
                "The number of samples assigned to a canonical node is 0. This very likely indicates that the number"
                " of samples in this stream is less than the number of canonical nodes, which is"
                f" {num_canonical_nodes}. Please check your index.json file and ensure that your dataset has been"
                " written out correctly. If this was intended, reduce num_canonical_nodes."
            )
        places, all_fit = _disturbed_places(spans, generator, shortest, longest)
        too_small = too_small or not all_fit
        # Equal places are possible beyond 10^8 samples only; which of the two comes first is then the processor's
        # choice, here as in mosaic: NumPy has a sort for each instruction set.
        np.take(ids, np.argsort(places), out=shuffled[node_start : node_start + len(ids)], mode="clip")
        node_start += len(ids)
    if too_small:
        warnings.warn(_BLOCK_TOO_SMALL, stacklevel=2)
    return shuffled


def py2s(
    shard_sizes: IntArray, num_canonical_nodes: int, seed: int, epoch: int, block_size: int = BLOCK_SIZE
) -> IntArray:
    """Permute the units and the samples within them, cut that into nodes, and do both again within each node.

    Args and returns as :func:`py1s`.
    """
    del block_size
    spans = _spans(shard_sizes)
    fixed = np.random.default_rng(seed)
    fixed.shuffle(spans)
    ids = _lay_out(spans, fixed)
    sizes = spans[:, 1] - spans[:, 0]
    stops = np.cumsum(sizes)
    generator = np.random.default_rng(seed + epoch)
    nodes = _cut(np.stack([stops - sizes, stops], axis=1), num_canonical_nodes)
    parts = []
    for places in nodes:
        generator.shuffle(places)
        for start, stop in places.tolist():
            part = ids[start:stop]
            generator.shuffle(part)
            parts.append(part)
    return np.concatenate([ids[:0], *parts])


def _spans(sizes: IntArray) -> IntArray:
    stops = np.cumsum(sizes, dtype=np.int64)
    return np.stack([stops - sizes, stops], axis=1)  # (units, 2), [start, stop) of each


def _spans_of_nodes(
    sizes: IntArray, num_canonical_nodes: int, seed: int, epoch: int
) -> tuple[list[IntArray], np.random.Generator]:
    """Shuffle the units, cut them into nodes and shuffle the spans of each node: how three of the five begin."""
    spans = _spans(sizes)
    np.random.default_rng(seed).shuffle(spans)
    nodes = _cut(spans, num_canonical_nodes)
    generator = np.random.default_rng(seed + epoch)
    for node in nodes:
        generator.shuffle(node)
    return nodes, generator


def _cut(spans: IntArray, num_parts: int) -> list[IntArray]:
    """Cut spans into parts of equal length, dividing those that lie across a border; an empty one ends a part."""
    sizes = spans[:, 1] - spans[:, 0]
    stops = np.cumsum(sizes)
    num_samples = int(sizes.sum())
    parts = []
    next_span = 0
    for part in range(num_parts):
        begin, end = num_samples * part // num_parts, num_samples * (part + 1) // num_parts
        whole = int(np.searchsorted(stops, end, side="right"))  # spans that end in this part or before
        divided = begin < end and whole < len(spans) and stops[whole] - sizes[whole] < end
        own = spans[next_span : whole + divided].copy()
        if begin < end:
            own[0, 0] += max(begin - (stops[next_span] - sizes[next_span]), 0)
        if divided:
            own[-1, 1] -= stops[whole] - end
        parts.append(own)
        next_span = whole
    return parts


def _lay_out(spans: IntArray, generator: np.random.Generator | None = None) -> IntArray:
    """Write out the samples of spans in sequence, each span shuffled in itself if there is a generator."""
    ids = np.empty(int((spans[:, 1] - spans[:, 0]).sum()), np.int64)
    place = 0
    for start, stop in spans.tolist():
        own = ids[place : place + stop - start]
        own[:] = np.arange(start, stop)
        if generator is not None:
            generator.shuffle(own)
        place += stop - start
    return ids


def _disturbed_places(
    spans: IntArray, generator: np.random.Generator, shortest: int, longest: int
) -> tuple[npt.NDArray[np.float64], bool]:
    """Move each sample's place within its node at random; tell also whether the blocks were larger than all spans."""
    sizes = (spans[:, 1] - spans[:, 0]).tolist()
    places = np.arange(sum(sizes), dtype=np.float64)
    start, all_fit = 0, True
    for size in sizes:
        stop = start + size
        reach = (int(generator.integers(shortest, longest)) - size) / 2
        all_fit = all_fit and reach >= 0
        reach = max(reach, 0.0)
        places[start:stop] += generator.uniform(max(-reach, -start), min(reach, len(places) - stop), size=size)
        start = stop
    return places, all_fit


#: By the name that ``shuffle_algo`` takes.
SHUFFLES: Mapping[str, Shuffle] = MappingProxyType(
    {"py1br": py1br, "py1e": py1e, "py1s": py1s, "py2s": py2s, "naive": naive}
)
