"""Fixtures for all tests, and a check that what is installed is what is here."""

import os
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import hypothesis
import pytest

from tests.servers import s3

__all__ = ["s3"]

# The same examples on every run, and no deadlines; HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_configure() -> None:
    """Stop early when formats were added or renamed since the installation: entry points are read from that."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    declared = project["entry-points"]["arrowstream.formats"]
    installed = {point.name: point.value for point in entry_points(group="arrowstream.formats")}
    if not declared.items() <= installed.items():
        pytest.exit(f"the installed formats are {installed}, pyproject.toml has {declared}; run: pip install -e .", 4)
