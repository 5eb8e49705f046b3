"""The writer of a format, by the format's name."""

from collections.abc import Mapping
from typing import Any

from arrowstream.format import Format
from arrowstream.registry import load_format
from arrowstream.writer.shards import MDSWriter, MosaicWriter, ParquetWriter, ShardWriter
from arrowstream.writer.text import CSVWriter, JSONWriter, TSVWriter, XSVWriter

_OURS: Mapping[str, type[ShardWriter]] = {
    kind.format_name: kind
    for kind in (CSVWriter, JSONWriter, MDSWriter, MosaicWriter, ParquetWriter, TSVWriter, XSVWriter)
}


def writer_of(format_name: str) -> type[ShardWriter]:
    """Give the writer of a format.

    Raises:
        UnknownFormatError: It is not installed.
        ValueError: It only reads.
    """
    if type(load_format(format_name)).write is Format.write:
        raise ValueError(f"the format {format_name!r} only reads; write mds, whose files are Arrow files, or parquet")
    return _OURS.get(format_name) or type("Writer", (ShardWriter,), {"format_name": format_name})


def check_options(format_name: str, options: Mapping[str, Any]) -> None:
    """See that the writer of a format takes these arguments besides those that all have.

    Raises:
        UnknownFormatError: It is not installed.
        ValueError: It only reads, there is no such option, or one is missing.
    """
    kind = writer_of(format_name)
    for name in options:
        if name not in kind.option_names:
            there = ", ".join(kind.option_names) or "none"
            raise ValueError(f"the writer of {format_name} has no option {name!r}; it has: {there}")
    if issubclass(kind, XSVWriter) and format_name == "xsv" and "separator" not in options:
        raise ValueError("the writer of xsv needs the option 'separator', what stands between cells")
