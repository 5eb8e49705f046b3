"""Images: files of JPEG or PNG as they are, raw pixels, and lists of these. Each row is decoded when it is read."""

import struct
from abc import abstractmethod
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.columns.arrow_types import is_bytes
from arrowstream.columns.buffers import offsets
from arrowstream.columns.describe import describe
from arrowstream.columns.encoding import Encoding, RowReader
from arrowstream.columns.parsing import named
from arrowstream.columns.pixels import Late, copied, file_image, file_pixels, jpeg_pixels, pillow
from arrowstream.columns.text import SLICE, BinaryEncoding, BytesEncoding, slices
from arrowstream.errors import EncodingError

_MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}
_PIL_HEADER = struct.Struct("<III")  # width, height, length of the mode's name


class ImageEncoding(BinaryEncoding):
    """Images as bytes; ``read`` turns the bytes of one into a PIL image."""

    read: Callable[[memoryview], Any]

    def stored(self) -> Encoding:
        """Read the bytes of the images."""
        return BytesEncoding()

    @abstractmethod
    def late(self) -> Late:
        """Turn the bytes of one into an image."""

    def _reader(self, array: pa.Array) -> RowReader:
        return RowReader(f"$read({SLICE})", {**slices(array), "read": named(self.read, self.name)})

    def _image(self, value: Any) -> Any:
        if not isinstance(value, pillow().Image):
            hint = "; wrap it in Image.fromarray" if hasattr(value, "__array__") else ""
            raise EncodingError(f"expected an image of PIL, got {describe(value)}{hint}")
        return value


class ImageFileEncoding(ImageEncoding):
    """Images as JPEG or PNG files; encoded bytes are taken as they are, and so is the file of an untouched JPEG."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._magic = _MAGIC[name]

    def encode(self, value: Any) -> object:
        """Take a PIL image, or the bytes of a file of this kind."""
        if isinstance(value, bytes | bytearray | memoryview):
            content = bytes(value)
            if not content.startswith(self._magic):
                raise EncodingError(
                    f"expected an image of PIL or the bytes of a {self.name} file, got {describe(value)}"
                )
            return content
        image = self._image(value)
        original = _untouched_file(image) if self.name == "jpeg" else None
        return original or _saved(image, self.name)

    def late(self) -> Late:
        """Decode files."""
        return Late(image=file_image, pixels=jpeg_pixels if self.name == "jpeg" else file_pixels)

    @staticmethod
    def read(content: memoryview) -> Any:
        """Open a file of which the pixels are decoded when they are asked for."""
        return pillow().open(BytesIO(content))

    def _takes(self, arrow_type: pa.DataType) -> bool:
        return is_bytes(arrow_type)

    def _from_arrow(self, array: pa.Array) -> pa.Array:
        column = super()._from_arrow(array)
        row = pc.index(pc.starts_with(column, self._magic), False).as_py()
        if row >= 0:
            got = describe(column[row].as_py())
            raise EncodingError(f"row {row}: expected the bytes of a {self.name} file, got {got}")
        return column


class AnyImageEncoding(ImageEncoding):
    """Files of images of any kind that Pillow opens, as they are (``image``)."""

    def __init__(self) -> None:
        super().__init__("image")

    def encode(self, value: Any) -> object:
        """Take the bytes of a file, or a PIL image: one that was opened from a JPEG as it is, others as PNG."""
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        image = self._image(value)
        return _untouched_file(image) or _saved(image, "png")

    def late(self) -> Late:
        """Decode files."""
        return Late(image=file_image, pixels=file_pixels)

    @staticmethod
    def read(content: memoryview) -> Any:
        """Open a file of which the pixels are decoded when they are asked for."""
        return pillow().open(BytesIO(content))


class PixelsEncoding(ImageEncoding):
    """Raw pixels (``pil``): width, height and the length of the mode's name as uint32, the mode, the pixels."""

    def __init__(self) -> None:
        super().__init__("pil")

    def encode(self, value: Any) -> object:
        """Take a PIL image without a palette."""
        image = self._image(value)
        if image.mode in {"P", "PA"}:
            raise EncodingError(
                f"expected an image without a palette, got mode {image.mode!r}; "
                "convert it first: image.convert('RGB') or image.convert('RGBA')"
            )
        _load(image)
        mode = image.mode.encode()
        return _PIL_HEADER.pack(*image.size, len(mode)) + mode + image.tobytes()

    def late(self) -> Late:
        """Copy the pixels."""
        return Late(image=_read_pixels, pixels=lambda content, take: copied(_read_pixels(content), take))

    @staticmethod
    def read(content: memoryview) -> Any:
        """Make an image of the pixels."""
        width, height, length = _PIL_HEADER.unpack_from(content)
        start = _PIL_HEADER.size + length
        mode = content[_PIL_HEADER.size : start].tobytes().decode()
        return pillow().frombytes(mode, (width, height), content[start:].tobytes())


def _read_pixels(content: bytes) -> Any:
    return PixelsEncoding.read(memoryview(content))


class ImageListEncoding(Encoding):
    """A list of images a sample, each stored as in a column of its own."""

    def __init__(self, name: str, image: ImageEncoding, read: Callable[[memoryview], Any] | None = None) -> None:
        super().__init__(name, pa.list_(pa.binary()))
        self._item = image
        self._read = read or image.read

    def encode(self, value: Any) -> object:
        """Take a sequence, which may be empty, of what a column of one image takes."""
        if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Iterable):
            raise EncodingError(f"expected a list of images, got {describe(value)}")
        images: list[object] = []
        try:
            for image in value:
                images.append(self._item.encode(image))  # noqa: PERF401 (its length is the position)
        except EncodingError as error:
            raise EncodingError(f"image {len(images)}: {error}") from error
        return images

    def stored(self) -> Encoding:
        """Read lists of the bytes of the images."""
        return ImageListEncoding(self.name, self._item, read=bytes)

    def late(self) -> Late:
        """Decode each image of a list."""
        image, pixels = self._item.late()
        return Late(
            image=lambda contents: [image(content) for content in contents],
            pixels=lambda contents, take: [pixels(content, take) for content in contents],
        )

    def _reader(self, array: pa.Array) -> RowReader:
        item = "$data[$offset[i]:$offset[i + 1]]"
        return RowReader(
            f"[$read({item}) for i in range($first[r], $first[r + 1])]",
            {**slices(array.values), "first": offsets(array), "read": named(self._read, self.name)},
        )

    def _takes(self, arrow_type: pa.DataType) -> bool:
        is_list = pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)
        return bool(is_list) and is_bytes(arrow_type.value_type)


def _load(image: Any) -> None:
    try:
        image.load()
    except Exception as error:  # whatever a decoder raises for a broken or closed file
        raise EncodingError(f"expected an image with pixels, got {describe(image)}: {error!r}") from error


def _saved(image: Any, name: str) -> bytes:
    _load(image)
    content = BytesIO()
    try:
        image.save(content, format=name)
    except (OSError, ValueError) as error:
        raise EncodingError(
            f"expected an image that {name} can hold, got one of mode {image.mode!r}: {error}"
        ) from error
    return content.getvalue()


def _untouched_file(image: Any) -> bytes | None:
    """Read the file that a JPEG was opened from, unless its pixels may have been edited since.

    Whatever edits an image in place loads its pixels, which empties ``tile``, or (``draft``) changes its size or mode.
    """
    from PIL.JpegImagePlugin import JpegImageFile

    file = image.fp if isinstance(image, JpegImageFile) else None
    if file is None or file.closed or not image.tile or image.tell():
        return None
    position = file.tell()
    file.seek(0)
    content: bytes = file.read()
    file.seek(position)
    with pillow().open(BytesIO(content)) as original:
        same = original.size == image.size and original.mode == image.mode
    return content if same else None
