"""Where an epoch stands, as a checkpoint keeps it: a position, and what gave that position its meaning.

The position counts samples over all ranks. So it means the same for any number of nodes, ranks, workers and any batch
size; what it does depend on is written beside it and compared when it is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arrowstream.errors import StateMismatchError
from arrowstream.plan.skips import Skip

VERSION = 1
# What a state does not say, because it was written before there was a choice.
_UNSAID = {"shuffle_unit": "shard", "tail": "repeat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in the sequence of epochs.

    Attributes:
        epoch: From 0.
        sample: Samples of the epoch that all ranks together have seen.
        skipped: Samples that one worker has seen since ``sample``; only in the state of a loader's worker.
    """

    epoch: int
    sample: int
    skipped: int = 0


def write_state(
    position: Position,
    plan: Mapping[str, Any],
    worker: tuple[int, int] | None = None,
    skipped: Sequence[Skip] = (),
) -> dict[str, Any]:
    """Make what goes into a checkpoint.

    Args:
        position: Where the epoch stands.
        plan: What the order depends on; JSON values.
        worker: Number of the worker that says so, and of the workers, if one does.
        skipped: Runs of positions that epochs leave out; of those that are over, the state says nothing.

    Returns:
        A dictionary that JSON holds. Its first keys are those of mosaicml-streaming.
    """
    state: dict[str, Any] = {
        "epoch": position.epoch,
        "sample_in_epoch": position.sample,
        **plan,
        "version": VERSION,
    }
    to_come = [list(skip) for skip in skipped if skip[0] >= position.epoch]
    if to_come:
        state["skipped"] = to_come
    if worker is not None:
        state["worker"] = {"number": worker[0], "workers": worker[1], "samples": position.skipped}
    return state


def read_state(
    state: Mapping[str, Any], plan: Mapping[str, Any], *, strict: bool, worker: tuple[int, int] | None = None
) -> Position:
    """Read what a checkpoint says.

    Args:
        state: What ``write_state`` made.
        plan: What the order depends on here.
        strict: Whether a difference is an error.
        worker: Number of the worker that reads it, and of the workers, if one does.

    Raises:
        StateMismatchError: The state belongs to another order, or to another worker; or it is no state.
    """
    version = state.get("version")
    epoch, sample = state.get("epoch"), state.get("sample_in_epoch")
    # mosaicml-streaming says -1 before the first epoch.
    if type(epoch) is not int or type(sample) is not int or sample < 0 or epoch < -1:
        raise StateMismatchError(f"this is no state of a dataset: epoch is {epoch!r}, sample_in_epoch is {sample!r}")
    if version not in (None, VERSION):
        raise StateMismatchError(
            f"the state is of version {version!r}; this release reads version {VERSION}: it was written by a later one"
        )
    found = differences(state, plan)
    if found and strict:
        raise StateMismatchError(
            f"the state belongs to another order ({'; '.join(found)}); give the dataset what the state says, or "
            f"load_state_dict(state, strict=False) to go on at the same position of this dataset's order"
        )
    if strict and version is not None and sample > plan.get("num_samples", sample):
        raise StateMismatchError(
            f"the state is at sample {sample} of an epoch that has {plan['num_samples']}: it was changed by hand, or "
            f"num_samples= counted something else than the samples of all ranks; strict=False begins the next epoch"
        )
    said = state.get("worker")
    skipped = 0
    if said is not None:
        if worker is None or worker != (said["number"], said["workers"]):
            raise StateMismatchError(
                f"the state is that of worker {said['number']} of {said['workers']}; a loader that keeps the states of "
                f"its workers has to go on with as many, and a dataset by itself with state_dict(num_samples)"
            )
        skipped = int(said["samples"])
    return Position(epoch=max(epoch, 0), sample=sample, skipped=skipped)


def read_skipped(state: Mapping[str, Any], plan: Mapping[str, Any]) -> tuple[Skip, ...]:
    """Read which positions are left out: none if the state belongs to another order, where they mean other samples.

    Raises:
        StateMismatchError: What the state says is no such thing.
    """
    if differences(state, plan):
        return ()
    skipped = state.get("skipped", [])
    try:
        skips = [(epoch, start, stop) for epoch, start, stop in skipped]
    except (TypeError, ValueError):
        skips = [(-1, 0, 0)]
    for numbers in skips:
        if set(map(type, numbers)) != {int} or not (numbers[0] >= 0 <= numbers[1] < numbers[2]):
            raise StateMismatchError(f"this is no state of a dataset: skipped is {skipped!r}")
    return tuple(skips)


def differences(state: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """List where a state belongs to another order; mosaicml-streaming's says nothing of its order."""
    if state.get("version") is None:
        return []
    return [
        f"{name}: {state.get(name, _UNSAID.get(name))!r} in the state, {value!r} here"
        for name, value in plan.items()
        if state.get(name, _UNSAID.get(name)) != value and not (name == "mixing" and _agree_so_far(state, value))
    ]


def _agree_so_far(state: Mapping[str, Any], schedule: Any) -> bool:
    """Tell whether a mixture's shares differ only after the state's position: so a user changes them at a resume."""
    said = state.get("mixing")
    if not isinstance(said, list) or not isinstance(schedule, list) or "worker" in state:
        return False  # a worker does not know how far the others were
    seen = state["epoch"] * state["num_samples"] + state["sample_in_epoch"]
    return [each for each in said if each[0] < seen] == [each for each in schedule if each[0] < seen]
