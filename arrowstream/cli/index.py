"""``arrowstream index``: make files that exist a dataset."""

import argparse
import json
import sys

from arrowstream.cli.places import add_options, read_options
from arrowstream.cli.report import Report
from arrowstream.indexing import index_files


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "index",
        help="write index.json for files that exist, so that they can be streamed",
        description="Write index.json for Parquet, Arrow, CSV, TSV or JSON Lines files, which are not touched, or for "
        "shards whose index was lost.",
    )
    parser.add_argument("source", metavar="PATH_OR_URL", help="directory or URL that holds the files, at any depth")
    parser.add_argument("--format", metavar="NAME", help="of all files; otherwise as their suffixes say")
    parser.add_argument("--pattern", metavar="GLOB", help="which files, by their path below the source")
    parser.add_argument("--columns", metavar="A,B", help="the columns to stream, separated by commas; otherwise all")
    add_options(parser, "for the format")
    parser.add_argument(
        "--out",
        metavar="PATH_OR_URL",
        help="directory for index.json where the source takes no file; give it to the dataset as local=",
    )
    parser.add_argument("--hash", action="append", default=[], metavar="NAME", help="hash to take of every file")
    parser.add_argument("--jobs", type=int, metavar="N", help="files that are looked into at a time")
    parser.add_argument("--rebuild", action="store_true", help="replace the index that is there")
    parser.add_argument(
        "--storage-options", type=json.loads, default={}, metavar="JSON", help="for fsspec's file system"
    )
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    index = index_files(
        arguments.source,
        out=arguments.out,
        format=arguments.format,
        pattern=arguments.pattern,
        columns=arguments.columns.split(",") if arguments.columns is not None else None,
        options=read_options(arguments),
        hashes=arguments.hash,
        jobs=arguments.jobs,
        rebuild=arguments.rebuild,
        progress_bar=sys.stderr.isatty() and not arguments.json,
        storage_options=arguments.storage_options,
    )
    files: dict[str, int] = {}
    for group in index.groups:
        files[group.format] = files.get(group.format, 0) + len(group)
    columns = dict(index.groups[0].columns) if index.groups else {}
    return Report(
        facts={
            "files": index.num_shards,
            "samples": index.num_samples,
            "bytes": sum(int(group.file_bytes.sum()) for group in index.groups),
            "formats": ", ".join(f"{name} ({count:,})" for name, count in sorted(files.items())),
            "index": f"{(arguments.out or arguments.source).rstrip('/')}/index.json",
        },
        tables={"columns": [{"column": name, "type": kind} for name, kind in columns.items()]},
    )
