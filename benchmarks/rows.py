"""The rows that every peer gets: drawn once from a seed, stored as plain arrays, loaded with NumPy alone.

A directory of rows holds ``rows.json`` and, per column, ``NAME.npy`` (rows of equal size) or the pair
``NAME.offsets.npy`` and ``NAME.bytes`` (ragged). Peers load this directory instead of drawing the rows themselves,
because NumPy promises the same random stream only within one version.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from benchmarks.photos import cut_photographs

#: Pixels of the side of what is cut out of a JPEG.
CROP = 224

Sample = dict[str, object]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Byte strings of unequal length: string ``i`` is ``content[offsets[i]:offsets[i + 1]]``."""

    content: np.ndarray  # uint8 of shape (num_bytes,)
    offsets: np.ndarray  # int64 of shape (n + 1,)

    @classmethod
    def of(cls, strings: list[bytes]) -> "Ragged":
        offsets = np.zeros(len(strings) + 1, np.int64)
        np.cumsum([len(string) for string in strings], out=offsets[1:])
        return cls(np.frombuffer(b"".join(strings), np.uint8), offsets)

    def __getitem__(self, i: int) -> bytes:
        return self.content[self.offsets[i] : self.offsets[i + 1]].tobytes()


Column = np.ndarray | Ragged


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKind:
    """One kind of row: what its columns are called in mosaic's terms, and how to draw n of them."""

    encodings: Mapping[str, str]
    draw: Callable[[np.random.Generator, int], dict[str, Column]]
    default_n: int  # enough for epochs of the fastest peer to be worth timing, few enough for the slowest


# fmt: off
_WORDS = [
    "a", "the", "of", "stream", "shard", "batch", "arrow", "sample", "column", "gradient", "tensor", "epoch", "resume",
    "shuffle", "window", "cache", "bucket", "latency", "throughput", "deterministic", "naïve", "façade", "über",
    "données", "größer", "строка", "данные", "矢印", "データ", "🏹",
]
# fmt: on


def _draw_table(rng: np.random.Generator, n: int) -> dict[str, Column]:
    words = np.array(_WORDS, dtype=object)
    lengths = rng.integers(10, 90, n)
    picks = np.split(rng.integers(0, len(words), lengths.sum()), np.cumsum(lengths)[:-1])
    return {
        "id": np.arange(n, dtype=np.int64),
        "label": rng.integers(0, 100, n, dtype=np.int64),
        "x": rng.standard_normal((n, 64), dtype=np.float32),
        "text": Ragged.of([" ".join(words[pick]).encode() for pick in picks]),
    }


def _draw_tokens(rng: np.random.Generator, n: int) -> dict[str, Column]:
    return {"id": np.arange(n, dtype=np.int64), "tokens": rng.integers(0, 50_000, (n, 2048), dtype=np.uint16)}


def _draw_image32(rng: np.random.Generator, n: int) -> dict[str, Column]:
    return {
        "id": np.arange(n, dtype=np.int64),
        "image": rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
        "label": rng.integers(0, 10, n, dtype=np.int64),
    }


def _draw_jpeg(rng: np.random.Generator, n: int) -> dict[str, Column]:
    return {
        "id": np.arange(n, dtype=np.int64),
        "image": Ragged.of(cut_photographs(rng, n)),
        "label": rng.integers(0, 1000, n, dtype=np.int64),
    }


# Every kind has a column ``id`` equal to the row's number: that is how a shuffled sample is checked.
ROW_KINDS: dict[str, RowKind] = {
    "table": RowKind(
        encodings={"id": "int", "label": "int", "x": "ndarray:float32:64", "text": "str"},
        draw=_draw_table,
        default_n=20_000,
    ),
    "tokens": RowKind(
        encodings={"id": "int", "tokens": "ndarray:uint16:2048"},
        draw=_draw_tokens,
        default_n=20_000,
    ),
    "image32": RowKind(
        encodings={"id": "int", "image": "ndarray:uint8:32,32,3", "label": "int"},
        draw=_draw_image32,
        default_n=20_000,
    ),
    "jpeg": RowKind(
        encodings={"id": "int", "image": "jpeg", "label": "int"},
        draw=_draw_jpeg,
        default_n=1_024,
    ),
}


class WrongRowError(AssertionError):
    """A peer gave back something else than what was written; its speed is worth nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one directory."""

    encodings: dict[str, str]
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(self.columns["id"])

    def __getitem__(self, i: int) -> Sample:
        return {name: _value(encoding, self.columns[name][i]) for name, encoding in self.encodings.items()}

    def samples(self) -> list[Sample]:
        """All rows, as a program that writes them has them."""
        return [self[i] for i in range(len(self))]

    def check(self, sample: Mapping[str, object]) -> int:
        """Compare a sample (or one row of a collated batch) with the row of its id, and return that id."""
        i = int(sample["id"])
        if set(sample) != set(self.encodings):
            raise WrongRowError(f"row {i} has the columns {sorted(sample)}, expected {sorted(self.encodings)}")
        for name, expected in self[i].items():
            found = sample[name]
            if self.encodings[name] == "jpeg":
                same = _is_picture(found, expected)
            elif isinstance(expected, np.ndarray):
                found = np.asarray(found)
                same = found.dtype == expected.dtype and np.array_equal(found, expected)
            else:
                same = found == expected
            if not same:
                raise WrongRowError(f"row {i}, column {name!r}: read {found!r}, expected {_short(expected)}")
        return i

    def to_arrow(self):
        """The same rows as a ``pyarrow.Table``."""
        import pyarrow as pa

        return pa.table({name: _to_arrow(encoding, self.columns[name]) for name, encoding in self.encodings.items()})


def make_rows(directory: Path, kind: str, n: int, seed: int = 20_240) -> None:
    """Draw n rows of one kind into a new directory."""
    row_kind = ROW_KINDS[kind]
    directory.mkdir(parents=True)
    for name, column in row_kind.draw(np.random.default_rng(seed), n).items():
        if isinstance(column, Ragged):
            np.save(directory / f"{name}.offsets.npy", column.offsets)
            column.content.tofile(directory / f"{name}.bytes")
        else:
            np.save(directory / f"{name}.npy", column)
    (directory / "rows.json").write_text(json.dumps({"kind": kind, "n": n, "encodings": dict(row_kind.encodings)}))


def load_rows(directory: Path) -> Rows:
    """Load the rows that ``make_rows`` stored."""
    encodings = json.loads((directory / "rows.json").read_text())["encodings"]
    return Rows(encodings=encodings, columns={name: _load_column(directory, name) for name in encodings})


def _load_column(directory: Path, name: str) -> Column:
    fixed = directory / f"{name}.npy"
    if fixed.exists():
        return np.load(fixed)
    return Ragged(np.fromfile(directory / f"{name}.bytes", np.uint8), np.load(directory / f"{name}.offsets.npy"))


def crop(pixels):
    """Cut the middle out of pixels, (height, width, channels): what a step of training takes of a JPEG."""
    top, left = (pixels.shape[0] - CROP) // 2, (pixels.shape[1] - CROP) // 2
    return pixels[top : top + CROP, left : left + CROP]


def _is_picture(found: object, content: bytes) -> bool:
    """Compare a file, or all pixels or the crop of an image, with a file."""
    if isinstance(found, bytes):
        return found == content
    from PIL import Image

    expected = np.asarray(Image.open(BytesIO(content)))
    pixels = np.asarray(found)
    return np.array_equal(pixels, expected) or np.array_equal(pixels, crop(expected))


def _short(value: object) -> str:
    return f"{repr(value)[:80]}"


def _value(encoding: str, stored: object) -> object:
    if encoding == "int":
        return int(stored)
    return stored.decode() if encoding == "str" else stored


def _to_arrow(encoding: str, column: Column):
    import pyarrow as pa

    if isinstance(column, Ragged):
        offsets = pa.py_buffer(column.offsets.astype(np.int32))
        arrow_type = pa.string() if encoding == "str" else pa.binary()
        return pa.Array.from_buffers(arrow_type, len(column.offsets) - 1, [None, offsets, pa.py_buffer(column.content)])
    if column.ndim > 1:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(column)
    return pa.array(column)
