"""Datasets as the command line names them."""

import argparse
import json

from arrowstream.dataset import StreamingDataset


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Take a dataset's place, and what its storage has to be told."""
    parser.add_argument("dataset", help="directory or URL that holds index.json")
    add_storage_options(parser)


def add_storage_options(parser: argparse.ArgumentParser) -> None:
    """Take what a storage's client has to be told."""
    parser.add_argument(
        "--storage-options",
        type=json.loads,
        default=None,
        metavar="JSON",
        help="credentials, endpoint, … of the remote",
    )


def open_dataset(arguments: argparse.Namespace) -> StreamingDataset:
    """Open the dataset that the arguments name, for reading as Arrow."""
    # A pickle that is read as Arrow is bytes: nothing that came with the data is run.
    return StreamingDataset(
        remote=arguments.dataset, storage_options=arguments.storage_options, allow_unsafe_types=True
    )
