"""The forms that default_collate does not have: NumPy's, Arrow's, ragged arrays and images."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from arrowstream import StreamingDataLoader, StreamingDataset
from arrowstream.batch_forms import Padded, Ragged
from arrowstream.columns.pixels import file_pixels, jpeg_pixels
from arrowstream.errors import EncodingError
from tests.batches.batches import assert_same, read_batch, write
from tests.columns.reading import same
from tests.columns.samples import SAMPLES

RAGGED = [np.arange(3, dtype=np.int32), np.zeros(0, np.int32), np.arange(5, dtype=np.int32) * 7]


def picture(mode: str = "RGB", size: tuple[int, int] = (50, 37), seed: int = 0) -> Image.Image:
    """Draw something that JPEG can hold without much loss."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    waves = np.stack([np.sin(x / 7 + seed), np.cos(y / 5), np.sin((x + y) / 9)], axis=-1)
    return Image.fromarray((waves * 100 + 128).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("spec", [spec for spec, values in SAMPLES.items() if values], ids=str)
def test_numpy_and_arrow_hold_every_encoding_and_its_nulls(tmp_path: Path, spec: Any) -> None:
    samples = [{"x": value} for value in [*SAMPLES[spec], None]]
    opened = StreamingDataset(local=write(tmp_path / "d", {"x": spec}, samples), allow_unsafe_types=True)
    ids = [*reversed(range(len(samples))), 0]
    column = read_batch(opened, ids, "numpy")["x"]
    for place, number in enumerate(ids):
        expected, found = opened[number]["x"], column[place]
        if expected is None:
            assert found is None or np.all(np.ma.getmaskarray(column)[place])
        else:
            value = np.ma.getdata(found) if isinstance(found, np.ma.MaskedArray) else found
            value = value.item() if type(expected) in {int, bool} and isinstance(value, np.generic) else value
            assert same(value, expected)
    assert str(read_batch(opened, ids, "arrow").to_pylist()) == str(opened.take(ids).to_pylist())


def test_numbers_without_nulls_are_plain_arrays(tmp_path: Path) -> None:
    samples = [{"x": None, "y": 1.5}, {"x": 2, "y": 2.5}, {"x": 3, "y": 3.5}]
    opened = StreamingDataset(local=write(tmp_path / "d", {"x": "int32", "y": "float32"}, samples))
    masked = read_batch(opened, [0, 1], "numpy")
    assert masked["x"].tolist() == [None, 2]
    assert type(masked["y"]) is np.ndarray
    assert_same(read_batch(opened, [2, 1], "numpy")["x"], np.array([3, 2], np.int32))


@pytest.mark.parametrize(("as_", "kind"), [("numpy", np.ndarray), ("torch", torch.Tensor)])
@pytest.mark.parametrize("spec", ["ndarray:int32", "ndarray"])
def test_ragged_arrays_are_laid_end_to_end_or_padded(tmp_path: Path, spec: str, as_: str, kind: type) -> None:
    opened = StreamingDataset(local=write(tmp_path / "d", {"x": spec}, [{"x": array} for array in RAGGED]))
    ragged = read_batch(opened, [2, 1, 0], as_, ragged="offsets")["x"]
    assert isinstance(ragged, Ragged)
    assert isinstance(ragged.values, kind)
    assert ragged.values.tolist() == [0, 7, 14, 21, 28, 0, 1, 2]
    assert ragged.offsets.tolist() == [0, 5, 5, 8]
    padded = read_batch(opened, [0, 1, 2], as_, ragged="pad")["x"]
    assert isinstance(padded, Padded)
    assert padded.values.tolist() == [[0, 1, 2, 0, 0], [0] * 5, [0, 7, 14, 21, 28]]
    assert padded.shapes.tolist() == [[3], [0], [5]]
    assert str(padded.values.dtype).endswith("int32")


def test_ragged_arrays_without_a_common_form_are_refused(tmp_path: Path) -> None:
    values = [np.zeros((2, 3)), np.zeros((2, 4)), np.zeros(3), None, np.float64(1), np.zeros(3, np.int8)]
    samples = [{"x": value if value is None else np.asarray(value)} for value in values]
    opened = StreamingDataset(local=write(tmp_path / "d", {"x": "ndarray"}, samples))
    assert read_batch(opened, [0, 1], ragged="pad")["x"].values.shape == (2, 2, 4)
    for ids, ragged, why in [
        ([0, 1], "offsets", "ragged='pad'"),
        ([4], "offsets", "ragged='pad'"),
        ([0, 2], "pad", r"\[1, 2\] dimensions"),
        ([2, 3], "pad", "1 of 2 arrays are null"),
        ([2, 5], "offsets", "one dtype"),
        ([0, 1], None, "ragged='offsets' or 'pad'"),
    ]:
        with pytest.raises(EncodingError, match=f"column 'x'.*{why}"):
            read_batch(opened, ids, ragged=ragged)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_images_are_decoded_in_their_order(tmp_path: Path, num_threads: int) -> None:
    images = [picture(size=(20 + number, 10)) for number in range(9)]
    columns = {"jpeg": "jpeg", "png": "png", "pil": "pil", "list": "list[jpeg]"}
    samples = [
        {"jpeg": each, "png": each, "pil": each, "list": [each] * (number % 3)} for number, each in enumerate(images)
    ]
    samples[4] = dict.fromkeys(columns)
    opened = StreamingDataset(local=write(tmp_path / "d", columns, samples))
    ids = [8, 0, 4, 3, 3, 7]
    batch = read_batch(opened, ids, num_threads=num_threads)
    arrays = read_batch(opened, ids, images="array", num_threads=num_threads)
    for place, number in enumerate(ids):
        sample = opened[number]
        for name in columns:
            found, pixels = batch[name][place], arrays[name][place]
            if sample[name] is None:
                assert found is pixels is None
                continue
            expected = sample[name] if name == "list" else [sample[name]]
            found, pixels = (found, pixels) if name == "list" else ([found], [pixels])
            assert [each.tobytes() for each in found] == [each.tobytes() for each in expected]
            assert [each.numpy().tobytes() for each in pixels] == [np.asarray(each).tobytes() for each in expected]
            assert [tuple(each.shape) for each in pixels] == [np.asarray(each).shape for each in expected]


def new_memory(num_bytes: int) -> np.ndarray:
    return np.empty(num_bytes, np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 20}]
)
@pytest.mark.parametrize("size", [(50, 37), (1, 1), (16, 16), (33, 7)])
def test_both_decoders_of_jpeg_give_the_same_pixels(mode: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    pytest.importorskip("simplejpeg")
    file = BytesIO()
    picture(mode, size).save(file, "JPEG", **options)
    assert_same(jpeg_pixels(file.getvalue(), new_memory), file_pixels(file.getvalue(), new_memory))


@pytest.mark.parametrize("images", ["pil", "array"])
def test_a_broken_image_is_named(tmp_path: Path, images: str) -> None:
    opened = StreamingDataset(local=write(tmp_path / "d", {"x": "jpeg"}, [{"x": picture()}, {"x": b"\xff\xd8\xff no"}]))
    with pytest.raises(EncodingError, match="column 'x': row 1 of the batch does not decode"):
        read_batch(opened, [0, 1], images=images)


def test_tables_own_their_memory(tmp_path: Path) -> None:
    opened = StreamingDataset(local=write(tmp_path / "d", {"x": "int"}, [{"x": number} for number in range(9)]))
    tables = list(opened.batches(4, as_="arrow"))
    assert pa.concat_tables(tables)["x"].to_pylist() == list(range(9))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_loader_hands_over_pixels_for_a_batch_transform(tmp_path: Path, num_workers: int) -> None:
    images = [Image.fromarray(np.full((3 + row, 5, 3), row, np.uint8)) for row in range(4)]
    write(tmp_path / "d", {"x": "png"}, [{"x": image} for image in images])
    dataset = StreamingDataset(local=tmp_path / "d", batch_size=4)
    loader = StreamingDataLoader(dataset, images="array", batch_transform=_crop, num_workers=num_workers)
    (batch,) = loader
    assert batch["x"].tolist() == [np.asarray(image)[:2, :2].tolist() for image in images]
    with pytest.raises(ValueError, match="batch_transform="):
        list(StreamingDataLoader(dataset, images="array", transform=dict))


def _crop(batch: dict[str, Any]) -> dict[str, Any]:
    return {"x": torch.stack([pixels[:2, :2] for pixels in batch["x"]])}
