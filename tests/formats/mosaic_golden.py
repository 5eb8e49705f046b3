"""The golden datasets of mosaicml-streaming, copied so that nothing is read from an earlier run's cache."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from arrowstream import StreamingDataset
from tests.golden.mosaic import values

GOLDEN = Path(__file__).parents[1] / "golden" / "mosaic"


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caches of datasets that are read in place out of the system's folder."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def copy_golden(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / name, folder / name))


def differences(dataset: StreamingDataset, expected: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Name each value that is not the one that was written."""
    assert dataset.num_samples == len(expected)
    wrong = []
    for i, sample in enumerate(expected):
        found = dataset[i]
        assert found.keys() == sample.keys()
        wrong += [(i, name) for name in sample if not values.is_same(name, found[name], sample[name])]
    return wrong
