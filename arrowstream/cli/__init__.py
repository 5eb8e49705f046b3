"""The command line: ``arrowstream COMMAND``, also ``python -m arrowstream COMMAND``.

Each command is a module beside this one with ``add_parser``, which describes its arguments, and ``run``, which does the
work and returns what to print: :mod:`arrowstream.cli.report` prints it as text or, with ``--json``, as JSON.
"""

from arrowstream.cli.main import main

__all__ = ["main"]
