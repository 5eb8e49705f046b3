"""Sizes and counts as people write them: ``"64mb"``, ``"100k"``."""

import re

_BYTES = {unit: 1024**power for power, unit in enumerate(["b", "kb", "mb", "gb", "tb", "pb", "eb", "zb", "yb"])}
_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_bytes(size: int | str) -> int:
    """Read a number of bytes; units are powers of 1024, as mosaicml-streaming has them.

    Raises:
        ValueError: The text is no size, or the size is negative.
    """
    return _parse(size, _BYTES, "a size like 67108864, '64mb' or '1.5gb'")


def parse_count(count: int | str) -> int:
    """Read a number of samples; units are powers of 1000: ``"100k"``, ``"64m"``, ``"77b"``, ``"2t"``.

    Raises:
        ValueError: The text is no count, or the count is negative.
    """
    return _parse(count, _COUNTS, "a count like 100000, '100k' or '1.5m'")


def format_bytes(num_bytes: float) -> str:
    """Write a number of bytes for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


def _parse(quantity: int | str, units: dict[str, int], expected: str) -> int:
    if isinstance(quantity, int) and not isinstance(quantity, bool):
        number = quantity
    else:
        match = _QUANTITY.fullmatch(quantity) if isinstance(quantity, str) else None
        unit = match.group(2).lower() if match else ""
        if match is None or (unit and unit not in units):
            raise ValueError(f"{quantity!r} is not {expected}")
        number = int(float(match.group(1)) * units.get(unit, 1))
    if number < 0:
        raise ValueError(f"{quantity!r} is negative; expected {expected}")
    return number
