"""From the number of a sequence to its tokens."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from arrowstream.decode import Sample
from arrowstream.errors import CorruptShardError, EncodingError, MissingColumnError
from arrowstream.locate import Locator
from arrowstream.prefetch import Prefetcher
from arrowstream.reader import Reader
from arrowstream.sequences.borders import Borders
from arrowstream.sequences.counts import load_counts
from arrowstream.sequences.packing import IntArray, Packing
from arrowstream.sequences.tokens import AnyArray, TokenShard
from arrowstream.shard import MAX_OPEN_SHARDS, MAX_UNCOMPRESSED_BYTES
from arrowstream.stream import Stream

#: What a sequence can be asked for, and in which dtype; None: that of the column.
FIELDS: Mapping[str, str | None] = {
    "tokens": None,
    "document_ids": "int64",
    "positions": "int32",
    "cu_seqlens": "int32",
}


class SequenceReader(Reader):
    """A reader whose samples are sequences, and whose shards have as many as the packing makes of them.

    Args:
        streams: One behind the other.
        packing: What sequences are.
        pad_id: Token that fills up sequences.
        fields: What a sequence is read as.
        cache_limit: Bytes that all that is cached may take on the disk.
        allow_unsafe_types: Whether shards with ``pkl`` columns, which are not read, may be opened.

    Raises:
        IndexFormatError: An index, or a list of sequences, is damaged.
        EncodingError: The column holds no tokens.
        StorageError: A remote failed.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        packing: Packing,
        *,
        pad_id: int,
        fields: Sequence[str],
        cache_limit: int | None,
        allow_unsafe_types: bool,
    ) -> None:
        super().__init__(streams, allow_unsafe_types=allow_unsafe_types, cache_limit=cache_limit, random_access="shard")
        self._opener.let_go = self._close_deleted
        self.packing = packing
        self.pad_id = pad_id
        self._fields = list(fields)
        self._tokens: dict[int, TokenShard] = {}
        self._allocated = 0
        self.num_closed = 0  # shards that were let go of, ever
        self._dtype: np.dtype[Any] | None = None
        self._borders = Borders(packing.seq_len)
        self.first_documents: list[int] = self._starts  # id of the first document of each shard
        counts = [
            load_counts(self, stream, range(first, first + stream.index.num_shards), packing)
            for stream, first in zip(streams, self._opener.first_shards, strict=True)
        ]
        self.samples_per_stream_shard = [each.num_sequences for each in counts]
        self.samples_per_shard = np.concatenate(self.samples_per_stream_shard)
        self.shards = replace(
            self.shards, num_samples=self.samples_per_shard, rows_per_batch=np.zeros_like(self.samples_per_shard)
        )
        self._locator = Locator(self.samples_per_shard)
        self.num_samples = self._locator.num_samples
        self._starts = self._locator.starts.tolist()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the tokens, as the first shard that was opened has it; one is fetched if none was."""
        if self._dtype is None:
            filled = np.flatnonzero(self.samples_per_shard)
            return self.tokens(int(filled[0])).dtype if len(filled) else np.dtype(np.int64)
        return self._dtype

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of sequences."""
        return self.schema_of(self._fields)

    def schema_of(self, fields: Sequence[str]) -> pa.Schema:
        """Give the Arrow schema of some fields."""
        types = {name: pa.from_numpy_dtype(self.field_dtype(name)) for name in fields}
        length = self.packing.seq_len
        return pa.schema(
            [(name, pa.list_(kind) if name == "cu_seqlens" else pa.list_(kind, length)) for name, kind in types.items()]
        )

    def field_dtype(self, name: str) -> np.dtype[Any]:
        """Tell the dtype of a field."""
        said = FIELDS[name]
        return np.dtype(said) if said is not None else self.dtype

    def check_columns(self, columns: Sequence[str] | None) -> list[str]:
        """Give the fields that were asked for, or those that a sequence is read as.

        Raises:
            MissingColumnError: There is no such field.
        """
        return check_fields(self._fields if columns is None else columns)

    def tokens(self, number: int, prefetcher: Prefetcher | None = None) -> TokenShard:
        """Give the tokens of a shard.

        Raises:
            CorruptShardError: It has not as many sequences as was counted.
            EncodingError: Its column holds no tokens, or others than the first shard's.
            ShardError: It is missing or corrupt.
        """
        found = self._tokens.get(number)
        if found is not None:
            return found
        found = TokenShard(self.open_shard(number, prefetcher), self.packing, self.describe(number))
        expected = int(self.samples_per_shard[number])
        if found.num_sequences != expected:
            raise CorruptShardError(
                f"{self.describe(number)}: its {found.num_tokens} tokens make {found.num_sequences} sequences, and "
                f"{expected} were counted; delete the sequences-*.json of this dataset and of its cache"
            )
        self._check_dtype(found.dtype, number)
        kept = self._tokens.setdefault(number, found)
        if kept is not found:
            return kept  # another thread was sooner
        self._allocated += found.allocated
        while len(self._tokens) > 1 and (
            len(self._tokens) > MAX_OPEN_SHARDS or self._allocated > MAX_UNCOMPRESSED_BYTES
        ):
            for oldest in tuple(self._tokens)[:1]:  # of a copy: other threads open and close meanwhile
                self._close(oldest)
        return found

    def _check_dtype(self, dtype: np.dtype[Any], number: int) -> None:
        if self._dtype is None:
            limits = np.iinfo(dtype)
            if not limits.min <= self.pad_id <= limits.max:
                raise ValueError(f"pad_id is {self.pad_id}, which is no {dtype}, as the tokens are")
            self._dtype = dtype
        if dtype != self._dtype:
            raise EncodingError(
                f"{self.describe(number)}: column {self.packing.column!r} holds {dtype}, in other shards {self._dtype}"
            )

    def has(self, number: int) -> bool:
        """Tell whether the tokens of a shard are at hand."""
        return number in self._tokens

    def _close(self, number: int) -> None:
        closed = self._tokens.pop(number, None)
        if closed is not None:
            self._allocated -= closed.allocated
            self.num_closed += 1

    def _close_deleted(self) -> None:
        for number, shard in list(self._tokens.items()):
            if shard.opened.is_deleted():
                self._close(number)

    def read(self, sample_id: int) -> Sample:
        """Read one sequence by its id in [-num_samples, num_samples).

        Raises:
            IndexError: The id is out of bounds.
        """
        size = self.num_samples
        if not -size <= sample_id < size:
            raise IndexError(f"index {sample_id} is out of bounds for axis 0 with size {size}")
        sample_id %= size
        shard = bisect_right(self._starts, sample_id) - 1
        return self._read(shard, sample_id - self._starts[shard], None)

    def read_each(self, shards: Iterable[int], rows: Iterable[int], prefetcher: Prefetcher) -> Iterator[Sample]:
        """Read sequences one after the other, given where they are."""
        for shard, row in zip(shards, rows, strict=True):
            yield self._read(shard, row, prefetcher)

    def take(self, ids: IntArray, columns: Sequence[str] | None, prefetcher: Prefetcher | None = None) -> pa.Table:
        """Read many sequences as a table; see :meth:`Reader.take`."""
        fields = self.check_columns(columns)
        shards, rows = self.locate(ids)
        prefetcher = prefetcher or Prefetcher()
        samples = [
            self._read(shard, row, prefetcher, fields)
            for shard, row in zip(shards.tolist(), rows.tolist(), strict=True)
        ]
        schema = self.schema_of(fields)
        arrays = [pa.array([sample[field.name] for sample in samples], field.type) for field in schema]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _read(
        self, number: int, row: int, prefetcher: Prefetcher | None, fields: Sequence[str] | None = None
    ) -> Sample:
        shard = self._tokens.get(number) or self.tokens(number, prefetcher)
        sample: Sample = {}
        pieces: IntArray | None = None
        for name in fields or self._fields:
            if name == "tokens":
                sample[name] = self._padded(shard.views(row))
                continue
            if pieces is None:
                _, pieces = self._borders.pieces(shard.bins.of(row), self.first_documents[number])
            sample[name] = self._borders.field(name, pieces).reshape(-1)
        return sample

    def _padded(self, views: list[AnyArray]) -> AnyArray:
        length = self.packing.seq_len
        if len(views) == 1 and len(views[0]) == length:
            return views[0].copy()
        tokens = np.full(length, self.pad_id, self.dtype)
        start = 0
        for view in views:
            tokens[start : start + len(view)] = view
            start += len(view)
        return tokens


def check_fields(fields: Sequence[str]) -> list[str]:
    """See that sequences have these fields.

    Raises:
        MissingColumnError: They do not.
    """
    for name in fields:
        if name not in FIELDS:
            raise MissingColumnError(f"sequences have no field {name!r}; there are: {', '.join(FIELDS)}")
    return list(fields)
