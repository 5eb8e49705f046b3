"""The samples of the golden datasets: made here by the recorder, and made again by the tests that read them.

Needs NumPy and Pillow alone, so that it runs in either's environment. Column names are the encodings themselves.
"""

from decimal import Decimal
from io import BytesIO

import numpy as np
from PIL import Image

NUM_SAMPLES = 6
DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "uint32", "int32", "float32", "uint64", "int64", "float64")
MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F")
SHAPES = ((3,), (2, 3), (1, 2, 1, 2), (300,), (1,), (70, 1))

_VALUES = {
    "bytes": [b"", b"\0\xff", b"x" * 999, b"a", bytes(range(256)), b"\n"],
    "str": ["", "text", "Grüße, 世界 🎉", "zero \0 inside", "x" * 500, "\n"],
    "int": [0, -1, 2**63 - 1, -(2**63), 7, 8],
    "str_int": [0, -(10**30), 7, 10**100, 1, -1],
    "str_float": [0.1, -1e300, float("inf"), float("nan"), 5e-324, 1.0],
    "str_decimal": [Decimal(text) for text in ("1.10", "-1E+500", "0", "NaN", "-Infinity", "123456789.987654321")],
    "json": [{"a": [1, 2.5, None], "ß": "ü"}, [], "text", 3, True, None],
    "pkl": [{"a": (1, 2)}, {1, 2}, "text", None, 1.5, [[]]],
}


def _number(dtype: np.dtype, i: int):
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return dtype.type([limits.min, limits.max, 0, 1, 0.5 if dtype.kind == "f" else 2, 3][i])


def _array(dtype: str, shape: tuple[int, ...], i: int) -> np.ndarray:
    return ((np.arange(np.prod(shape)) * 7 + i) % 101).astype(dtype).reshape(shape)


def _image(mode: str, i: int, size: tuple[int, int] = (9, 5)) -> Image.Image:
    width, height = size
    pixels = (np.arange(width * height * 3) * 37 + 11 * i) % 256
    return Image.fromarray(pixels.astype(np.uint8).reshape(height, width, 3)).convert(mode)


def _flat(i: int) -> Image.Image:
    """An image that JPEG keeps almost as it is."""
    return Image.new("RGB" if i % 2 else "L", (16, 8), (40 * i, 100, 200) if i % 2 else 30 * i)


def _jpeg_file(i: int) -> bytes:
    content = BytesIO()
    _flat(i).save(content, format="JPEG")
    return content.getvalue()


def value(encoding: str, i: int):
    """Give the value of a column in sample i, as a program has it that writes it."""
    if encoding in _VALUES:
        return _VALUES[encoding][i]
    if encoding in DTYPES:
        return _number(np.dtype(encoding), i)
    head, *config = encoding.split(":")
    if head == "ndarray":
        dtype = config[0] if config else DTYPES[i % len(DTYPES)]
        shape = tuple(map(int, config[1].split(","))) if config[1:] else SHAPES[i % len(SHAPES)]
        return _array(dtype, shape, i)
    images = {
        "pil": lambda: _image(MODES[i % len(MODES)], i),
        "png": lambda: _image("RGBA" if i % 2 else "L", i),
        "jpeg": lambda: _flat(i),
        "jpegarray": lambda: [_jpeg_file(k) for k in range(1 + i % 3)],
        "list[pil]": lambda: [_image(mode, i, (2 + i, 3)) for mode in MODES[: 2 * i]],
        "list[png]": lambda: [_image("RGB", k) for k in range(i % 3)],
        "list[jpeg]": lambda: [_flat(k) for k in range(i % 4)],
    }
    return images[encoding.replace("jpeg_array", "jpegarray")]()


ENCODINGS = (
    *_VALUES, *DTYPES, "ndarray", *(f"ndarray:{dtype}" for dtype in DTYPES),
    *(f"ndarray:{dtype}:{shape}" for dtype, shape in zip(DTYPES, ("2,3", "4", "1", "2,2,2") * 3)),  # noqa: B905
    "pil", "jpeg", "png", "jpegarray", "list[pil]", "list[jpeg]", "list[png]",
)  # fmt: skip
#: Name of a golden dataset -> its compression and hashes. All have all encodings; one has the name that is an alias.
DATASETS = {
    "none": (None, ["sha1", "xxh3_64"]),
    "none-no-hash": (None, []),
    "br": ("br", ["xxh3_64"]),
    "br-3": ("br:3", ["blake2b", "blake2s"]),
    "bz2": ("bz2", ["md5", "sha224"]),
    "bz2-1": ("bz2:1", ["sha256"]),
    "gz": ("gz", ["sha384", "sha3_224", "sha3_256"]),
    "gz-0": ("gz:0", ["sha3_384"]),
    "snappy": ("snappy", ["sha3_512", "sha512"]),
    "zstd": ("zstd", ["xxh128", "xxh32", "xxh3_128"]),
    "zstd-19": ("zstd:19", ["xxh64"]),
}
SIZE_LIMIT = 20_000


def encodings_of(dataset: str) -> tuple[str, ...]:
    """Name the columns of a golden dataset."""
    return (*ENCODINGS, "jpeg_array") if dataset == "none-no-hash" else ENCODINGS


def samples(encodings=ENCODINGS, first: int = 0) -> list[dict]:
    """Make the samples of a dataset."""
    return [{name: value(name, i) for name in encodings} for i in range(first, NUM_SAMPLES)]


def is_same(name: str, found, expected) -> bool:
    """Tell whether a value was read back as it has to be, to the bit but for JPEG's losses."""
    if isinstance(expected, list) and "json" not in name and "pkl" not in name:
        return isinstance(found, list) and len(found) == len(expected) and all(
            is_same(name, *pair) for pair in zip(found, expected)  # noqa: B905
        )  # fmt: skip
    if isinstance(expected, np.ndarray):
        same_kind = isinstance(found, np.ndarray) and (found.dtype, found.shape) == (expected.dtype, expected.shape)
        return same_kind and found.tobytes() == expected.tobytes()
    if "jpeg" in name:
        image = Image.open(BytesIO(expected)) if isinstance(expected, bytes) else expected
        far = np.abs(np.asarray(found, np.int64) - np.asarray(image, np.int64)) if found.mode == image.mode else 255
        return found.format == "JPEG" and bool(np.max(far) < 8)
    if isinstance(expected, Image.Image):
        return (found.mode, found.size, found.tobytes()) == (expected.mode, expected.size, expected.tobytes())
    if isinstance(expected, Decimal):
        return type(found) is Decimal and str(found) == str(expected)
    if isinstance(expected, float | np.floating) and np.isnan(expected):
        return type(found) is type(expected) and bool(np.isnan(found))
    return type(found) is type(expected) and bool(found == expected)
