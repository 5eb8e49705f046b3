"""``arrowstream pack``: count the sequences of a dataset, once for all who read it."""

import argparse

from arrowstream.cli.places import add_dataset
from arrowstream.cli.report import Report
from arrowstream.sequences import pack_sequences
from arrowstream.sequences.packing import METHODS, REMAINDERS


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "pack",
        help="count sequences of tokens",
        description="Read every shard once, count the sequences that its documents make, and store the counts beside "
        "index.json, where SequenceDataset looks for them. The shards stay as they are.",
    )
    add_dataset(parser)
    parser.add_argument("--column", required=True, help="column of tokens")
    parser.add_argument("--seq-len", required=True, type=int, metavar="TOKENS", help="tokens of a sequence")
    parser.add_argument("--method", choices=METHODS, default="concat", help="how documents share sequences")
    parser.add_argument("--remainder", choices=REMAINDERS, default="drop", help="last tokens of a shard, with concat")
    parser.add_argument("--dtype", help="of the tokens, for a column of bytes or text")
    return parser


def run(arguments: argparse.Namespace) -> Report:
    """Do the work."""
    counts = pack_sequences(
        arguments.dataset,
        column=arguments.column,
        seq_len=arguments.seq_len,
        method=arguments.method,
        remainder=arguments.remainder,
        dtype=arguments.dtype,
        storage_options=arguments.storage_options,
        progress=not arguments.json,
    )
    num_sequences, num_tokens = int(counts.num_sequences.sum()), int(counts.num_tokens.sum())
    facts = {
        "shards": len(counts.num_sequences),
        "tokens": num_tokens,
        "sequences": num_sequences,
        "tokens a sequence": num_tokens / num_sequences if num_sequences else None,
    }
    return Report(facts=facts)
