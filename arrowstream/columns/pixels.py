"""From the bytes of an image to its pixels: the dear half of reading it; decoders hold no lock meanwhile."""

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from arrowstream.columns.buffers import AnyArray
from arrowstream.errors import MissingDependencyError

#: Gives memory for pixels: uint8 of shape (bytes,), of which nobody else writes.
TakeBytes = Callable[[int], AnyArray]


class Late(NamedTuple):
    """What is left to do for a value of which only the stored bytes were read.

    Attributes:
        image: From what was read to PIL images whose pixels are there.
        pixels: From what was read to arrays, (height, width, channels) or (height, width), as NumPy views an image;
            is also given what to ask for their memory.
    """

    image: Callable[[Any], Any]
    pixels: Callable[[Any, TakeBytes], Any]


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


def file_pixels(content: bytes, take: TakeBytes) -> AnyArray:
    """Decode the file of an image to an array that owns its memory."""
    return copied(file_image(content), take)


def copied(image: Any, take: TakeBytes) -> AnyArray:
    """Copy the pixels of a PIL image."""
    pixels: AnyArray = np.asarray(image)
    if pixels.dtype != np.uint8 or not pixels.size:
        return np.array(pixels)
    own = take(pixels.size).reshape(pixels.shape)
    own[:] = pixels
    return own


def jpeg_pixels(content: bytes, take: TakeBytes) -> AnyArray:
    """Decode a JPEG file to an array that owns its memory, with simplejpeg if it is installed.

    Both decoders are libjpeg-turbo with the same settings, and give the same pixels.
    """
    decoder = _simplejpeg()
    if decoder is None:
        return file_pixels(content, take)
    try:
        height, width, colors, _ = decoder.decode_jpeg_header(content)
        if colors == "Gray":
            gray = take(height * width)
            decoder.decode_jpeg(content, "GRAY", buffer=gray)
            return gray.reshape(height, width)
        if colors in {"YCbCr", "RGB"}:
            pixels = take(height * width * 3)
            decoder.decode_jpeg(content, "RGB", buffer=pixels)
            return pixels.reshape(height, width, 3)
    except ValueError:
        pass  # a rare subsampling, or a broken file: Pillow decodes it, or says what is wrong
    return file_pixels(content, take)
