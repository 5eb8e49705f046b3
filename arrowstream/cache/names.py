"""What the files of a cache are called, relative to its directory.

``a/shard.00000.arrow`` is the Arrow IPC file of a shard, whatever the shard is transported as. Beside the shards,
``.arrowstream`` holds: ``lock``; ``ledger``, how many bytes lie in the directory; ``tmp``, files that are not whole
yet; ``names``, which files may be fetched again, one list an index; ``batches``, record batches of shards that are not
there as a whole; ``transport``, compressed files that were to be kept and have their shard's own name.
"""

from collections.abc import Iterator

from arrowstream.errors import IndexFormatError
from arrowstream.index import PRIVATE_FOLDER, Index, Shard
from arrowstream.registry import load_format

LOCK = f"{PRIVATE_FOLDER}/lock"
LEDGER = f"{PRIVATE_FOLDER}/ledger"
TEMPORARY = f"{PRIVATE_FOLDER}/tmp"  # noqa: S108
NAMES = f"{PRIVATE_FOLDER}/names"
BATCHES = f"{PRIVATE_FOLDER}/batches"
FOOTER = "/footer"
TRANSPORT = f"{PRIVATE_FOLDER}/transport"


def cached_name(shard: Shard) -> str:
    """Name the Arrow IPC file of a shard."""
    return _cached_name(shard.basename, shard.format, wrapping(shard))


def wrapping(shard: Shard) -> str | None:
    """Name the codec that is wrapped around a shard's file; None where there is none, or the format has it inside."""
    return wrapping_of(shard.format, shard.compression)


def transport_name(shard: Shard) -> str | None:
    """Name the place of a shard's compressed file where that is kept; None for a shard without compression."""
    if not shard.compression:
        return None
    name = shard.basename
    return name if name != cached_name(shard) else f"{TRANSPORT}/{name}"


def batch_name(shard: Shard, number: int) -> str:
    """Name the file of one record batch of a shard."""
    return f"{BATCHES}/{cached_name(shard)}/{number}.arrow"


def footer_name(shard: Shard) -> str:
    """Name the file that holds the footer of a shard which is not there as a whole."""
    return f"{BATCHES}/{cached_name(shard)}{FOOTER}"


def shard_of(name: str) -> str:
    """Name the shard that a file of the cache is, or is a part of, or is the transported form of."""
    if name.startswith(f"{BATCHES}/"):
        return name[len(BATCHES) + 1 :].rpartition("/")[0]
    return name.removeprefix(f"{TRANSPORT}/")


def batch_of(name: str) -> int | None:
    """Give the number of the record batch that a file of the cache holds; None for other files."""
    number = name.rpartition("/")[2].removesuffix(".arrow")
    return int(number) if name.startswith(f"{BATCHES}/") and number.isdecimal() else None


def cached_names(index: Index) -> Iterator[tuple[str, str]]:
    """Name the Arrow IPC file and the transported file of every shard, in order."""
    for group in index.groups:
        codec = wrapping_of(group.format, group.compression)
        for basename in group.basename:
            yield _cached_name(basename, group.format, codec), basename


def check_names(index: Index, source: str) -> None:
    """See to it that no two shards would lie in one file.

    Raises:
        IndexFormatError: Two would, as ``a.arrow`` and ``a.arrow.gz`` do.
    """
    if all(
        wrapping_of(group.format, group.compression) is None
        and load_format(group.format).in_place
        and all(name.endswith(".arrow") for name in group.basename)
        for group in index.groups
    ):
        return  # they are called as the index calls them, and it names none twice
    seen: dict[str, str] = {}
    for cached, basename in cached_names(index):
        other = seen.setdefault(cached, basename)
        if other != basename:
            raise IndexFormatError(
                f"{source}: names the shards {other!r} and {basename!r}, which are both {cached!r} once they are "
                f"unpacked; rename one of them"
            )


def _cached_name(basename: str, form: str, codec: str | None) -> str:
    name = basename.removesuffix(f".{codec}")
    # A foreign Arrow file and its twin that can be mapped are two files.
    return name if name.endswith(".arrow") and load_format(form).in_place else f"{name}.arrow"


def has_ranges(form: str, compression: str | None) -> bool:
    """Tell whether a range of a file may be a record batch: of an Arrow IPC file, with no codec around it."""
    return load_format(form).in_place and wrapping_of(form, compression) is None


def wrapping_of(form: str, compression: str | None) -> str | None:
    """Name the codec that is wrapped around files of a format and a compression."""
    codec = (compression or "").partition(":")[0]
    return codec if codec and codec not in load_format(form).codecs else None
