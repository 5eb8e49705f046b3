"""JPEG files of the size of ImageNet's, cut from the real photographs that scikit-image and scikit-learn ship."""

import importlib.util
from io import BytesIO
from pathlib import Path

import numpy as np

WIDTH, HEIGHT = 500, 375
_QUALITY = 90
_PHOTOGRAPHS = {
    "skimage/data": ("astronaut.png", "coffee.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg"),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
}


def cut_photographs(rng: np.random.Generator, n: int) -> list[bytes]:
    """Cut n different pieces out of the photographs, enlarged by up to a third, every second one mirrored.

    Raises:
        ModuleNotFoundError: Pillow or the photographs are not installed.
    """
    from PIL import Image

    photographs = [Image.open(path).convert("RGB") for path in _paths()]
    files = []
    for number in range(n):
        photograph = photographs[number % len(photographs)]
        scale = max(1.0, WIDTH / photograph.width, HEIGHT / photograph.height) * rng.uniform(1, 1.35)
        width, height = WIDTH / scale, HEIGHT / scale
        left, top = rng.uniform(0, photograph.width - width), rng.uniform(0, photograph.height - height)
        box = (left, top, left + width, top + height)
        piece = photograph.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box)
        if number % 2:
            piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        content = BytesIO()
        piece.save(content, "JPEG", quality=_QUALITY)
        files.append(content.getvalue())
    return files


def _paths() -> list[Path]:
    paths = []
    for folder, names in _PHOTOGRAPHS.items():
        package, _, inside = folder.partition("/")
        found = importlib.util.find_spec(package)  # not imported: only its files are wanted
        if found is None or found.origin is None:
            raise ModuleNotFoundError(
                "rows of JPEG are cut from photographs: pip install --no-deps scikit-image scikit-learn"
            )
        paths += [Path(found.origin).parent / inside / name for name in names]
    return paths
