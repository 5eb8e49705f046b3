"""Formats are found by their entry points, and loaded when a dataset first needs them."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from arrowstream.errors import UnknownFormatError
from arrowstream.format import Format

GROUP = "arrowstream.formats"


@cache
def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.get(point.name)
        # The same package may be seen twice (an editable install beside its build); two packages may not.
        if other is not None and other.value != point.value:
            raise UnknownFormatError(
                f"the format {point.name!r} is claimed by {other.value} and by {point.value}; uninstall one of them"
            )
        found[point.name] = point
    return found


def format_names() -> list[str]:
    """Name the installed formats, sorted."""
    return sorted(_installed())


@cache
def load_format(name: str) -> Format:
    """Give the format of that name.

    Raises:
        UnknownFormatError: No installed package has it, two claim it, or its package does not load.
    """
    point = _installed().get(name)
    if point is None:
        names = ", ".join(format_names()) or "none; reinstall arrowstream"
        raise UnknownFormatError(f"no installed format is named {name!r}; installed: {names}")
    try:
        kind = point.load()
        if isinstance(kind, type) and issubclass(kind, Format):
            return kind()
    except Exception as error:  # a plugin is foreign code: whatever it raises, say whose it is
        raise UnknownFormatError(f"the format {name!r} ({point.value}) does not load: {error}") from error
    raise UnknownFormatError(f"the format {name!r} ({point.value}) is not a subclass of arrowstream.format.Format")
