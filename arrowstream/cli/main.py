"""Parsing of arguments, and what becomes of errors."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

from arrowstream.cli import cache, convert, formats, head, index, inspect, merge, pack, plan, stats, verify
from arrowstream.errors import ArrowStreamError

#: In the order in which ``--help`` lists them.
COMMANDS: tuple[ModuleType, ...] = (index, inspect, head, stats, verify, convert, merge, pack, plan, cache, formats)
#: What ``--help`` of each shows at its end.
EXAMPLES: Mapping[ModuleType, Sequence[str]] = {
    index: ("arrowstream index s3://bucket/fineweb --columns id,text", "arrowstream index logs --option 'separator=;'"),
    inspect: ("arrowstream inspect s3://bucket/train",),
    head: ("arrowstream head s3://bucket/train -n 3 --columns id text", "arrowstream head data --start -5"),
    stats: ("arrowstream stats data --columns label",),
    verify: ("arrowstream verify s3://bucket/train", "arrowstream verify data --quick && echo whole"),
    convert: (
        "arrowstream convert s3://bucket/mosaic s3://bucket/mds --compression zstd",
        "arrowstream convert data text --to xsv --option 'separator=|'",
    ),
    merge: ("arrowstream merge s3://bucket/parts",),
    pack: ("arrowstream pack s3://bucket/tokens --column tokens --seq-len 2048 --method best_fit",),
    plan: ("arrowstream plan data --batch-size 256",),
    cache: ("arrowstream cache ls /nvme/cache", "arrowstream cache gc /nvme/cache --limit 500gb --older-than 30d"),
    formats: ("arrowstream formats",),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: None: those of the process.

    Returns:
        0; 1 when the command failed or found faults; 2 when its arguments are wrong (argparse exits with it); 130 when
        it was interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="arrowstream", description="Look at, make and convert datasets for streaming training data."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        own = command.add_parser(commands)
        own.epilog = "\n".join(["examples:", *(f"  {example}" for example in EXAMPLES[command])])
        own.formatter_class = argparse.RawDescriptionHelpFormatter
        own.add_argument("--json", action="store_true", help="print JSON instead of text")
        own.set_defaults(run=command.run)
    chosen = parser.parse_args(arguments)
    try:
        report = chosen.run(chosen)
        print(report.to_json() if chosen.json else report.to_text(), flush=True)  # noqa: T201
    except (ArrowStreamError, ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"arrowstream: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("arrowstream: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    return int(report.exit_code)
