"""Whether every shard of a dataset is what the index says."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from arrowstream.cache import ShardCache
from arrowstream.errors import ArrowStreamError
from arrowstream.index import Shard
from arrowstream.stream import Stream

#: Shards under way at a time; each takes its size on the disk.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one shard.

    Attributes:
        shard: As the index describes it.
        fault: What is wrong with it; None when nothing is.
    """

    shard: Shard
    fault: str | None


def verify(stream: Stream, *, quick: bool = False) -> Iterator[Verdict]:
    """Fetch every shard anew, check it as the cache does, and throw it away.

    Args:
        stream: The dataset.
        quick: Whether to check nothing but that each file is there and as long as it has to be.

    Yields:
        A verdict for each shard, in their order.

    Raises:
        IndexFormatError: The index itself is damaged.
        StorageError: The index cannot be read.
    """
    index = stream.index
    with (
        TemporaryDirectory(prefix="arrowstream-verify-") as scratch,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="arrowstream-verify") as pool,
    ):
        cache = ShardCache(stream.storage, Path(scratch), attempts=1)
        waiting: list[Future[Verdict]] = []
        for number in range(index.num_shards):
            waiting.append(pool.submit(_check_length if quick else _check, cache, index.shard(number)))
            if len(waiting) >= 2 * _AT_ONCE:
                yield waiting.pop(0).result()
        for verdict in waiting:
            yield verdict.result()


def _check(cache: ShardCache, shard: Shard) -> Verdict:
    try:
        cache.fetch(shard).unlink()
    except ArrowStreamError as error:
        return Verdict(shard=shard, fault=str(error))
    return Verdict(shard=shard, fault=None)


def _check_length(cache: ShardCache, shard: Shard) -> Verdict:
    try:
        found = cache.storage.size(shard.basename)
    except ArrowStreamError as error:
        return Verdict(shard=shard, fault=str(error))
    if found != shard.file_bytes:
        return Verdict(shard=shard, fault=f"is {found} bytes long, the index says {shard.file_bytes}")
    return Verdict(shard=shard, fault=None)
