"""Whole batches are what torch's default_collate makes of the samples, to the bit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from arrowstream import StreamingDataLoader, StreamingDataset
from arrowstream.columns import ENCODING_NAMES
from arrowstream.columns.arrays import ELEMENTS
from arrowstream.errors import EncodingError
from tests.batches.batches import assert_same, read_batch, send_batch, write
from tests.columns.samples import ANY_SHAPE, SAMPLES, arrays
from tests.columns.simple_types import SIMPLE_TYPES, values_of

ARRAYS = {f"ndarray:{dtype}": arrays(element.dtype, *ANY_SHAPE) for dtype, element in ELEMENTS.items()}
FIXED = {f"ndarray:{dtype}:2,3": arrays(element.dtype, (2, 3), (2, 3)) for dtype, element in ELEMENTS.items()}
IMAGES = SAMPLES["png"][:2]
BY_NAME: dict[str, list[Any]] = {
    **{spec: values for spec, values in SAMPLES.items() if isinstance(spec, str)},
    **ARRAYS,
    **FIXED,
    "float": [0.5, -1.0, float("inf")],
    "jpeg": IMAGES,
    **{name: [IMAGES, [], IMAGES[:1]] for name in ("list[jpeg]", "jpegarray", "jpeg_array")},
}
#: Types are no keys beside names: pa.float32() == "float", with the same hash.
BY_TYPE: dict[pa.DataType, list[Any]] = {
    **{kind: values_of(kind) for kind in SIMPLE_TYPES if kind != pa.null()},
    **{spec: values for spec, values in SAMPLES.items() if isinstance(spec, pa.DataType) and values},
}
COLUMNS = [*BY_NAME.items(), *BY_TYPE.items()]
PICTURES = {"png", "image", "pil", "jpeg", "list[png]", "list[pil]", "list[jpeg]", "jpegarray", "jpeg_array"}
#: For these there is a form although default_collate has none: images, bfloat16 of NumPy, the scalars of uint64.
EXTENDED = {"uint64", "ndarray:bfloat16:2,3", *PICTURES}


def test_every_encoding_and_every_simple_type_has_a_case() -> None:
    assert {spec.partition(":")[0] for spec in BY_NAME} == set(ENCODING_NAMES)
    assert set(BY_TYPE) >= set(SIMPLE_TYPES) - {pa.null()}
    assert all(values for _, values in COLUMNS)


def assert_as_collated(dataset: StreamingDataset, ids: Sequence[int], *, extended: bool = False) -> bool:
    """Compare a batch with the samples collated; tell whether torch collates them."""
    samples = [dataset[number] for number in ids]
    try:
        expected = default_collate(samples)
    except (TypeError, RuntimeError, ValueError, KeyError, OverflowError):
        if not extended:
            with pytest.raises(EncodingError, match=r"column 'x.*columns="):
                read_batch(dataset, ids)
        elif any(isinstance(sample["x"], Image.Image | list) for sample in samples):
            assert_same(read_batch(dataset, ids), {"x": [sample["x"] for sample in samples]})
        return False
    assert_same(read_batch(dataset, ids), expected)
    assert_same(send_batch(dataset, ids), expected)
    return True


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize(("spec", "values"), COLUMNS, ids=lambda each: "" if isinstance(each, list) else str(each))
def test_each_encoding(tmp_path: Path, spec: Any, values: list[Any], nulls: bool) -> None:
    values = [*values, None] if nulls else values
    num_samples = 3 * len(values)
    samples = [{"x": values[number % len(values)]} for number in range(num_samples)]
    dataset = StreamingDataset(local=write(tmp_path / "d", {"x": spec}, samples), allow_unsafe_types=True)
    ids = np.random.default_rng(0).permutation(num_samples).tolist()
    batches = [[0], [num_samples - 1], *(ids[:size] for size in range(2, num_samples + 1))]
    same = [assert_as_collated(dataset, batch, extended=spec in EXTENDED) for batch in batches]
    refused = {"str_decimal", "ndarray:bfloat16", *EXTENDED}
    assert any(same) or spec in refused or isinstance(spec, pa.DataType)


def collates(values: list[Any]) -> bool:
    """Tell whether torch collates all values of a column, each with one like it."""
    try:
        for value in values:
            default_collate([value, value])
    except (TypeError, RuntimeError, ValueError, KeyError, OverflowError):
        return False
    return True


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_loader_gives_what_torchs_gives_of_all_encodings_at_once(tmp_path: Path, num_workers: int) -> None:
    cases = [(spec, values) for spec, values in COLUMNS if spec not in EXTENDED and collates(values)]
    specs = [spec for spec, _ in cases if isinstance(spec, str)]
    assert {"int", "str", "bytes", "float16", "ndarray:int64", "ndarray:uint8:2,3"} <= set(specs)
    # A batch holds one and the same value, whose shape and length batches need to have in common.
    rows = [{f"x{n}": values[row // 2 % len(values)] for n, (_, values) in enumerate(cases)} for row in range(24)]
    columns = {f"x{n}": spec for n, (spec, _) in enumerate(cases)}
    write(tmp_path / "d", columns, rows, size_limit=1 << 20)

    def load(loader_class: type[DataLoader[Any]]) -> list[Any]:
        dataset = StreamingDataset(local=tmp_path / "d", batch_size=2, allow_unsafe_types=True, columns=list(columns))
        return list(loader_class(dataset, batch_size=2, num_workers=num_workers))

    for whole, collated in zip(load(StreamingDataLoader), load(DataLoader), strict=True):
        assert_same(whole, collated)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_torch_refuses_the_loader_refuses(tmp_path: Path, num_workers: int) -> None:
    write(tmp_path / "d", {"x": "str"}, [{"x": "text"}, {"x": None}, {"x": None}, {"x": "text"}])
    dataset = StreamingDataset(local=tmp_path / "d", batch_size=2)
    with pytest.raises(TypeError, match=r"NoneType|expected"):
        list(DataLoader(dataset, batch_size=2, num_workers=num_workers))
    with pytest.raises(EncodingError, match="column 'x'"):
        list(StreamingDataLoader(dataset, batch_size=2, num_workers=num_workers))


NUMBERS = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "uint8": st.integers(0, 255),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "bool": st.booleans(),
    "str": st.text(max_size=5),
    "bytes": st.binary(max_size=5),
    "str_int": st.integers(),
    "str_float": st.floats(),
    "json": st.recursive(
        st.integers(0, 9) | st.text(max_size=2), lambda each: st.lists(each, max_size=2), max_leaves=4
    ),
    "ndarray:int16:2,2": st.integers(0, 99).map(lambda number: np.full((2, 2), number, np.int16)),
    "ndarray:float16": st.integers(0, 2).map(lambda length: np.full(length, 1.5, np.float16)),
    "ndarray:bool:3": st.integers(0, 7).map(lambda bits: np.array([bits & 1, bits & 2, bits & 4], bool)),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], list[dict[str, Any]], list[int]]:
    specs = draw(st.lists(st.sampled_from(sorted(NUMBERS)), min_size=1, max_size=4))
    columns = {f"x{number}": spec for number, spec in enumerate(specs)}
    nulls = draw(st.booleans())
    row = {name: NUMBERS[spec] | (st.none() if nulls else st.nothing()) for name, spec in columns.items()}
    samples = draw(st.lists(st.fixed_dictionaries(row), min_size=1, max_size=12))
    return columns, samples, draw(st.lists(st.integers(0, len(samples) - 1), min_size=1, max_size=20))


@given(table=tables(), size_limit=st.sampled_from([1 << 11, None]))
@settings(max_examples=150)
def test_any_table(tmp_path_factory: pytest.TempPathFactory, table: Any, size_limit: int | None) -> None:
    columns, samples, ids = table
    directory = tmp_path_factory.mktemp("table") / "d"
    dataset = StreamingDataset(local=write(directory, columns, samples, size_limit=size_limit))
    assert_as_collated(dataset, ids)


def test_scalars_of_uint64_are_a_tensor(tmp_path: Path) -> None:
    write(tmp_path / "d", {"x": "uint64"}, [{"x": 2**64 - 1}, {"x": 0}])
    batch = next(StreamingDataset(local=tmp_path / "d").batches(2))
    assert batch["x"].dtype == torch.uint64
    assert batch["x"].tolist() == [2**64 - 1, 0]


def test_bfloat16_is_a_tensor_of_the_same_bits(tmp_path: Path) -> None:
    values = torch.tensor([[1.0, -2.5], [3.0, float("inf")]], dtype=torch.bfloat16)
    write(tmp_path / "d", {"x": "ndarray:bfloat16:2"}, [{"x": row} for row in values])
    batch = next(StreamingDataset(local=tmp_path / "d").batches(2))
    assert_same(batch, {"x": values})
