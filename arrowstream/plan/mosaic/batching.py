"""How the batches of an epoch are made up of streams: the four methods of mosaicml-streaming.

Each gives the sample ids of the whole job, int64 of shape (nodes, ranks, workers, batches, batch size), with -1 where a
batch has none. A *step* is what all ranks train on at once. The methods cost time and memory in proportion to the
number of samples.
"""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from arrowstream.plan.mosaic.epoch import Epoch
from arrowstream.plan.mosaic.partition import dealt, training_order
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]
#: (epoch, job, samples of the epoch that were read before) -> sample ids.
Batching = Callable[[Epoch, World, int], IntArray]

_log = logging.getLogger(__name__)
_LEFT_OUT = (
    "Because of the `%s` batching method, some batches with an inadequate number of samples from stream with index %d"
    " will be dropped."
)


def random(epoch: Epoch, world: World, sample_in_epoch: int) -> IntArray:
    """Shuffle the samples of all streams with each other.

    Args:
        epoch: What is read.
        world: The job that reads it.
        sample_in_epoch: Samples that the job has read of the epoch.

    Returns:
        Sample ids, -1 for none, int64 of shape (nodes, ranks, workers, batches, batch size).

    Raises:
        ValueError: The partition or the shuffle does not go with the job.
    """
    order = epoch.order()
    positions = epoch.partition(len(order), world, epoch.batch_size, drop_first=sample_in_epoch)
    samples = order[positions]
    samples[positions < 0] = -1
    return samples


def stratified(epoch: Epoch, world: World, sample_in_epoch: int) -> IntArray:
    """Give each step the same share of every stream; the epoch ends with the stream that ends first.

    Args and returns as :func:`random`; of a step that was begun, all samples come again.

    Raises:
        ValueError: A step is too small to have a sample of every stream, or as :func:`random`.
    """
    step = world.num_ranks * epoch.batch_size
    if sample_in_epoch % step:
        warnings.warn(
            "Because of the `stratified` batching method, resumption may only occur on a sample that is a multiple of"
            f" the current global batch size of {step}. Resuming training after the most recently finished global"
            f" batch. Set {step} to the original value for deterministic resumption.",
            stacklevel=3,
        )
    portions = _portions(epoch, step)
    strata = []
    for stream, portion in enumerate(portions.tolist()):
        order = epoch.order(stream)
        positions = training_order(epoch.partition(len(order), World(ranks_per_node=world.ranks_per_node), 1))
        in_full_steps = len(positions) // portion * portion
        strata.append(order[positions[:in_full_steps]].reshape(-1, portion))  # (steps, portion)
    steps = min(len(stratum) for stratum in strata)
    batches = np.concatenate([stratum[:steps] for stratum in strata], axis=1)  # (steps, samples of a step)
    return _dealt_steps(batches[sample_in_epoch // step :], world, epoch.batch_size)


def per_stream(epoch: Epoch, world: World, sample_in_epoch: int) -> IntArray:
    """Make each step of one stream; what does not fill a step is left out.

    Args and returns as :func:`random`; of a step that was begun, all samples come again.

    Raises:
        ValueError: A stream does not fill a step, or as :func:`random`.
    """
    step = world.num_ranks * epoch.batch_size
    steps = []
    for stream in range(epoch.num_streams):
        order = epoch.order(stream)
        positions = training_order(epoch.partition(len(order), world, epoch.batch_size)).reshape(-1, step)
        full = positions[(positions >= 0).all(axis=1)]  # (steps, samples of a step)
        if not len(full):
            raise ValueError(
                f"Stream with index {stream} does not have an adequate number of samples to construct a complete global"
                " batch. Training will occur without any samples from this stream."
            )
        if len(full) < len(positions):
            _log.warning(_LEFT_OUT, "per_stream", stream)
        steps.append(order[full])
    stream_of_step = np.repeat(np.arange(len(steps)), [len(of_stream) for of_stream in steps])
    np.random.default_rng(epoch.stream_order_seed).shuffle(stream_of_step)
    batches = _interleaved(steps, stream_of_step)
    return _dealt_steps(batches[sample_in_epoch // step :], world, epoch.batch_size)


def device_per_stream(epoch: Epoch, world: World, sample_in_epoch: int) -> IntArray:
    """Make each rank's batch of one stream; what does not fill a batch is left out.

    Args and returns as :func:`random`; of a step that was begun, all samples come again.

    Raises:
        ValueError: The nodes of the job do not divide the canonical ones, a stream does not fill a batch, or as
            :func:`random`.
    """
    if epoch.num_canonical_nodes % world.num_nodes:
        raise ValueError(
            "For `device_per_stream` batching, num_canonical_nodes must be divisible by physical nodes. Got"
            f" {epoch.num_canonical_nodes} canonical nodes and {world.num_nodes} physical nodes."
        )
    batches = [_device_batches(epoch, world, stream) for stream in range(epoch.num_streams)]
    generator = np.random.default_rng(epoch.stream_order_seed)
    nodes = []
    for of_node in zip(*batches, strict=True):
        stream_of_batch = np.repeat(np.arange(epoch.num_streams), [len(of_stream) for of_stream in of_node])
        generator.shuffle(stream_of_batch)
        interleaved = _interleaved(of_node, stream_of_batch)
        missing = world.num_ranks - len(interleaved) % world.num_ranks
        nodes.append(np.pad(interleaved, ((0, missing), (0, 0)), constant_values=-1))
    # A batch of each node in turn, which then are dealt out node by node: with several ranks a node's batches do not
    # stay with it. So it is in mosaic.
    steps = np.stack(nodes, axis=1).reshape(-1, world.num_ranks * epoch.batch_size)  # (steps, samples of a step)
    return _dealt_steps(steps[sample_in_epoch // (world.num_ranks * epoch.batch_size) :], world, epoch.batch_size)


def _device_batches(epoch: Epoch, world: World, stream: int) -> list[IntArray]:
    """Make the batches of one stream for each node: int64 of shape (batches, batch size), from its canonical nodes."""
    share = float(epoch.mixture.proportion[stream])
    if epoch.shuffle and not int(epoch.shuffle_block_size * share):
        raise ValueError(
            f"Samples from stream {stream} are not being used. Please either increase the `shuffle_block_size` from"
            f" {epoch.shuffle_block_size}, or increase the stream proportion from {share}."
        )
    order = epoch.order(stream)
    canonical = World(num_nodes=epoch.num_canonical_nodes, ranks_per_node=world.ranks_per_node)
    positions = epoch.partition(len(order), canonical, 1)  # (canonical nodes, ranks, 1, per rank, 1)
    nodes = [training_order(of_node) for of_node in np.split(positions, world.num_nodes)]
    full = len(nodes[0]) // epoch.batch_size
    if not full:
        raise ValueError(
            f"Stream with index {stream} does not have an adequate number of samples to construct even a single"
            f" device batch of size {epoch.batch_size}. Training will occur without any samples from this stream!"
        )
    if full * epoch.batch_size < len(nodes[0]):
        _log.warning(_LEFT_OUT, "device_per_stream", stream)
    return [order[of_node[: full * epoch.batch_size]].reshape(full, epoch.batch_size) for of_node in nodes]


def _portions(epoch: Epoch, step: int) -> IntArray:
    exact = epoch.mixture.proportion * step
    portions: IntArray = exact.astype(np.int64)
    left_over = step - int(portions.sum())
    # Among equal remainders mosaic's choice is that of NumPy's unstable sort, which the processor has a say in.
    portions[np.argsort(exact - portions)[len(portions) - left_over :]] += 1
    for stream in np.flatnonzero(portions == 0).tolist():
        raise ValueError(
            f"Number of samples for stream {stream} is 0 because the portion of this stream in the global batch, which"
            f" is of size {step}, is too low. Please increase the global batch size or increase the proportion of total"
            f" samples that come from stream {stream}."
        )
    return portions


def _interleaved(batches: Sequence[IntArray], stream_of_batch: IntArray) -> IntArray:
    """Put batches of several streams in sequence, each stream's in its own."""
    everything = np.concatenate(batches)  # (batches, samples of a batch), stream by stream
    sequence = np.empty_like(everything)
    sequence[np.argsort(stream_of_batch, kind="stable")] = everything
    return sequence


def _dealt_steps(steps: IntArray, world: World, batch_size: int) -> IntArray:
    missing = -len(steps) % world.workers_per_rank
    padded = np.pad(steps, ((0, missing), (0, 0)), constant_values=-1)
    return dealt(padded.reshape(-1), world, batch_size)


#: By the name that ``batching_method`` takes.
BATCHINGS: Mapping[str, Batching] = MappingProxyType(
    {"random": random, "stratified": stratified, "per_stream": per_stream, "device_per_stream": device_per_stream}
)
