"""Checks that are shipped, for those who write plugins. They need pytest, which nothing else here imports.

* :mod:`arrowstream.testing.formats`: ``FormatTests``, what every format must do.
"""

from arrowstream.testing.formats import FormatTests

__all__ = ["FormatTests"]
