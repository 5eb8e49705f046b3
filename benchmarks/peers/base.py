"""What a peer is: how to write rows with a library, and how to read them back. Timing is none of its business.

::

    tasks              which tasks the peer takes part in, and in which ways (see ``Peer.tasks``)
    write_samples      a writer, sample by sample        write_sample, and the data of every reading task
    write_table        a writer of Arrow tables          write_frame
    open               ds[i]                             random_sample, and the check of what was written
    shuffled           for sample in ...                 iterate
    batches            for batch in a loader             loader
    write_mosaic       a writer of mosaic's .mds files   mosaic_files
    stream             for sample in ..., from a remote  mosaic_files
"""

from abc import ABC
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, Protocol

from benchmarks.request import Request
from benchmarks.rows import CROP, Rows, Sample, crop


class Readable(Protocol):
    """Anything whose ``[i]`` is sample i."""

    def __getitem__(self, i: int) -> Sample: ...


class Peer(ABC):
    """One library, or one limit that no library can pass."""

    name: ClassVar[str]
    #: Distributions whose versions belong in a result.
    distributions: ClassVar[tuple[str, ...]] = ()
    #: Whether the peer needs an environment of its own, made from ``requirements/NAME*.txt``.
    own_environment: ClassVar[bool] = False
    #: Statements timed by the task ``import``, by variant.
    imports: ClassVar[Mapping[str, str]] = {}
    #: Task to the ways in which the peer does it. "" is the way that the library's guide shows first; every other
    #: way is a further line in the table, for options that change a lot.
    tasks: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    #: Whether an epoch has every row: a limit may do without.
    reads_all: ClassVar[bool] = True

    def ways(self, task: str, options: Mapping[str, object], rows: str) -> tuple[str, ...]:  # noqa: ARG002
        """Say in which ways the peer does a variant of a task with rows of a kind; none: it does not."""
        if rows == "jpeg" and task not in {"loader", "import"}:
            return ()
        return self.tasks.get(task, ())

    def write_samples(self, request: Request, rows: Rows, samples: list[Sample]) -> None:
        """Write the samples one by one into the new directory ``request.data``, uncompressed; return when complete."""
        raise NotImplementedError

    def write_table(self, request: Request, table) -> None:
        """Write a ``pyarrow.Table`` into the new directory ``request.data``; return when complete."""
        raise NotImplementedError

    def open(self, request: Request) -> Readable:
        """Open ``request.data`` for reading by number."""
        raise NotImplementedError

    def shuffled(self, request: Request) -> Iterable[Sample]:
        """Samples in a shuffled order, the same object for every epoch."""
        raise NotImplementedError

    def batches(self, request: Request) -> Iterable[Mapping[str, object]]:
        """Collated, shuffled batches, the same object for every epoch; of a JPEG the crop, decoded."""
        raise NotImplementedError

    def write_mosaic(self, request: Request, rows: Rows, samples: list[Sample]) -> None:
        """Write the samples into the new directory ``request.data`` as mosaicml-streaming does, uncompressed."""
        raise NotImplementedError

    def stream(self, request: Request, cache: Path) -> Iterable[Sample]:
        """Samples in a shuffled order, the same object for every epoch, fetched from ``request.data`` into a cache."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        found = {}
        for distribution in (*self.distributions, "numpy"):
            try:
                found[distribution] = version(distribution)
            except PackageNotFoundError:
                found[distribution] = "not installed"
        return found


def torch_loader(request: Request, dataset, *, loader_class=None, **options):
    """A torch DataLoader as every peer gets it: workers live on, so that an epoch does not pay for their start."""
    from torch.utils.data import DataLoader

    num_workers = request.options["num_workers"]
    options.setdefault("batch_size", request.batch_size)
    make = loader_class or DataLoader
    return make(dataset, num_workers=num_workers, persistent_workers=num_workers > 0, **options)


def collate_images(samples: list[Sample]) -> dict[str, object]:
    """Decode the images of samples, cut out their middles, and collate."""
    import numpy as np
    import torch
    from torch.utils.data import default_collate

    cut = [torch.from_numpy(np.array(cut_image(sample["image"]))) for sample in samples]
    return default_collate([{**sample, "image": image} for sample, image in zip(samples, cut, strict=True)])


def collate_files(samples: list[Sample]) -> dict[str, object]:
    """Do the same with files of JPEG, decoded by the fastest decoder."""
    import torch
    from simplejpeg import decode_jpeg
    from torch.utils.data import default_collate

    cut = [torch.from_numpy(crop(decode_jpeg(sample["image"], "RGB"))) for sample in samples]
    return default_collate([{**sample, "image": image} for sample, image in zip(samples, cut, strict=True)])


def cut_image(image):
    """Cut the middle out of an image of PIL."""
    left, top = (image.width - CROP) // 2, (image.height - CROP) // 2
    return image.crop((left, top, left + CROP, top + CROP))


def as_images(samples: list[Sample], folder: Path) -> list[Sample]:
    """Give the samples with images of PIL, opened from files: what a writer of images stores as they are."""
    from PIL import Image

    folder.mkdir()
    images = []
    for number, sample in enumerate(samples):
        file = folder / f"{number}.jpg"
        file.write_bytes(sample["image"])
        images.append({**sample, "image": Image.open(file)})
    return images
