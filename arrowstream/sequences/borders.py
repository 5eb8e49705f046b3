"""Where documents begin and end inside of sequences, in the forms that attention wants."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arrowstream.sequences.packing import IntArray, Pieces

AnyArray = npt.NDArray[Any]


class Borders:
    """The documents of some sequences, laid end to end.

    Args:
        pieces: What each of n sequences holds.
        first_documents: Id of the first document of the shard that each sequence is of.
        seq_len: Tokens of a sequence; what is missing is padding.
    """

    def __init__(self, pieces: Sequence[Pieces], first_documents: Sequence[int], seq_len: int) -> None:
        self._shape = (len(pieces), seq_len)
        documents: list[IntArray] = []
        lengths: list[IntArray] = []
        for each, first in zip(pieces, first_documents, strict=True):
            documents.append(each.documents + first)
            lengths.append(each.lengths)
            missing = seq_len - int(each.lengths.sum())
            if missing:
                documents.append(np.full(1, -1, np.int64))
                lengths.append(np.full(1, missing, np.int64))
        self._documents = np.concatenate(documents) if documents else np.empty(0, np.int64)  # (pieces and paddings,)
        self._lengths = np.concatenate(lengths) if lengths else np.empty(0, np.int64)

    def field(self, name: str) -> AnyArray:
        """Give ``document_ids`` or ``positions``, (n, seq_len), or ``cu_seqlens``, (pieces and paddings + 1,)."""
        if name == "cu_seqlens":
            return np.concatenate([self._starts, [self._lengths.sum()]]).astype(np.int32)
        if name == "document_ids":
            return np.repeat(self._documents, self._lengths).reshape(self._shape)
        starts = np.repeat(self._starts, self._lengths)
        return (np.arange(len(starts)) - starts).astype(np.int32).reshape(self._shape)

    @property
    def _starts(self) -> IntArray:
        return np.cumsum(self._lengths) - self._lengths
