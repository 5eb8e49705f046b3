"""``arrowstream merge``: many datasets become one."""

import argparse

from arrowstream.cli.places import add_storage_options
from arrowstream.cli.report import Report
from arrowstream.merging import merge_index


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "merge",
        help="make one dataset of many",
        description="Put the indexes of many datasets below one directory together; no shard is touched.",
    )
    parser.add_argument("out", help="directory or URL below which the datasets lie, and where the index goes")
    parser.add_argument("parts", nargs="*", help="their index.json files, in order (default: all below OUT, sorted)")
    add_storage_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    places = [arguments.parts, arguments.out] if arguments.parts else [arguments.out]
    index = merge_index(*places, progress_bar=not arguments.json, storage_options=arguments.storage_options)
    return Report(facts={"dataset": arguments.out, "samples": index.num_samples, "shards": index.num_shards})
