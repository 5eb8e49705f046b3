"""Whole batches: rows are gathered, images decoded, and all columns brought into the form that was asked for."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from arrowstream.batch_forms import BatchForm, Texts, lay_end_to_end, pad
from arrowstream.bound_columns import Gathered, Rows
from arrowstream.columns import Encoding
from arrowstream.errors import EncodingError, MissingDependencyError
from arrowstream.gather import Gatherer
from arrowstream.padding import PADDING
from arrowstream.per_process import PerProcess
from arrowstream.prefetch import Prefetcher
from arrowstream.reader import Reader
from arrowstream.recycled import RecycledMemory

IntArray = npt.NDArray[np.int64]
Place = tuple[IntArray, IntArray, IntArray]  # ids, shards and rows of samples, each of shape (n,)
Images = Literal["pil", "array"]
RaggedForm = Literal["offsets", "pad"]

# Images of a batch or two.
_MOST_SPARE = 512
_NUM_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_pool = PerProcess(lambda: ThreadPoolExecutor(_NUM_CORES, thread_name_prefix="arrowstream-decode"))


class BatchReader(Protocol):
    """What reads batches."""

    def read(
        self, ids: IntArray, shards: IntArray, rows: IntArray, batch_size: int, prefetcher: Prefetcher | None
    ) -> Iterator[Any]:
        """Read samples batch by batch, each when it is asked for.

        Args:
            ids: Of the samples, int64 of shape (n,).
            shards: Shard of each, int64 of shape (n,).
            rows: Row of each in its shard, int64 of shape (n,).
            batch_size: Samples of each batch but the last.
            prefetcher: Was asked for the shards.
        """

    def marked(self, batch: Any, padding: npt.NDArray[np.bool_]) -> Any:
        """Give the batch with a column that says which samples are padding, bool of shape (n,)."""


class ArrowBatchReader:
    """Reads batches as tables of Arrow, which know every type and every null."""

    def __init__(self, reader: Reader, columns: Sequence[str] | None) -> None:
        self._reader = reader
        self._columns = reader.check_columns(columns)

    def read(
        self, ids: IntArray, shards: IntArray, rows: IntArray, batch_size: int, prefetcher: Prefetcher | None
    ) -> Iterator[pa.Table]:
        """Read tables that own their memory."""
        del shards, rows
        for start in range(0, max(len(ids), 1), batch_size):
            yield self._reader.take(ids[start : start + batch_size], self._columns, prefetcher)

    def marked(self, batch: pa.Table, padding: npt.NDArray[np.bool_]) -> pa.Table:
        """Add the column."""
        return batch.append_column(PADDING, pa.array(padding))


class ColumnBatchReader:
    """Reads batches as dictionaries of columns. One thread at a time may use it.

    Args:
        gatherer: Reads the columns that are wanted; nobody else uses it.
        form: What to make of them.
        images: What images become: of PIL, or arrays of pixels; lists of these, because sizes differ.
        ragged: What arrays of many shapes become: end to end with offsets, or padded. None: as the form has them.
        num_threads: That decode images.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        form: BatchForm,
        *,
        images: Images,
        ragged: RaggedForm | None,
        num_threads: int | None,
    ) -> None:
        self._gatherer = gatherer
        self._form = form
        self._images = images
        self._ragged = ragged
        self._num_threads = min(num_threads or _NUM_CORES, _NUM_CORES)
        self._recycled = RecycledMemory(_MOST_SPARE)  # for pixels

    def read(
        self, ids: IntArray, shards: IntArray, rows: IntArray, batch_size: int, prefetcher: Prefetcher | None
    ) -> Iterator[dict[str, Any]]:
        """Read columns that own their memory."""
        del ids
        encodings = self._gatherer.encodings
        for gathered in self._gatherer.gather(shards, rows, batch_size, prefetcher):
            yield {name: self._column(name, encodings[name], values) for name, values in gathered.items()}

    def marked(self, batch: dict[str, Any], padding: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Add the column."""
        return {**batch, PADDING: self._form.array(padding)}

    def _column(self, name: str, encoding: Encoding, values: Gathered) -> Any:
        form = self._form
        if isinstance(values, Rows):
            return form.rows(name, values.values, values.valid)
        if isinstance(values, Texts):
            return form.texts(name, values)
        late = encoding.late()
        if late is not None and self._images == "pil":
            return _decode(name, late.image, values, self._num_threads)
        if late is not None:
            take, to_pixels = self._recycled.take, late.pixels
            decoded = _decode(name, lambda content: to_pixels(content, take), values, self._num_threads)
            return [_arrays(form, pixels) for pixels in decoded]
        if encoding.ragged and self._ragged == "offsets":
            laid = lay_end_to_end(name, values)
            return laid._replace(values=form.array(laid.values), offsets=form.array(laid.offsets))
        if encoding.ragged and self._ragged == "pad":
            padded = pad(name, values)
            return padded._replace(values=form.array(padded.values), shapes=form.array(padded.shapes))
        return form.objects(name, values)


def make_batch_reader(
    reader: Reader,
    columns: Sequence[str] | None,
    form: BatchForm | None,
    *,
    images: Images,
    ragged: RaggedForm | None,
    num_threads: int | None,
) -> BatchReader:
    """Make what reads batches in one form; its other arguments are those of ``StreamingDataset.batches``.

    Args:
        reader: Opens the shards.
        columns: The columns to read; None: all.
        form: What ``form_for`` gave.
        images: What images become.
        ragged: What arrays of many shapes become.
        num_threads: That decode images.

    Raises:
        ValueError: An argument has an unknown value.
        MissingColumnError: There is no such column.
    """
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; expected at least 1")
    _check_one_of("images", images, ("pil", "array"))
    _check_one_of("ragged", ragged, (None, "offsets", "pad"))
    if form is None:
        return ArrowBatchReader(reader, columns)
    gatherer = Gatherer(reader, columns, form.make_window)
    return ColumnBatchReader(gatherer, form, images=images, ragged=ragged, num_threads=num_threads)


def form_for(as_: str, forms: Mapping[str, BatchForm]) -> BatchForm | None:
    """Choose the form of a batch; None for Arrow's own.

    Raises:
        ValueError: There is no such form.
        MissingDependencyError: Tensors are wanted, and the forms that the dataset knows are without them.
    """
    _check_one_of("as_", as_, ("torch", "numpy", "arrow"))
    if as_ != "arrow" and as_ not in forms:
        raise MissingDependencyError(
            "batches of tensors need torch: install it with pip install 'arrowstream[torch]' and take the dataset "
            "from arrowstream itself, or pass as_='numpy' or as_='arrow'"
        )
    return forms.get(as_)


def check_batch_size(batch_size: int | None) -> int:
    """Give the samples of a batch.

    Raises:
        ValueError: There is no such number, or it is below 1.
    """
    if batch_size is None:
        raise ValueError("Please pass `batch_size`, here or to the dataset.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    return batch_size


def whole_batches(places: Iterable[Place], batch_size: int) -> Iterator[Place]:
    """Cut a sequence of samples, given in pieces of any size, between batches; the last one may be short."""
    left: Place | None = None
    for piece in places:
        joined = piece if left is None else tuple(map(np.concatenate, zip(left, piece, strict=True)))
        ids, shards, rows = joined
        whole = len(ids) - len(ids) % batch_size
        if whole:
            yield ids[:whole], shards[:whole], rows[:whole]
        left = (ids[whole:], shards[whole:], rows[whole:]) if whole < len(ids) else None
    if left is not None:
        yield left


def _arrays(form: BatchForm, pixels: Any) -> Any:
    if isinstance(pixels, list):
        return [form.array(each) for each in pixels]
    return form.array(pixels) if pixels is not None else None


def _decode(column: str, decode: Callable[[Any], Any], values: list[Any], num_threads: int) -> list[Any]:
    """Decode values that are not None, in threads, in their order."""
    decoded: list[Any] = [None] * len(values)

    def decode_every(first: int, step: int) -> None:
        for row in range(first, len(values), step):
            if values[row] is None:
                continue
            try:
                decoded[row] = decode(values[row])
            except Exception as error:  # whatever a decoder raises for a broken file
                raise EncodingError(f"column {column!r}: row {row} of the batch does not decode ({error!r})") from error

    if num_threads == 1:
        decode_every(0, 1)
    else:
        for _ in _pool.get().map(decode_every, range(num_threads), [num_threads] * num_threads):
            pass
    return decoded


def _check_one_of(name: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, known))}")
