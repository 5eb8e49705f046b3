"""From the bytes of a column's values to an Arrow array of its encoding, many rows at a time.

All that a value claims of itself (dimensions, counts, sizes, modes) is compared with the bytes that it has, before
anything is allocated by it.
"""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.columns import Encoding
from arrowstream_mosaic.arrays import check_headed, shaped_array
from arrowstream_mosaic.cells import BadValueError, Cells, IntArray, content, ends_of, narrow, refuse, row_ends

Decode = Callable[[Cells, Encoding], pa.Array]

_PLAIN_NUMBERS: Mapping[str, tuple[str, Callable[[str], object]]] = MappingProxyType(
    {
        "str_int": (r"^-?[0-9]{1,1000}$", int),
        "str_float": (r"^-?([0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|inf)$|^nan$", float),
        "str_decimal": (r"^-?([0-9]+(\.[0-9]+)?(E[-+]?[0-9]{1,9})?|Infinity)$|^NaN$", Decimal),
    }
)
# Bytes of a pixel in each of Pillow's modes; the pixels of mode 1 are bits, and its rows begin at whole bytes.
_PIXEL_BYTES = {"L": 1, "P": 1, "LA": 2, "PA": 2, "La": 2, "RGB": 3, "YCbCr": 3, "LAB": 3, "HSV": 3}
_PIXEL_BYTES |= {"RGBA": 4, "RGBX": 4, "RGBa": 4, "CMYK": 4, "I": 4, "F": 4}
_PIXEL_BYTES |= dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), 2)
_PIL_HEADER = 12  # width, height, length of the mode's name
_MAX_MODE = 8


def decode(cells: Cells, encoding: Encoding) -> pa.Array:
    """Turn the values of a column into an array of the encoding's Arrow type.

    Raises:
        BadValueError: A value is not what its encoding makes.
    """
    name = encoding.name
    if name in _DECODERS:
        return _DECODERS[name](cells, encoding)
    if not name.startswith("ndarray:"):
        return pa.Array.from_buffers(encoding.arrow_type, len(cells), [None, _fixed(cells)])
    if name.count(":") == 1:
        return shaped_array(cells, encoding)
    return _tensors(cells, encoding)


def _fixed(cells: Cells) -> pa.Buffer:
    return pa.py_buffer(cells.head(int(cells.sizes[0]) if len(cells) else 0))


def _tensors(cells: Cells, encoding: Encoding) -> pa.Array:
    storage_type = encoding.arrow_type.storage_type
    size = storage_type.list_size
    elements = pa.Array.from_buffers(storage_type.value_type, len(cells) * size, [None, _fixed(cells)])
    storage = pa.Array.from_buffers(storage_type, len(cells), [None], children=[elements])
    return pa.ExtensionArray.from_storage(encoding.arrow_type, storage)


def _binary(cells: Cells, encoding: Encoding) -> pa.Array:
    gathered = cells.gather()
    if not len(cells):
        return pa.array([], encoding.arrow_type)
    buffers = [None, narrow(row_ends(gathered)), gathered.buffers()[2]]
    return pa.Array.from_buffers(encoding.arrow_type, len(cells), buffers)


def _text(cells: Cells, encoding: Encoding) -> pa.Array:
    array = _binary(cells, encoding)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        found = re.search(r"index (\d+)", str(error))
        raise BadValueError(int(found[1]) if found else 0, "is not UTF-8") from error
    return array


def _number_text(cells: Cells, encoding: Encoding) -> pa.Array:
    array = _text(cells, encoding)
    pattern, number = _PLAIN_NUMBERS[encoding.name]
    unusual = np.flatnonzero(~pc.match_substring_regex(array, pattern).to_numpy(zero_copy_only=False))
    for row in unusual.tolist():
        text = array[row].as_py()
        try:
            number(text)
        except (ValueError, InvalidOperation) as error:
            raise BadValueError(row, f"is not a number that {encoding.name} writes, but {text[:40]!r}") from error
    return array


def _json(cells: Cells, encoding: Encoding) -> pa.Array:
    array = _text(cells, encoding)
    for row, text in enumerate(array.to_pylist()):
        try:
            json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadValueError(row, f"is not JSON ({error})") from error
    return array


def _headed(cells: Cells, encoding: Encoding) -> pa.Array:
    check_headed(cells)
    return _binary(cells, encoding)


def _pil(cells: Cells, encoding: Encoding) -> pa.Array:
    _check_pixels(cells)
    return _binary(cells, encoding)


def _check_pixels(cells: Cells) -> None:
    """Compare width, height and mode with the pixels that are there: PIL allocates by what they say."""
    header = cells.head(_PIL_HEADER).view("<u4").astype(np.int64)  # (rows, 3)
    refuse(header[:, 2] > _MAX_MODE, "names a mode that Pillow does not have")
    behind = cells.behind(_PIL_HEADER)
    modes = behind.front(header[:, 2]).gather().dictionary_encode()
    pixels = behind.behind(header[:, 2]).sizes
    which = modes.indices.to_numpy()
    for number, name in enumerate(modes.dictionary.to_pylist()):
        of_mode = which == number
        mode = name.decode("latin-1")
        if mode != "1" and mode not in _PIXEL_BYTES:
            refuse(of_mode, f"has the mode {mode!r}, which Pillow does not have")
        # Widths and heights have 32 bits: their product may pass 63.
        width, height = header[:, 0].astype(np.float64), header[:, 1].astype(np.float64)
        expected = np.ceil(width / 8) * height if mode == "1" else width * height * _PIXEL_BYTES[mode]
        refuse(of_mode & (expected != pixels), "has another number of pixels than its width and height")


def _image_list(cells: Cells, encoding: Encoding) -> pa.Array:
    # Lists begin with a word that has no meaning yet; the older jpegarray has none.
    listed = cells if encoding.name == "jpegarray" else cells.behind(4)
    counts = listed.head(4).view("<u4").astype(np.int64).reshape(len(cells))
    listed = listed.behind(4)
    sizes = listed.front(4 * counts).joined().view("<u4").astype(np.int64)  # (images of all rows,)
    images = listed.behind(4 * counts)
    first = ends_of(counts)
    ends = ends_of(sizes)
    refuse(ends[first[1:]] - ends[first[:-1]] != images.sizes, "holds images whose sizes do not add up to its own")
    gathered = images.gather()
    if encoding.name == "list[pil]":
        _check_listed_pixels(gathered, ends, first)
    items = pa.Array.from_buffers(pa.binary(), len(sizes), [None, narrow(ends), pa.py_buffer(content(gathered))])
    return pa.Array.from_buffers(encoding.arrow_type, len(cells), [None, narrow(first)], children=[items])


def _check_listed_pixels(gathered: pa.Array, ends: IntArray, first: IntArray) -> None:
    try:
        _check_pixels(Cells(pa.py_buffer(content(gathered)), ends[:-1], ends[1:]))
    except BadValueError as error:
        row = int(np.searchsorted(first, error.row, "right")) - 1
        raise BadValueError(row, f"holds an image that {error.reason}") from error


def _named(decoder: Decode, *names: str) -> dict[str, Decode]:
    return dict.fromkeys(names, decoder)


_DECODERS: Mapping[str, Any] = MappingProxyType(
    {
        **_named(_binary, "bytes", "jpeg", "png", "pkl"),
        **_named(_text, "str"),
        **_named(_number_text, *_PLAIN_NUMBERS),
        **_named(_image_list, "jpegarray", "list[jpeg]", "list[png]", "list[pil]"),
        **_named(_json, "json"),
        **_named(_headed, "ndarray"),
        **_named(_pil, "pil"),
    }
)
