"""``arrowstream formats``: which formats are installed."""

import argparse

from arrowstream.cli.report import Report
from arrowstream.errors import UnknownFormatError
from arrowstream.registry import format_names, load_format


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    return commands.add_parser(
        "formats", help="list the installed formats", description="List the formats that shards may have."
    )


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    del arguments
    rows = []
    for name in format_names():
        try:
            kind = load_format(name)
            rows.append({"format": name, "files": f"*{kind.suffix}", "from": type(kind).__module__})
        except UnknownFormatError as error:
            rows.append({"format": name, "files": "-", "from": str(error)})
    return Report(tables={"formats": rows})
