"""Which files of a cache go first: those that are needed last (Bélády 1966), or were opened least recently."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from arrowstream.cache.shelf import CachedFile
from arrowstream.plan.parts import Parts

IntArray = npt.NDArray[np.int64]
Place = tuple[
    int | None, int | None
]  # number of a shard, and of a record batch in it; None: all of it, or nobody knows

# Keys are ordered as follows, the lower the sooner a file goes; times and positions are below 2^61.
_SPAN = 1 << 61
_OTHERS = -2 * _SPAN  # another dataset's files that nobody has opened since we began, by time
_PLANNED = -_SPAN  # ours: by next use, the last first; where nobody knows it, by time
_IN_USE = 1  # another dataset's files that are in use, and footers, which are small, by time
#: Later than every file's.
LATEST = 2 * _SPAN - 1
_AT_ONCE = 16


class Victims:
    """The files that one process knows of and may delete. What others brought since is not among them.

    Attributes:
        num_surveyed: How many there were when the directories were surveyed last.
    """

    def __init__(self) -> None:
        self.num_surveyed = 0
        self._next_uses: Callable[[], IntArray] | None = None
        self._parts: Parts | None = None
        self._began_ns = time.time_ns()
        self._keys_known: tuple[IntArray | None, IntArray] | None = None  # of the uses that they were made from
        self._put([])

    def empty(self) -> "Victims":
        """Give one that goes by the same plan and knows of no file."""
        other = Victims()
        other._next_uses, other._parts, other._began_ns = self._next_uses, self._parts, self._began_ns
        return other

    def follow(self, next_uses: Callable[[], IntArray] | None, parts: Parts | None) -> None:
        """Go by a plan.

        Args:
            next_uses: Gives the position at which each part is needed next, int64 of shape (parts,), as far as the plan
                knows. None: nobody knows, and what was opened least recently goes first.
            parts: What the parts are; None: shards.
        """
        self._next_uses, self._parts = next_uses, parts

    def replace(self, files: Iterable[CachedFile]) -> None:
        """Know what a survey found, and nothing else."""
        self._put(list(files))
        self.num_surveyed = len(self._files)

    def add(self, file: CachedFile) -> None:
        """Know one file more."""
        if len(self._files) == len(self._sizes):
            self._put([each for each in self._files if each is not None])
        self._set(len(self._files), file)
        self._files.append(file)

    def _put(self, files: list[CachedFile]) -> None:
        self._files: list[CachedFile | None] = [*files]  # None: was given out
        self._keys_known = None
        # The columns have room for what is added: that costs no copy of them each time.
        shape = (4, 2 * len(files) + 64)
        self._sizes, self._fixed_keys, self._shards, self._batches = np.zeros(shape, np.int64)
        for row, file in enumerate(files):
            self._set(row, file)

    def _set(self, row: int, file: CachedFile) -> None:
        used_ns = min(max(file.used_ns, 0), _SPAN - 1)
        if file.is_footer or (file.shard is None and file.used_ns >= self._began_ns):
            group = _IN_USE
        else:
            group = _OTHERS if file.shard is None else _PLANNED
        self._sizes[row], self._fixed_keys[row] = file.num_bytes, group + used_ns
        # Not numbered is what no plan is asked for.
        self._shards[row] = -1 if file.shard is None or file.is_footer else file.shard
        self._batches[row] = -1 if file.batch is None else file.batch
        self._keys_known = None

    def key_of(self, place: Place) -> int:
        """Give the key of what is to be fetched: files with lower ones may go for it."""
        shard, batch = place
        if self._next_uses is None or shard is None:
            return LATEST
        return int(self._planned(self._next_uses(), np.array([shard]), np.array([-1 if batch is None else batch]))[0])

    def goes_by_time(self, file: CachedFile) -> bool:
        """Tell whether it is its last opening, and not its next use, that says when a file goes."""
        return self._next_uses is None or file.shard is None or file.is_footer

    def deletable_bytes(self, before: int = LATEST) -> int:
        """Sum up the files with keys below ``before``."""
        return int(self._sizes[: len(self._files)][self._keys() < before].sum())

    def take(self, before: int = LATEST) -> Iterator[CachedFile]:
        """Give the files with keys below ``before``, the first to go at the front; they are forgotten."""
        while True:
            keys = self._keys()  # the rows of what is given out are changed in place
            rows = np.flatnonzero(keys < before)
            if not len(rows):
                return
            if len(rows) > _AT_ONCE:
                rows = rows[np.argpartition(keys[rows], _AT_ONCE)[:_AT_ONCE]]
            for row in rows[np.argsort(keys[rows], kind="stable")].tolist():
                file, self._files[row] = self._files[row], None
                self._shards[row], self._fixed_keys[row], keys[row] = -1, LATEST, LATEST
                if file is not None:
                    yield file

    def _keys(self) -> IntArray:
        uses = self._next_uses() if self._next_uses is not None else None
        if self._keys_known is None or self._keys_known[0] is not uses:
            count = len(self._files)
            keys, shards = self._fixed_keys[:count].copy(), self._shards[:count]
            is_planned = shards >= 0
            if uses is not None and is_planned.any():
                keys[is_planned] = self._planned(uses, shards[is_planned], self._batches[:count][is_planned])
            self._keys_known = uses, keys
        return self._keys_known[1]

    def _planned(self, uses: IntArray, shards: IntArray, batches: IntArray) -> IntArray:
        """Give the keys of parts in a plan: of a record batch its next use, of a shard that of its first one."""
        if self._parts is None:
            return -np.minimum(uses[shards], _SPAN - 1)
        first, stop = self._parts.first_parts[shards], self._parts.first_parts[shards + 1]
        of_shards = np.minimum.reduceat(uses, self._parts.first_parts[:-1])[shards]
        is_part = (batches >= 0) & (first + batches < stop)
        return -np.minimum(np.where(is_part, uses[np.minimum(first + batches, stop - 1)], of_shards), _SPAN - 1)
