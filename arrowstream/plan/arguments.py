"""From the arguments of a dataset to its plan."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from arrowstream.plan.epoch_plan import EpochPlan, WindowedPlan
from arrowstream.plan.laid_out import LaidOutPlan
from arrowstream.plan.mixed_plan import check_mixing, mix_evenly
from arrowstream.plan.mosaic.plan import MosaicPlan
from arrowstream.plan.mosaic.weights import Weight
from arrowstream.plan.order import DEFAULT_BLOCK_SIZE
from arrowstream.plan.partition import TAILS, Tail
from arrowstream.plan.schedule import Schedule
from arrowstream.plan.window import SHUFFLE_UNITS, Shards, ShuffleUnit, choose_window
from arrowstream.world import World

IntArray = npt.NDArray[np.int64]


class OrderArguments(Protocol):
    """What a dataset was told of its order, under the names of its arguments, which say what they mean."""

    batch_size: int | None
    predownload: int
    shuffle: bool
    shuffle_seed: int
    shuffle_block_size: int | None
    shuffle_algo: str | None
    shuffle_unit: ShuffleUnit | None
    shuffle_budget: int | None
    num_canonical_nodes: int | None
    epoch_size: int | None
    sampling_method: str
    sampling_granularity: int
    partition_algo: str
    batching_method: str
    replication: int | None
    tail: Tail
    rank: int | None
    world_size: int | None
    mixing: str | None
    mixing_schedule: Schedule | None


def check_arguments(told: OrderArguments, weights: Sequence[Weight]) -> None:
    """Refuse what no data could make good.

    Args:
        told: What the dataset was told.
        weights: Of each stream.

    Raises:
        ValueError: A value is unknown or out of range, or two contradict each other.
    """
    for name in ("batch_size", "shuffle_block_size", "predownload", "num_canonical_nodes"):
        _check_at_least(1, name, getattr(told, name))
    _check_at_least(0, "shuffle_seed", told.shuffle_seed)
    if (told.rank is None) != (told.world_size is None):
        raise ValueError(f"rank is {told.rank} and world_size is {told.world_size}; give both or neither")
    if told.rank is not None and told.world_size is not None:
        World().regrouped(told.rank, told.world_size)
    if told.tail not in TAILS:
        raise ValueError(f"tail is {told.tail!r}, expected one of {', '.join(map(repr, TAILS))}")
    if told.shuffle_unit not in (None, *SHUFFLE_UNITS):
        raise ValueError(
            f"shuffle_unit is {told.shuffle_unit!r}, expected one of {', '.join(map(repr, SHUFFLE_UNITS))}"
        )
    if told.shuffle_budget is not None and told.shuffle_block_size is not None:
        raise ValueError("shuffle_budget chooses the shuffle_block_size; give one of the two")
    if told.mixing is not None:
        check_mixing(
            told.mixing,
            weights,
            told.mixing_schedule,
            shuffle_algo=(told.shuffle_algo, None),
            batching_method=(told.batching_method, "random"),
            sampling_method=(told.sampling_method, "balanced"),
            sampling_granularity=(told.sampling_granularity, 1),
            partition_algo=(told.partition_algo, "relaxed"),
            shuffle_unit=(told.shuffle_unit, None),
            shuffle_budget=(told.shuffle_budget, None),
        )


def choose_plan(
    told: OrderArguments,
    weights: Sequence[Weight],
    samples_per_shard: Sequence[IntArray],
    shards: Shards,
) -> EpochPlan:
    """Give arrowstream's own order where it can be had, and mosaicml-streaming's where that is asked for.

    Args:
        told: What the dataset was told.
        weights: Of each stream.
        samples_per_shard: Of each stream, int64 of shape (shards of the stream,).
        shards: Of all streams.

    Raises:
        ValueError: A value is out of range or unknown, arguments contradict each other, or a batch size is missing.
    """
    if told.mixing is not None:
        return mix_evenly(
            samples_per_shard,
            weights,
            schedule=told.mixing_schedule,
            epoch_size=told.epoch_size,
            batch_size=told.batch_size,
            tail=told.tail,
            replication=told.replication,
            shuffle=told.shuffle,
            seed=told.shuffle_seed,
            block_size=told.shuffle_block_size or DEFAULT_BLOCK_SIZE,
            num_canonical_nodes=told.num_canonical_nodes,
        )
    mixes = told.epoch_size is not None or any(weight != Weight() for weight in weights)
    if told.shuffle_algo is None and not mixes and told.batching_method == "random":
        return _windowed(told, shards)
    for name, default in {"tail": "repeat", "shuffle_unit": None, "shuffle_budget": None}.items():
        if getattr(told, name) != default:
            raise ValueError(
                f"{name}={getattr(told, name)!r} is not for the orders of mosaicml-streaming, which shuffle_algo, "
                f"weights of streams, epoch_size or a batching_method ask for"
            )
    if told.batch_size is None:
        raise ValueError("Please pass `batch_size`: the order that was asked for deals out batches.")
    plan = MosaicPlan(
        samples_per_shard=samples_per_shard,
        weights=weights,
        batch_size=told.batch_size,
        epoch_size=told.epoch_size,
        sampling_method=told.sampling_method,
        sampling_granularity=told.sampling_granularity,
        partition_algo=told.partition_algo,
        num_canonical_nodes=told.num_canonical_nodes,
        shuffle=told.shuffle,
        shuffle_algo=told.shuffle_algo or "py1e",
        shuffle_block_size=told.shuffle_block_size,
        seed=told.shuffle_seed,
        batching_method=told.batching_method,
        replication=told.replication,
    )
    return LaidOutPlan(plan=plan)


def _windowed(told: OrderArguments, shards: Shards) -> WindowedPlan:
    window = choose_window(
        shards,
        unit=told.shuffle_unit,
        block_size=told.shuffle_block_size,
        budget=told.shuffle_budget,
        canonical_nodes=told.num_canonical_nodes or (None if told.shuffle else 1),
    )
    return WindowedPlan(
        shards=shards,
        batch_size=told.batch_size,
        shuffle=told.shuffle,
        seed=told.shuffle_seed,
        window=window,
        tail=told.tail,
        replication=told.replication,
    )


def _check_at_least(least: int, name: str, number: int | None) -> None:
    if number is not None and number < least:
        raise ValueError(f"{name} is {number}; expected at least {least}")
