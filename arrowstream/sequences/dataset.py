"""The dataset whose samples are sequences of tokens."""

from collections.abc import Sequence
from typing import Any

from arrowstream import dataset
from arrowstream.batch_forms import BatchForm
from arrowstream.batches import ArrowBatchReader, BatchReader, Images, RaggedForm
from arrowstream.reader import Reader
from arrowstream.sequences.gather import SequenceBatchReader
from arrowstream.sequences.packing import Method, Packing, Remainder
from arrowstream.sequences.reader import SequenceReader, check_fields


class SequenceDataset(dataset.StreamingDataset):
    """Sequences of one length, cut or packed from the documents of each shard while they are read.

    It is a :class:`arrowstream.dataset.StreamingDataset` whose samples are sequences: ids, lengths, orders, shares of
    an epoch and checkpoints count them. A sequence holds documents of one shard. docs/sequences.md says more.

    Args:
        column: The column of tokens: arrays or lists of integers, of any lengths; or bytes or text, with a ``dtype``.
        seq_len: Tokens of a sequence.
        method: ``concat``: the documents of a shard end to end, cut every ``seq_len`` tokens. ``best_fit``: as many
            whole documents as fit; only what is longer than a sequence is cut.
        remainder: With ``concat``, what becomes of the last tokens of a shard: ``drop``, or ``pad`` them to one more
            sequence.
        pad_id: Token that fills up sequences.
        dtype: Of the tokens, for a column of bytes or text (which is then UTF-8, and ``dtype="uint8"``).
        fields: What a sample holds: ``tokens``, (seq_len,) in the column's dtype; ``document_ids``, int64 of
            (seq_len,), the id that the document of each token has in the dataset, -1 for padding; ``positions``, int32
            of (seq_len,), counted from 0 wherever a document, a part of one, or padding begins; ``cu_seqlens``, int32,
            where these begin, and ``seq_len``.
        **arguments: Those of :class:`arrowstream.dataset.StreamingDataset`.

    Raises:
        ValueError: Arguments contradict each other or are out of range.
        MissingColumnError: There is no such field.
    """

    def __init__(
        self,
        *,
        column: str,
        seq_len: int,
        method: Method = "concat",
        remainder: Remainder = "drop",
        pad_id: int = 0,
        dtype: str | None = None,
        fields: Sequence[str] = ("tokens",),
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if self.shuffle_unit == "record_batch":
            raise ValueError("shuffle_unit is 'record_batch'; sequences lie across record batches: shuffle shards")
        self.packing = Packing(column=column, seq_len=seq_len, method=method, remainder=remainder, dtype=dtype)
        self.pad_id = pad_id
        self.fields = check_fields(fields)

    def _load(self) -> Reader:
        self._reader = SequenceReader(
            self.streams,
            self.packing,
            pad_id=self.pad_id,
            fields=self.fields,
            cache_limit=self.cache_limit,
            allow_unsafe_types=self.allow_unsafe_types,
        )
        return self._reader

    def _make_batch_reader(
        self,
        form: BatchForm | None,
        columns: Sequence[str] | None,
        *,
        images: Images = "pil",
        ragged: RaggedForm | None = None,
        num_threads: int | None = None,
    ) -> BatchReader:
        del images, num_threads
        if ragged is not None:
            raise ValueError(f"ragged is {ragged!r}; the fields of sequences have a form of their own")
        reader = self._reader or self._load()
        assert isinstance(reader, SequenceReader)
        return ArrowBatchReader(reader, columns) if form is None else SequenceBatchReader(reader, columns, form)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "sequences": dict(self.packing.settings)}
