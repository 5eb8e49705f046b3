"""Transport compression: what ``compression="zstd:3"`` means.

Two kinds. What a format names among its codecs it applies inside its files: ``zstd`` and ``lz4`` compress the bodies
of an Arrow file's record batches, so that the shard stays an Arrow file that any tool opens, and a range of it can be
read. All else wraps the file as a whole (``shard.00000.arrow.gz``, ``shard.00000.mds.zstd``) and gives both up.
"""

import bz2
import gzip
import shutil
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, cast

import pyarrow as pa

from arrowstream.errors import CorruptShardError

#: Codec -> (lowest, highest, default level); None where there are no levels.
IPC_CODECS: Mapping[str, tuple[int, int, int] | None] = MappingProxyType({"zstd": (1, 22, 3), "lz4": None})
FILE_CODECS: Mapping[str, tuple[int, int, int] | None] = MappingProxyType(
    {"br": (0, 11, 11), "bz2": (1, 9, 9), "gz": (0, 9, 9), "snappy": None}
)
_ARROW_NAMES = {"br": "brotli"}
#: Suffixes of files that were wrapped as a whole.
SUFFIXES: Mapping[str, str] = MappingProxyType(
    {".gz": "gz", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".br": "br", ".snappy": "snappy"}
)
_STREAMED = ("br", "lz4", "zstd")
_CHUNK = 1 << 20
_MOST_SNAPPY = 64  # a copy of 2 bytes or more gives at most 64


@dataclass(frozen=True, slots=True)
class Compression:
    """A codec and its level.

    Attributes:
        codec: ``zstd``, ``lz4``, ``gz``, ``br``, ``bz2`` or ``snappy``.
        level: None where the codec has none.
    """

    codec: str
    level: int | None


def parse_compression(text: str | None) -> Compression | None:
    """Read ``"zstd"``, ``"zstd:7"``, ``"gz:9"``, …; None and the empty text mean no compression.

    Raises:
        ValueError: There is no such codec, or it has no such level.
    """
    if not text:
        return None
    codec, colon, level = text.partition(":")
    known = {**IPC_CODECS, **FILE_CODECS}
    if codec not in known:
        raise ValueError(f"compression {text!r}: no codec is named {codec!r}; there are: {', '.join(sorted(known))}")
    levels = known[codec]
    if levels is None:
        if colon:
            raise ValueError(f"compression {text!r}: {codec} has no levels")
        return Compression(codec, None)
    lowest, highest, default = levels
    if colon and not (level.isdecimal() and lowest <= int(level) <= highest):
        raise ValueError(f"compression {text!r}: the levels of {codec} are {lowest} to {highest}")
    return Compression(codec, int(level) if colon else default)


def compress_file(source: Path, target: Path, compression: Compression) -> None:
    """Wrap a file as a whole. The same bytes give the same file (gzip's header carries no time)."""
    level = compression.level if compression.level is not None else 0
    with source.open("rb") as plain, target.open("wb") as packed:
        if compression.codec == "gz":
            with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=level, mtime=0) as stream:
                shutil.copyfileobj(plain, stream, _CHUNK)
        elif compression.codec == "bz2":
            with bz2.open(packed, "wb", compresslevel=level) as stream:
                shutil.copyfileobj(plain, stream, _CHUNK)
        else:
            packed.write(_arrow_codec(compression.codec, compression.level).compress(plain.read()))


def _arrow_codec(codec: str, level: int | None) -> pa.Codec:
    name = _ARROW_NAMES.get(codec, codec)
    return pa.Codec(name) if level is None else pa.Codec(name, compression_level=level)


def decompress_file(source: Path, target: Path, codec: str, *, num_bytes: int | None) -> int:
    """Unwrap a file, and never write more than it is said to hold.

    Args:
        source: The wrapped file.
        target: Where its contents go.
        codec: Any codec but those that the file's format applied inside.
        num_bytes: Length of the contents; None, where nobody knows: whatever there is.

    Returns:
        Length of the contents.

    Raises:
        CorruptShardError: The file is cut off or corrupt, or holds another number of bytes.
    """
    written = 0
    try:
        with ExitStack() as stack:
            plain = stack.enter_context(_open_wrapped(source, codec, num_bytes))
            sink = stack.enter_context(target.open("wb"))
            while chunk := plain.read(_CHUNK if num_bytes is None else min(_CHUNK, num_bytes - written + 1)):
                written += len(chunk)
                if num_bytes is not None and written > num_bytes:
                    break
                sink.write(chunk)
    except (EOFError, OSError, ValueError, pa.ArrowException, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CorruptShardError(f"{source}: does not decompress as {codec} ({error})") from error
    if num_bytes is not None and written != num_bytes:
        more = "more" if written > num_bytes else f"{written}"
        raise CorruptShardError(f"{source}: decompresses to {more} bytes, the index says {num_bytes}")
    return written


def _open_wrapped(source: Path, codec: str, num_bytes: int | None) -> BinaryIO:
    if codec == "gz":
        return cast("BinaryIO", gzip.open(source, "rb"))
    if codec == "bz2":
        return cast("BinaryIO", bz2.open(source, "rb"))
    if codec in _STREAMED:
        return cast("BinaryIO", pa.CompressedInputStream(pa.OSFile(str(source)), _ARROW_NAMES.get(codec, codec)))
    if codec != "snappy":
        raise ValueError("no such codec is known")
    packed = source.read_bytes()
    length = _snappy_length(packed)
    if num_bytes is not None and length != num_bytes:
        raise ValueError(f"its header says {length} bytes")
    if length > _MOST_SNAPPY * len(packed):
        raise ValueError(f"its header says {length} bytes, more than {len(packed)} can hold")
    return cast("BinaryIO", pa.BufferReader(pa.Codec("snappy").decompress(packed, length)))


def _snappy_length(packed: bytes) -> int:
    """Read the length of the contents from a raw snappy block: a little-endian base-128 number."""
    length = 0
    for place, byte in enumerate(packed[:5]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    return length
