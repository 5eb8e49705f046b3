"""``arrowstream convert``: a dataset in another format."""

import argparse
import json

from arrowstream.cli.places import add_dataset, add_options, read_options
from arrowstream.cli.report import Report
from arrowstream.converting import Target, convert
from arrowstream.stream import Stream


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "convert",
        help="write a dataset in another format",
        description="Write the samples of a dataset, in their order, as another one. What was interrupted goes on "
        "where it stood when the same command is run again.",
    )
    add_dataset(parser)
    parser.add_argument("out", help="directory or URL of the new dataset")
    parser.add_argument("--to", default="mds", metavar="FORMAT", help="format to write (default: %(default)s)")
    parser.add_argument("--columns", nargs="+", metavar="COLUMN", help="only these columns")
    parser.add_argument("--compression", help="such as zstd:3, lz4 or gz (default: none)")
    parser.add_argument("--hashes", nargs="+", metavar="HASH", help="hashes to store beside xxh3_64")
    parser.add_argument("--size-limit", default="64mb", help="uncompressed bytes of a shard (default: %(default)s)")
    parser.add_argument("--part-bytes", default="1gb", help="bytes that are one step of it (default: %(default)s)")
    add_options(parser, "for the writer of the format (separator, newline)")
    parser.add_argument("--jobs", type=int, help="processes (default: one a core)")
    parser.add_argument("--out-storage-options", type=json.loads, metavar="JSON", help="credentials, … of OUT")
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    index = convert(
        Stream(remote=arguments.dataset, storage_options=arguments.storage_options),
        arguments.out,
        Target(
            format=arguments.to,
            columns=arguments.columns,
            compression=arguments.compression,
            hashes=arguments.hashes,
            size_limit=arguments.size_limit,
            options=read_options(arguments),
        ),
        jobs=arguments.jobs,
        part_bytes=arguments.part_bytes,
        progress_bar=not arguments.json,
        storage_options=arguments.out_storage_options,
    )
    return Report(facts={"dataset": arguments.out, "samples": index.num_samples, "shards": index.num_shards})
