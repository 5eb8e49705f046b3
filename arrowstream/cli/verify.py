"""``arrowstream verify``: whether every shard is what the index says."""

import argparse

from arrowstream.cli.places import add_dataset
from arrowstream.cli.report import Report
from arrowstream.progress import Progress
from arrowstream.stream import Stream
from arrowstream.verifying import verify


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "verify",
        help="check every shard against the index",
        description="Read every shard and check its length, its hash, every record batch and its identity. Exits with "
        "1 when one of them is not what the index says.",
    )
    add_dataset(parser)
    parser.add_argument("--quick", action="store_true", help="only check that the files are there and their lengths")
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    stream = Stream(remote=arguments.dataset, storage_options=arguments.storage_options)
    faults = []
    with Progress("verifying", total=stream.index.num_shards, unit="shards", shown=not arguments.json) as progress:
        for verdict in verify(stream, quick=arguments.quick):
            progress.advance(1)
            if verdict.fault is not None:
                faults.append({"shard": verdict.shard.basename, "fault": verdict.fault})
    facts = {"dataset": arguments.dataset, "shards": stream.index.num_shards, "faulty": len(faults)}
    return Report(facts=facts, tables={"faults": faults}, exit_code=1 if faults else 0)
