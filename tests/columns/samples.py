"""For every encoding, a few values as they are read back."""

import datetime as dt
from decimal import Decimal
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
from PIL import Image


def _image(mode: str, size: tuple[int, int] = (5, 3)) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


def arrays(dtype: Any, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    made = []
    for shape in shapes:
        count = int(np.prod(shape))
        made.append((np.arange(count) % 7).astype(dtype).reshape(shape))
    return made


ANY_SHAPE = [(), (3,), (0,), (2, 0, 3), (2, 3), (300, 1)]

SAMPLES: dict[Any, list[Any]] = {
    "int": [0, -1, 2**63 - 1, -(2**63)],
    **{name: [np.dtype(name).type(v) for v in (0, 1, 100)] for name in ("int8", "int16", "int32", "int64")},
    **{name: [np.dtype(name).type(v) for v in (0, 1, 200)] for name in ("uint8", "uint16", "uint32", "uint64")},
    **{name: [np.dtype(name).type(v) for v in (0.5, -1, np.inf, np.nan)] for name in ("float16", "float32", "float64")},
    "bool": [True, False, True],
    "str": ["", "text", "Grüße, 世界 🎉", "zero \0 inside"],
    "str_int": [0, -(10**30), 7],
    "str_float": [0.1, -1e300, float("nan")],
    "str_decimal": [Decimal("1.10"), Decimal("-1e500")],
    "bytes": [b"", b"\0\xff", b"x" * 1000],
    "ndarray": [*arrays("float32", *ANY_SHAPE), *arrays("int8", (70000,)), *arrays("bool", (3,)), np.array(1j)],
    **{f"ndarray:{dtype}": arrays(dtype, *ANY_SHAPE) for dtype in ("float16", "int64", "uint8", "bool")},
    "ndarray:bfloat16": arrays(ml_dtypes.bfloat16, *ANY_SHAPE),
    **{f"ndarray:{dtype}:2,3": arrays(dtype, (2, 3), (2, 3)) for dtype in ("float16", "float32", "uint64", "bool")},
    "ndarray:bfloat16:2,3": arrays(ml_dtypes.bfloat16, (2, 3), (2, 3)),
    "ndarray:float32:4": arrays("float32", (4,), (4,)),
    "png": [_image("RGB"), _image("L"), _image("RGBA")],
    "image": [_image("RGB"), _image("L"), _image("RGBA")],
    "pil": [_image(mode) for mode in ("1", "L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F")],
    "list[png]": [[_image("RGB"), _image("L")], [], [_image("L", (1, 1))]],
    "list[pil]": [[_image("RGB"), _image("L")], [], [_image("F", (1, 1))]],
    "json": [{"a": [1, 2.5, None]}, [], "text", 3, True],
    "pkl": [{"a": (1, 2)}, {1, 2}, b"bytes"],
    pa.int64(): [np.int64(1), np.int64(-5)],
    pa.float32(): [np.float32(1.5)],
    pa.bool_(): [True, False],
    pa.string(): ["a", "ß"],
    pa.large_string(): ["a", "ß"],
    pa.string_view(): ["a", "a text too long to stand inside of the view", "ß"],
    pa.binary(): [b"a", b""],
    pa.large_binary(): [b"a", b""],
    pa.binary_view(): [b"a", b"", b"bytes too long to stand inside of the view"],
    pa.binary(2): [b"ab", b"cd"],
    pa.timestamp("us"): [dt.datetime(2020, 1, 2, 3, 4, 5, 6)],
    pa.timestamp("ms", "UTC"): [dt.datetime(2020, 1, 2, tzinfo=dt.UTC)],
    pa.date32(): [dt.date(2020, 1, 2)],
    pa.duration("us"): [dt.timedelta(seconds=3)],
    pa.decimal128(10, 2): [Decimal("1.25"), Decimal("-3.00")],
    pa.dictionary(pa.int32(), pa.string()): ["a", "b", "a"],
    pa.list_(pa.int32()): [[1, 2], [], [3]],
    pa.large_list(pa.string_view()): [["a"], []],
    pa.struct({"a": pa.string(), "b": pa.list_(pa.float64())}): [{"a": "x", "b": [1.0]}, {"a": None, "b": None}],
    pa.map_(pa.string(), pa.int64()): [[("a", 1)], []],
    pa.fixed_shape_tensor(pa.float32(), (2, 2)): arrays("float32", (2, 2), (2, 2)),
    pa.fixed_shape_tensor(pa.float32(), (2, 2), dim_names=["x", "y"]): arrays("float32", (2, 2), (2, 2)),
    pa.null(): [],
}
