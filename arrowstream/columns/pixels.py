"""From the bytes of an image to its pixels: the dear half of reading it; decoders hold no lock meanwhile."""

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from arrowstream.columns.buffers import AnyArray
from arrowstream.errors import MissingDependencyError


class Late(NamedTuple):
    """What is left to do for a value of which only the stored bytes were read.

    Attributes:
        image: From what was read to PIL images whose pixels are there.
        pixels: From what was read to arrays, (height, width, channels) or (height, width), as NumPy views an image.
    """

    image: Callable[[Any], Any]
    pixels: Callable[[Any], Any]


@cache
def pillow() -> Any:
    """The module PIL.Image.

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    try:
        from PIL import Image, JpegImagePlugin  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "columns of images need Pillow; install it with: pip install 'arrowstream[images]'"
        ) from error
    return Image


@cache
def _simplejpeg() -> Any | None:
    """Give the decoder that takes half of Pillow's time, to the same pixels; None where it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def file_image(content: bytes) -> Any:
    """Decode the file of an image with Pillow."""
    image = pillow().open(BytesIO(content))
    image.load()
    return image


def file_pixels(content: bytes) -> AnyArray:
    """Decode the file of an image to an array that owns its memory."""
    return np.array(file_image(content))


def jpeg_pixels(content: bytes) -> AnyArray:
    """Decode a JPEG file to an array that owns its memory, with simplejpeg if it is installed.

    Both decoders are libjpeg-turbo with the same settings, and give the same pixels.
    """
    decoder = _simplejpeg()
    if decoder is None:
        return file_pixels(content)
    try:
        colors = decoder.decode_jpeg_header(content)[2]
        if colors == "Gray":
            gray: AnyArray = decoder.decode_jpeg(content, "GRAY")  # (height, width, 1)
            return gray[:, :, 0]
        if colors in {"YCbCr", "RGB"}:
            pixels: AnyArray = decoder.decode_jpeg(content, "RGB")
            return pixels
    except ValueError:
        pass  # a rare subsampling, or a broken file: Pillow decodes it, or says what is wrong
    return file_pixels(content)
