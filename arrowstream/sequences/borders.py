"""Where documents begin and end inside of sequences, in the forms that attention wants."""

import numpy as np

from arrowstream.sequences.extents import Extents, address_of
from arrowstream.sequences.packing import Bins, IntArray
from arrowstream.sequences.tokens import AnyArray

_POSITION = np.dtype(np.int32)


class Borders:
    """Makes fields of the documents of sequences.

    Args:
        seq_len: Tokens of a sequence; what is missing is padding.
    """

    def __init__(self, seq_len: int) -> None:
        self._length = seq_len
        self._counted = np.arange(seq_len, dtype=_POSITION)
        self._positions = Extents()
        self._positions.keep(0, [self._counted])

    def pieces(self, bins: Bins, first_document: int) -> tuple[IntArray, IntArray]:
        """List the pieces of the sequences of a shard, with padding.

        Args:
            bins: The sequences, at least one.
            first_document: Id of the first document of the shard.

        Returns:
            Number of the first piece of each sequence, and of all pieces: int64 of shape (sequences + 1,); and the id
            of the document, -1 for padding, and the tokens of each piece: int64 of shape (pieces, 2).
        """
        (documents, _, lengths), firsts = bins.padded(self._length)
        ids = np.where(documents < 0, -1, documents + first_document)
        return firsts, np.stack([ids, lengths], axis=1)

    def field(self, name: str, pieces: IntArray) -> AnyArray:
        """Give a field of sequences.

        Args:
            name: Of the field.
            pieces: Of the sequences, end to end, int64 of shape (pieces, 2): document and tokens.

        Returns:
            ``document_ids`` or ``positions``, (n, seq_len), or ``cu_seqlens``, (pieces + 1,).
        """
        documents, lengths = pieces.T
        if name == "cu_seqlens":
            borders = np.zeros(len(pieces) + 1, np.int32)
            np.cumsum(lengths, dtype=borders.dtype, out=borders[1:])
            return borders
        if name == "document_ids":
            ids: AnyArray = documents.repeat(lengths)
            return ids.reshape(-1, self._length)
        # Every piece has the first of the numbers from 0 on.
        extents = np.full(pieces.shape, address_of(self._counted))
        extents[:, 1] += lengths * _POSITION.itemsize
        return self._positions.copy(extents, _POSITION).reshape(-1, self._length)
