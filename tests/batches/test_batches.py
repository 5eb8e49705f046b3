"""Batches along the plan: the samples of an iteration in its order, in memory of their own, resumable."""

import gc
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from arrowstream import StreamingDataset, dataset
from arrowstream.batches import whole_batches
from arrowstream.collate import TorchForm
from arrowstream.errors import EncodingError, MissingColumnError, MissingDependencyError, MissingShardError
from arrowstream.gather import Gatherer
from tests.batches.batches import assert_same, read_batch, write
from tests.reading.datasets import ids, noise, write_large_rows, write_samples


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "d")


@pytest.mark.parametrize("shuffle_algo", [None, "py1e"])
@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_they_are_the_iteration_in_pieces(directory: Path, batch_size: int, shuffle_algo: str | None) -> None:
    arguments: dict[str, Any] = {"shuffle": True, "batch_size": 8, "shuffle_algo": shuffle_algo}
    iterated, batched = (StreamingDataset(local=directory, **arguments) for _ in range(2))
    for _ in range(2):
        expected = ids(iterated)
        batches = list(batched.batches(batch_size))
        assert ids(batches) == expected
        assert [len(batch["text"]) for batch in batches[:-1]] == [min(batch_size, 100)] * (len(batches) - 1)


def test_pieces_of_any_size_are_cut_into_batches() -> None:
    everything = np.arange(23)
    for borders in ([], [1, 2, 3], [5, 5, 20], [10], [22]):
        places = [(part, part + 100, part * 2) for part in np.split(everything, borders)]
        pieces = list(whole_batches(places, 5))
        assert all(len(piece) % 5 == 0 for piece, _, _ in pieces[:-1])
        for column, expected in enumerate((everything, everything + 100, everything * 2)):
            assert np.array_equal(np.concatenate([piece[column] for piece in pieces]), expected)


def test_a_state_after_any_batch_resumes_with_the_next_sample(directory: Path) -> None:
    def make() -> StreamingDataset:
        return StreamingDataset(local=directory, shuffle=True, batch_size=8)

    expected = ids(make())
    for stop in range(12):
        first = make()
        seen = ids(batch for _, batch in zip(range(stop), first.batches(9), strict=False))
        state = first.state_dict()
        by_batch, by_sample = make(), make()
        by_batch.load_state_dict(state)
        by_sample.load_state_dict(state)
        assert seen + (rest := ids(by_sample)) == expected
        assert ids(by_batch.batches(4)) == rest


class Batches(IterableDataset[Any]):
    def __init__(self, streaming: StreamingDataset) -> None:
        self.streaming = streaming

    def __iter__(self) -> Any:
        return self.streaming.batches(columns=["id"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_share_the_epoch(directory: Path, method: str) -> None:
    streaming = StreamingDataset(local=directory, shuffle=True, batch_size=8)
    expected = ids(DataLoader(StreamingDataset(local=directory, shuffle=True, batch_size=8), 8, num_workers=2))
    loader = DataLoader(Batches(streaming), batch_size=None, num_workers=2, multiprocessing_context=method)
    assert ids(loader) == expected


def test_a_batch_owns_its_memory(directory: Path) -> None:
    opened = StreamingDataset(local=directory, batch_size=10)
    batches = list(opened.batches())
    before = [{name: torch.clone(batch[name]) for name in ("id", "vector")} for batch in batches]
    for number, batch in enumerate(batches[1:]):
        batch["vector"].fill_(-number)
    assert_same({"id": batches[0]["id"], "vector": batches[0]["vector"]}, before[0])
    assert opened[15]["vector"][0] == 15  # what was written to is no map


def test_columns_that_are_not_asked_for_are_not_read(directory: Path) -> None:
    batch = next(StreamingDataset(local=directory, batch_size=4).batches(columns=["vector", "id"]))
    assert list(batch) == ["vector", "id"]
    with pytest.raises(MissingColumnError, match="'nowhere'; there are: id, text, vector"):
        StreamingDataset(local=directory).batches(4, columns=["nowhere"])


def test_of_no_columns_there_are_as_many_batches_with_nothing_in_them(directory: Path) -> None:
    opened = StreamingDataset(local=directory, tail="pad")
    for as_ in ("torch", "numpy"):
        assert [list(batch) for batch in opened.batches(40, columns=[], as_=as_)] == [["is_padding"]] * 3
        assert opened.map_style(as_=as_, columns=[]).__getitems__([1, 2]) == {}


def test_wrong_arguments_are_named(directory: Path) -> None:
    opened = StreamingDataset(local=directory)
    with pytest.raises(ValueError, match="batch_size"):
        opened.batches()
    for wrong in ({"as_": "tf"}, {"images": "rgb"}, {"ragged": "cut"}, {"num_threads": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            opened.batches(4, **wrong)  # type: ignore[arg-type]


def test_the_dataset_without_torch_says_how_to_get_tensors(directory: Path) -> None:
    opened = dataset.StreamingDataset(local=directory)
    with pytest.raises(MissingDependencyError, match="as_='numpy'"):
        opened.batches(4)
    assert next(opened.batches(4, as_="numpy"))["id"].tolist() == [0, 1, 2, 3]


def test_large_rows_are_the_rows(tmp_path: Path) -> None:
    opened = StreamingDataset(local=write_large_rows(tmp_path / "d", 24), batch_size=5, shuffle=True)
    for batch in opened.batches():
        for number, row in zip(batch["id"].tolist(), batch["noise"], strict=True):
            assert np.array_equal(row, noise(number, 1 << 17))


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("row_bytes", [100, 1 << 17])
def test_batches_lie_in_main_memory_whatever_the_default_device_is(
    tmp_path: Path, row_bytes: int, num_threads: int
) -> None:
    opened = StreamingDataset(local=write_large_rows(tmp_path / "d", 3, row_bytes=row_bytes))
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        with torch.device("meta"):
            batches = list(opened.batches(1))
    finally:
        torch.set_num_threads(before)
    for number, batch in enumerate(batches):
        assert np.array_equal(batch["noise"][0].numpy(), noise(number, row_bytes))


@pytest.mark.parametrize("compression", [None, "zstd:1"])
def test_what_is_held_is_bounded(tmp_path: Path, compression: str | None) -> None:
    """Maps and decompressed record batches are given up, and what comes after is still right."""
    write_large_rows(tmp_path / "d", 48, row_bytes=1 << 14, compression=compression)
    write_samples(tmp_path / "many")
    opened = StreamingDataset(local=tmp_path / "d")
    reader = opened._load()
    gatherer = Gatherer(reader, None, max_uncompressed_bytes=1 << 18)
    many = StreamingDataset(local=tmp_path / "many")
    few_maps = Gatherer(many._load(), None, max_shards=1)
    allocated = pa.total_allocated_bytes()
    for seed in range(20):
        chosen = np.random.default_rng(seed).integers(0, 48, 7)
        [gathered] = gatherer.gather(*reader.locate(chosen), 7)
        assert np.array_equal(gathered["noise"].values, [noise(number, 1 << 14) for number in chosen])
        assert pa.total_allocated_bytes() - allocated < 3 << 20
        numbers = next(few_maps.gather(*many._load().locate(chosen), 7))["id"].values
        assert numbers.tolist() == chosen.tolist()


def test_rows_that_were_found_ahead_are_right_although_shards_are_given_up_between(directory: Path) -> None:
    reader = StreamingDataset(local=directory)._load()
    gatherer = Gatherer(reader, ["id"])
    everything = np.random.default_rng(0).permutation(100)
    places = reader.locate(everything)
    for batch in gatherer.gather(*places, 7):  # binds all
        assert len(batch["id"].values)
    gathering = gatherer.gather(*places, 7)
    first = next(gathering)["id"].values
    gatherer._max_shards = 1  # from now on
    before = gatherer._num_changes
    found = np.concatenate([first, *(batch["id"].values for batch in gathering)])
    assert np.array_equal(found, everything)
    assert gatherer._num_changes > before


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_reads_large_batches_although_its_parent_used_threads(tmp_path: Path) -> None:
    directory = write_large_rows(tmp_path / "d", 400, row_bytes=1 << 14)

    def sums() -> list[int]:
        # By NumPy: torch's own operations hang here.
        return [int(batch["noise"].numpy().sum()) for batch in StreamingDataset(local=directory).batches(400)]

    expected = sums()  # torch's threads live from now on, where there are several cores
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=lambda: os._exit(0 if sums() == expected else 1))
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
        pytest.fail("the forked process hangs")
    assert process.exitcode == 0


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("num_rows", [5, 400])
def test_tensors_are_read_into_memory_that_the_caller_gives(tmp_path: Path, num_threads: int, num_rows: int) -> None:
    directory = write_large_rows(tmp_path / "d", num_rows, row_bytes=1 << 14)
    given: list[torch.Tensor] = []

    def take(num_bytes: int) -> torch.Tensor:
        given.append(torch.empty(num_bytes, dtype=torch.uint8))
        return given[-1]

    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        (batch,) = StreamingDataset(local=directory)._batches(TorchForm(take), num_rows)
    finally:
        torch.set_num_threads(before)
    assert {tensor.data_ptr() for tensor in batch.values()} == {memory.data_ptr() for memory in given}
    for number, row in zip(batch["id"].tolist(), batch["noise"], strict=True):
        assert np.array_equal(row, noise(number, 1 << 14))


def test_a_gatherer_gives_up_the_maps_of_shards(directory: Path) -> None:
    reader = StreamingDataset(local=directory)._load()
    gatherer = Gatherer(reader, ["id"], max_shards=1)
    for number in range(100):
        next(gatherer.gather(*reader.locate(np.array([number])), 1))
    gc.collect()
    reader._opener.whole.clear()
    mapped = Path(f"/proc/{os.getpid()}/maps").read_text()
    assert mapped.count(str(directory)) == 1


def test_shards_whose_columns_differ_are_named(tmp_path: Path) -> None:
    from arrowstream import Stream

    write(tmp_path / "a", {"x": "ndarray:uint8:2"}, [{"x": np.zeros(2, np.uint8)}])
    for number, other in enumerate(({"x": "ndarray:uint8:3"}, {"y": "ndarray:uint8:3"})):
        write(tmp_path / f"b{number}", other, [{name: np.zeros(3, np.uint8) for name in other}])
        streams = [Stream(local=str(tmp_path / name)) for name in ("a", f"b{number}")]
        opened = StreamingDataset(streams=streams)
        assert len(read_batch(opened, [0])["x"]) == 1
        with pytest.raises(EncodingError, match=r"column 'x' is ndarray:uint8:2 in the first shard and .* in shard 1"):
            read_batch(opened, [0, 1])


def test_a_missing_shard_is_named(directory: Path) -> None:
    opened = StreamingDataset(local=directory, batch_size=8)
    batches = opened.batches()
    next(batches)
    missing = directory / "shard.00002.arrow"
    missing.unlink()
    with pytest.raises(MissingShardError, match=r"shard\.00002\.arrow"):
        list(batches)


@pytest.mark.parametrize("as_", ["torch", "numpy", "arrow"])
def test_padding_is_marked_in_batches_as_in_samples(directory: Path, as_: str) -> None:
    marks = []
    for rank in range(3):
        arguments: dict[str, Any] = {"local": directory, "batch_size": 4, "rank": rank, "world_size": 3, "tail": "pad"}
        mine = StreamingDataset(**arguments)
        expected = [sample["is_padding"] for sample in StreamingDataset(**arguments)]
        found = [bool(mark) for batch in mine.batches(as_=as_) for mark in np.asarray(batch["is_padding"]).tolist()]
        assert found == expected
        marks += found
    assert sum(marks) == len(marks) - StreamingDataset(local=directory).size
