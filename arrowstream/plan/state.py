"""Where an epoch stands, as a checkpoint keeps it: a position, and what gave that position its meaning.

The position counts samples over all ranks. So it means the same for any number of nodes, ranks, workers and any batch
size; what it does depend on is written beside it and compared when it is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arrowstream.errors import StateMismatchError

VERSION = 1


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


def write_state(position: Position, plan: Mapping[str, Any], worker: tuple[int, int] | None = None) -> dict[str, Any]:
    """Make what goes into a checkpoint.

    Args:
        position: Where the epoch stands.
        plan: What the order depends on; JSON values.
        worker: Number of the worker that says so, and of the workers, if one does.

    Returns:
        A dictionary that JSON holds. Its first keys are those of mosaicml-streaming.
    """
    state: dict[str, Any] = {
        "epoch": position.epoch,
        "sample_in_epoch": position.sample,
        **plan,
        "version": VERSION,
    }
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
    if not isinstance(epoch, int) or not isinstance(sample, int) or sample < 0:
        raise StateMismatchError(f"this is no state of a dataset: epoch is {epoch!r}, sample_in_epoch is {sample!r}")
    if version not in (None, VERSION):
        raise StateMismatchError(f"the state is of version {version!r}; this release reads version {VERSION}")
    if strict:
        _compare(state, plan)
    said = state.get("worker")
    skipped = 0
    if said is not None:
        if worker is None or worker != (said["number"], said["workers"]):
            raise StateMismatchError(
                f"the state is that of worker {said['number']} of {said['workers']}; a loader that keeps the states of "
                f"its workers has to go on with as many, and a dataset by itself with state_dict(num_samples)"
            )
        skipped = int(said["samples"])
    # mosaicml-streaming says -1 before the first epoch.
    return Position(epoch=max(epoch, 0), sample=sample, skipped=skipped)


def _compare(state: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    if state.get("version") is None:
        return  # mosaicml-streaming's, which says nothing else of its order
    differences = [
        f"{name}: {state.get(name)!r} in the state, {value!r} here"
        for name, value in plan.items()
        if state.get(name) != value and not (name == "mixing" and _agree_so_far(state, value))
    ]
    if differences:
        raise StateMismatchError(
            f"the state belongs to another order ({'; '.join(differences)}); give the dataset what the state says, or "
            f"load_state_dict(state, strict=False) to go on at the same position of this dataset's order"
        )


def _agree_so_far(state: Mapping[str, Any], schedule: Any) -> bool:
    """Tell whether a mixture's shares differ only after the state's position: so a user changes them at a resume."""
    said = state.get("mixing")
    if not isinstance(said, list) or not isinstance(schedule, list) or "worker" in state:
        return False  # a worker does not know how far the others were
    seen = state["epoch"] * state["num_samples"] + state["sample_in_epoch"]
    return [each for each in said if each[0] < seen] == [each for each in schedule if each[0] < seen]
