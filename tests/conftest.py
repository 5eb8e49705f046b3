"""Fixtures for all tests, and a check that what is installed is what is here."""

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.servers import s3

__all__ = ["s3"]


def pytest_configure() -> None:
    """Stop early when formats were added or renamed since the installation: entry points are read from that."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    declared = project["entry-points"]["arrowstream.formats"]
    installed = {point.name: point.value for point in entry_points(group="arrowstream.formats")}
    if not declared.items() <= installed.items():
        pytest.exit(f"the installed formats are {installed}, pyproject.toml has {declared}; run: pip install -e .", 4)
