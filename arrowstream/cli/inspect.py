"""``arrowstream inspect``: what a dataset is, from its index alone."""

import argparse
from itertools import groupby

from arrowstream.cli.places import add_dataset
from arrowstream.cli.report import Report
from arrowstream.index import ShardGroup
from arrowstream.stream import Stream
from arrowstream.units import format_bytes


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "inspect", help="show what a dataset holds", description="Show what a dataset holds, from its index alone."
    )
    add_dataset(parser)
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    index = Stream(remote=arguments.dataset, storage_options=arguments.storage_options).index
    raw_bytes = sum(int(group.raw_bytes.sum()) for group in index.groups)
    columns = {name: kind for group in index.groups for name, kind in group.columns.items()}
    return Report(
        facts={
            "dataset": arguments.dataset,
            "samples": index.num_samples,
            "shards": index.num_shards,
            "size": format_bytes(sum(int(group.file_bytes.sum()) for group in index.groups)),
            "uncompressed": format_bytes(raw_bytes),
            "bytes a sample": round(raw_bytes / max(index.num_samples, 1), 1),
            "fingerprint": index.fingerprint,
            **{f"metadata.{name}": str(value) for name, value in index.metadata.items()},
        },
        tables={
            "columns": [{"column": name, "encoding": kind} for name, kind in columns.items()],
            "groups": [_row(list(groups)) for _, groups in groupby(index.groups, _kind)],
        },
    )


def _kind(group: ShardGroup) -> tuple[str, str | None, tuple[tuple[str, str], ...]]:
    return group.format, group.compression, tuple(group.columns.items())


def _row(groups: list[ShardGroup]) -> dict[str, object]:
    """Say what like groups hold: a merged index has one for each of its parts."""
    samples = [count for group in groups for count in group.num_samples.tolist()]
    sizes = [size for group in groups for size in group.file_bytes.tolist()]
    return {
        "format": groups[0].format,
        "compression": groups[0].compression,
        "columns": len(groups[0].columns),
        "shards": len(samples),
        "samples": sum(samples),
        "samples a shard": f"{min(samples, default=0):,} to {max(samples, default=0):,}",
        "largest shard": format_bytes(max(sizes, default=0)),
        "hashes": ", ".join(groups[0].hashes) or "none",
    }
