"""Tables of medians and ratios, from the answers of all rounds. Plain text; nothing here measures."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.tasks import TASKS, Measured

#: Whose lines need no column of ratios.
OURS = "arrowstream"
_BUSY_LOAD = 0.5
_NOISY_SPREAD = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One line of a table: a peer in one of its ways."""

    peer: str
    way: str

    def __str__(self) -> str:
        return f"{self.peer} ({self.way})" if self.way else self.peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The answers of one entrant, round by round; ``error`` if it failed."""

    entrant: Entrant
    answers: Sequence[Measured]
    error: str | None = None

    def values(self, metric: str) -> list[float]:
        return [float(answer[metric]) for answer in self.answers]


def machine() -> dict[str, object]:
    """What the reader has to know of the machine, without its name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": cores,
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def machine_text(facts: Mapping[str, object], versions: Mapping[str, Mapping[str, str]]) -> str:
    """The machine, the versions of each peer, and a warning if other work was going on."""
    lines = [f"{facts['system']} {facts['machine']}, {facts['cores']} cores, Python {facts['python']}"]
    for peer, found in versions.items():
        lines.append(f"  {peer}: " + ", ".join(f"{name} {version}" for name, version in found.items()))
    load = facts["load_at_start"]
    if load is not None and load > _BUSY_LOAD:
        lines.append(f"NOTE: the load average was {load} at the start. Other work was going on: do not cite these.")
    return "\n".join(lines)


def table_text(task: str, variant: str, series: Sequence[Series], setting: str) -> str:
    """One table; figures are withheld where only one entrant has any."""
    spec = TASKS[task]
    title = f"{task}{f' [{variant}]' if variant else ''}: {spec.summary}"
    better = "higher is better" if spec.higher_is_better else "lower is better"
    lines = [title, f"{setting}; {spec.unit}, {better}"]
    ran = [entry for entry in series if entry.answers]
    if len(ran) > 1:
        references = [
            _best(task, ran, peer) for peer in dict.fromkeys(entry.entrant.peer for entry in ran) if peer != OURS
        ]
        header = ["", "median", "lowest", "highest", *(f"× {each.entrant.peer}" for each in references), *spec.extras]
        lines += _aligned([header, *(_line(entry, task, references) for entry in ran)])
        if any(_spread(entry.values(spec.metric)) > _NOISY_SPREAD for entry in ran):
            lines.append(f"  ~ the rounds differ by more than {_NOISY_SPREAD:.0%} of the median")
    elif ran:
        lines.append(f"  only {ran[0].entrant} ran: nothing to compare with, so no figures")
    lines += [f"  {entry.entrant} FAILED: {entry.error}" for entry in series if entry.error]
    return "\n".join(lines)


def ratio(task: str, ours: Series, theirs: Series) -> float:
    """How many times as fast ``ours`` is: the median of the ratios of rounds that stood side by side."""
    spec = TASKS[task]
    pairs = zip(ours.values(spec.metric), theirs.values(spec.metric), strict=False)
    return statistics.median(a / b if spec.higher_is_better else b / a for a, b in pairs)


def _best(task: str, series: Sequence[Series], peer: str) -> Series:
    """A peer in its fastest way."""
    spec = TASKS[task]
    of_peer = [entry for entry in series if entry.entrant.peer == peer]
    choose = max if spec.higher_is_better else min
    return choose(of_peer, key=lambda entry: statistics.median(entry.values(spec.metric)))


def _line(entry: Series, task: str, references: Sequence[Series]) -> list[str]:
    spec = TASKS[task]
    values = entry.values(spec.metric)
    mark = " ~" if _spread(values) > _NOISY_SPREAD else ""
    return [
        f"{entry.entrant}{mark}",
        *(_number(value) for value in (statistics.median(values), min(values), max(values))),
        *(_ratio(ratio(task, entry, other)) for other in references),
        *(_extra([answer[key] for answer in entry.answers]) for key in spec.extras),
    ]


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)


def _extra(values: Sequence[object]) -> str:
    if isinstance(values[0], bool):
        return "yes" if values[0] else "no"
    return _number(statistics.median(values))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(["", row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
