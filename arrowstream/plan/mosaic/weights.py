"""How much of each stream an epoch has, as mosaicml-streaming counts it.

Streams are weighted relatively (``proportion``, all of them) or absolutely (``repeat``, ``choose``, or nothing for one
pass), and the other two follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What the user says about one stream: at most one of the three.

    Attributes:
        proportion: Share of the epoch, relative to the other streams'.
        repeat: Passes through the stream.
        choose: Samples of the stream.

    Raises:
        ValueError: More than one is given, or one is negative.
    """

    proportion: float | None = None
    repeat: float | None = None
    choose: int | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("proportion", "repeat", "choose")}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) > 1:
            raise ValueError(
                "At most one of `proportion`, `repeat`, and `choose` may be specified; the others are derived"
            )
        for name, value in given.items():
            if not value >= 0:
                raise ValueError(f"`{name}` must be non-negative")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """What that means for an epoch.

    Attributes:
        proportion: Share of each stream in the epoch, float64 of shape (streams,).
        repeat: Passes through each stream, float64 of shape (streams,).
        choose: Samples of each stream, int64 of shape (streams,).
        epoch_size: Samples of the epoch.
    """

    proportion: FloatArray
    repeat: FloatArray
    choose: IntArray
    epoch_size: int


def apply_weights(
    weights: Sequence[Weight], samples_per_stream: IntArray, epoch_size: int | None, seed: int
) -> Mixture:
    """Work out how many samples of each stream an epoch has.

    Args:
        weights: Of each stream, at least one.
        samples_per_stream: int64 of shape (streams,).
        epoch_size: Samples of the epoch; None or 0 means as many as there are. Only for relative weights or none.
        seed: Decides which streams give one sample more where shares are not whole.

    Returns:
        The mixture of every epoch.

    Raises:
        ValueError: Relative and absolute weights are mixed, or the epoch would have a size that does not go with them.
    """
    if not weights or len(weights) != len(samples_per_stream):
        raise ValueError(f"there are {len(weights)} weights for {len(samples_per_stream)} streams")
    is_relative = weights[0].proportion is not None
    for stream, weight in enumerate(weights):
        if (weight.proportion is not None) != is_relative:
            raise ValueError(
                "Relative (`proportion`) and absolute (`repeat`, `choose`, none) stream weights are incompatible with"
                f" each other (error in stream {stream})"
            )
    if epoch_size is not None and epoch_size < 0:
        raise ValueError(f"epoch_size is {epoch_size}, expected at least 0")
    is_unspecified = all(weight.repeat is None and weight.choose is None for weight in weights)
    if is_relative:
        shares = np.array([weight.proportion for weight in weights], np.float64)
        return _relative(shares, samples_per_stream, epoch_size or int(samples_per_stream.sum()), seed)
    if epoch_size and is_unspecified:
        return _relative(samples_per_stream.astype(np.float64), samples_per_stream, epoch_size, seed)
    if epoch_size:
        raise ValueError("Only provide `choose` when weighting streams relatively")
    counts = zip(weights, samples_per_stream.tolist(), strict=True)
    choose = np.array([_absolute(weight, num_samples) for weight, num_samples in counts], np.int64)
    return _mixture(choose / max(int(choose.sum()), 1), choose, samples_per_stream)


def _relative(shares: FloatArray, samples_per_stream: IntArray, epoch_size: int, seed: int) -> Mixture:
    if not shares.sum() > 0:
        raise ValueError(f"the streams' shares are {shares.tolist()}, expected at least one above 0")
    proportion = shares / shares.sum()
    choose = (epoch_size * proportion).astype(np.int64)
    shortfall = epoch_size - int(choose.sum())
    choose[np.random.default_rng(seed).choice(len(choose), shortfall, replace=False)] += 1
    return _mixture(proportion, choose, samples_per_stream)


def _absolute(weight: Weight, num_samples: int) -> int:
    if weight.repeat is not None:
        return int(weight.repeat * num_samples)
    return num_samples if weight.choose is None else weight.choose


def _mixture(proportion: FloatArray, choose: IntArray, samples_per_stream: IntArray) -> Mixture:
    if (choose > 0)[samples_per_stream == 0].any():
        raise ValueError(f"samples are to be chosen ({choose.tolist()}) of a stream without any ({samples_per_stream})")
    repeat = choose / np.maximum(samples_per_stream, 1)
    return Mixture(proportion=proportion, repeat=repeat, choose=choose, epoch_size=int(choose.sum()))
