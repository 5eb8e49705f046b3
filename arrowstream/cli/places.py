"""Datasets and options as the command line names them."""

import argparse
import json
from typing import Any

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


def add_options(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Take options of a format, each by its name."""
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"{purpose}; the value is JSON, or else text; may be given several times",
    )


def read_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read the options of a format.

    Raises:
        ValueError: One has no name.
    """
    return dict(_option(text) for text in arguments.option)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--option {text}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
