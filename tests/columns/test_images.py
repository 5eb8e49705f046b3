"""Images: what is stored of an edited JPEG, what is copied, and what is refused."""

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from arrowstream.columns import parse_encoding
from arrowstream.columns.images import pillow
from arrowstream.errors import EncodingError, MissingDependencyError
from tests.columns.reading import read_all, same, written

JPEG = parse_encoding("jpeg")


def noise(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def encoded(kind: str, image: Image.Image | None = None) -> bytes:
    content = BytesIO()
    (image or noise()).save(content, kind)
    return content.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "image.jpg"
    noise().save(path, quality=97)
    return path


def test_the_file_of_an_untouched_jpeg_is_copied(path: Path) -> None:
    with Image.open(path) as image:
        assert JPEG.encode(image) == path.read_bytes()
        assert JPEG.encode(image) == path.read_bytes()
        assert image.getpixel((0, 0)) is not None, "the image can still be loaded"
    assert JPEG.encode(Image.open(BytesIO(path.read_bytes()))) == path.read_bytes()


def test_a_jpeg_edited_in_place_is_stored_as_edited(path: Path) -> None:
    def thumbnail(image: Image.Image) -> None:
        image.thumbnail((32, 32))

    def paint(image: Image.Image) -> None:
        image.paste((255, 0, 0), (0, 0, 64, 48))

    def draft(image: Image.Image) -> None:
        image.draft("RGB", (32, 24))

    def draft_gray(image: Image.Image) -> None:
        image.draft("L", (64, 48))

    for edit in (thumbnail, paint, draft, draft_gray):
        with Image.open(path) as image:
            edit(image)
            (stored,) = read_all(JPEG, written(JPEG, [image]))
            assert (stored.size, stored.mode) == (image.size, image.mode)
            difference = np.asarray(stored, np.int16) - np.asarray(image, np.int16)
            assert np.abs(difference).mean() < 40
    with Image.open(path) as image:
        paint(image)
        (red,) = read_all(JPEG, written(JPEG, [image]))
        assert np.asarray(red)[:, :, 0].min() > 250


def test_other_images_are_saved_as_jpeg(path: Path) -> None:
    with Image.open(path) as image:
        for other in (image.convert("L"), image.resize((8, 8)), image.rotate(90), noise()):
            (stored,) = read_all(JPEG, written(JPEG, [other]))
            assert (stored.format, stored.size, stored.mode) == ("JPEG", other.size, other.mode)


def test_only_the_first_frame_of_a_stereo_jpeg_is_a_copy_of_its_file() -> None:
    content = BytesIO()
    noise().save(content, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")])
    with Image.open(content) as image:
        assert JPEG.encode(image) == content.getvalue()
        image.seek(1)
        (red,) = read_all(JPEG, written(JPEG, [image]))
        assert np.asarray(red)[:, :, 0].min() > 250


@pytest.mark.parametrize("spec", ["jpeg", "png", "pil"])
def test_a_closed_or_broken_image_is_refused(spec: str, path: Path) -> None:
    with Image.open(path) as closed:
        pass
    gone = noise()
    gone.close()
    broken = Image.open(BytesIO(encoded("png")[:200]))
    for image in (closed, gone, broken):
        with pytest.raises(EncodingError, match="expected an image with pixels, got"):
            parse_encoding(spec).encode(image)


def test_encoded_bytes_are_stored_as_they_are() -> None:
    for kind in ("jpeg", "png"):
        content = encoded(kind)
        for value in (content, bytearray(content), memoryview(content)):
            assert parse_encoding(kind).encode(value) == content


def test_images_are_decoded_by_the_row_that_asks() -> None:
    (image,) = read_all(JPEG, written(JPEG, [encoded("jpeg")]))
    assert image.tile, "opened, not loaded"
    assert image.load() is not None


@pytest.mark.parametrize(
    ("spec", "value", "message"),
    [
        (
            "jpeg",
            encoded("png"),
            "expected an image of PIL or the bytes of a jpeg file, got bytes of .* bytes b'.x89PNG",
        ),
        ("png", b"", "the bytes of a png file, got bytes of 0 bytes b''$"),
        ("jpeg", np.zeros((2, 2, 3), np.uint8), "got ndarray of dtype uint8 .*; wrap it in Image.fromarray"),
        ("jpeg", "photo.jpg", "expected an image of PIL, got str 'photo.jpg'"),
        ("jpeg", Image.new("RGBA", (2, 2)), "an image that jpeg can hold, got one of mode 'RGBA': cannot write"),
        ("pil", Image.new("P", (2, 2)), r"without a palette, got mode 'P'; convert it first: image.convert\('RGB'\)"),
        ("pil", encoded("png"), "expected an image of PIL, got bytes"),
        ("list[png]", [encoded("png"), b"no"], "image 1: expected an image of PIL or the bytes of a png file"),
        ("jpegarray", encoded("jpeg"), "expected a list of images, got bytes"),
        ("jpegarray", 3, "expected a list of images, got int 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_of_the_kind_is_refused(spec: str, value: Any, message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        parse_encoding(spec).encode(value)


def test_a_palette_survives_png() -> None:
    image = noise().convert("P")
    encoding = parse_encoding("png")
    (stored,) = read_all(encoding, written(encoding, [image]))
    assert same(stored.convert("RGB"), image.convert("RGB"))


@pytest.mark.parametrize("spec", ["jpegarray", "jpeg_array", "list[jpeg]"])
def test_lists_of_jpeg_take_bytes_and_images(spec: str) -> None:
    encoding = parse_encoding(spec)
    content = encoded("jpeg")
    array = written(encoding, [None, [content, Image.open(BytesIO(content)), bytearray(content)], [], (content,)])
    assert array.to_pylist() == [None, [content] * 3, [], [content]]
    lists = read_all(encoding, array.slice(1))
    assert [len(images) for images in lists] == [3, 0, 1]
    assert {image.format for images in lists for image in images} == {"JPEG"}


def test_a_column_of_bytes_must_hold_files_of_the_kind() -> None:
    content = encoded("jpeg")
    assert JPEG.column(pa.array([content, None], pa.large_binary())).to_pylist() == [content, None]
    with pytest.raises(EncodingError, match="row 2: expected the bytes of a jpeg file, got bytes of 2 bytes b'no'"):
        JPEG.column(pa.array([content, None, b"no"]))
    with pytest.raises(EncodingError, match="row 1: expected an image of PIL"):
        JPEG.column([content, b"no"])


def test_images_name_the_extra_that_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded("png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    pillow.cache_clear()
    encoding = parse_encoding("png")
    array = written(encoding, [content])
    with pytest.raises(MissingDependencyError, match=r"pip install 'arrowstream\[images\]'"):
        read_all(encoding, array)
