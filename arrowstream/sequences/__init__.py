"""Sequences of tokens: the documents of each shard, concatenated or packed to one length, as samples of a plan.

Every shard has its own sequences, so that a sequence is a row of a shard like any sample: an order, a resume and a
share of the epoch are what they are for samples, and no document is sought outside its shard.

* :mod:`arrowstream.sequences.packing`: lengths of documents -> sequences. Pure functions.
* :mod:`arrowstream.sequences.tokens`: the column of a shard -> tokens and documents.
* :mod:`arrowstream.sequences.counts`: how many sequences each shard has, known without the shards.
* :mod:`arrowstream.sequences.reader`: sequence -> tokens, one at a time.
* :mod:`arrowstream.sequences.extents`: parts of arrays, anywhere in memory -> one array.
* :mod:`arrowstream.sequences.piece_table`: sequences -> what is known of their pieces, a batch at a time.
* :mod:`arrowstream.sequences.packed`, :mod:`arrowstream.sequences.cut`: sequences of best fit, or concatenated -> their
  tokens, a batch at a time.
* :mod:`arrowstream.sequences.borders`: pieces -> documents, positions and borders.
* :mod:`arrowstream.sequences.gather`: sequences -> batches.
* :mod:`arrowstream.sequences.dataset`: the dataset.
"""

from arrowstream.sequences.counts import pack_sequences
from arrowstream.sequences.dataset import SequenceDataset
from arrowstream.sequences.packing import Packing

__all__ = ["Packing", "SequenceDataset", "pack_sequences"]
