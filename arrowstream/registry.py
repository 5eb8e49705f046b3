"""Formats are found by their entry points, and loaded when a dataset first needs them."""

from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from arrowstream.errors import UnknownFormatError
from arrowstream.format import Format

GROUP = "arrowstream.formats"


@cache
def _installed() -> dict[str, list[EntryPoint]]:
    """Find the claims on each name; one package may be seen twice (an editable install beside its build)."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: list(claims.values()) for name, claims in found.items()}


def format_names() -> list[str]:
    """Name the installed formats, sorted."""
    return sorted(_installed())


def formats_of(file_name: str) -> list[Format]:
    """Give the formats that describe files of such a name, those that are read in place first.

    A plugin that does not load is left out.
    """
    return [kind for kind in _describing() if file_name.endswith(kind.suffixes or kind.suffix)]


@cache
def _describing() -> list[Format]:
    found = []
    for name in format_names():
        with suppress(UnknownFormatError):
            found.append(load_format(name))
    return sorted(found, key=lambda kind: not kind.in_place)


@cache
def load_format(name: str) -> Format:
    """Give the format of that name.

    Raises:
        UnknownFormatError: No installed package has it, two claim it, or its package does not load.
    """
    claims = _installed().get(name, [])
    if len(claims) > 1:
        names = " and by ".join(claim.value for claim in claims)
        raise UnknownFormatError(f"the format {name!r} is claimed by {names}; uninstall one of them")
    if not claims:
        names = ", ".join(format_names()) or "none; reinstall arrowstream"
        raise UnknownFormatError(f"no installed format is named {name!r}; installed: {names}")
    [point] = claims
    try:
        kind = point.load()
        if isinstance(kind, type) and issubclass(kind, Format):
            return kind()
    except Exception as error:  # a plugin is foreign code: whatever it raises, say whose it is
        raise UnknownFormatError(f"the format {name!r} ({point.value}) does not load: {error}") from error
    raise UnknownFormatError(f"the format {name!r} ({point.value}) is not a subclass of arrowstream.format.Format")
