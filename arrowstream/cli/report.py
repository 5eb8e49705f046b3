"""What a command says: titled facts and tables, printed for people or as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of a command.

    Attributes:
        facts: Single values by name; JSON values.
        tables: Rows by title; every row of a table has the same keys.
        exit_code: 0, or 1 where the command looked for faults and found some.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    exit_code: int = 0

    def to_json(self) -> str:
        """Give the report as one JSON object."""
        return json.dumps({**self.facts, **{title: list(rows) for title, rows in self.tables.items()}}, indent=2)

    def to_text(self) -> str:
        """Give the report as aligned text."""
        blocks = []
        if self.facts:
            width = max(len(name) for name in self.facts)
            blocks.append("\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in self.facts.items()))
        blocks += [_table(title, rows) for title, rows in self.tables.items()]
        return "\n\n".join(blocks)


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return f"{title}: none"
    names = list(rows[0])
    cells = [names, *[[_shown(row[name]) for name in names] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    numeric = [all(isinstance(row[name], int | float) for row in rows) for name in names]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
