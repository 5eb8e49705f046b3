"""Only the columns that a dataset was told to read are read."""

import pickle
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from arrowstream import LocalDataset, MDSWriter, StreamingDataset, merge_index
from arrowstream.errors import MissingColumnError, UnsafeTypeError
from tests.reading.datasets import ids, write_large_rows, write_samples


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("columns") / "data", 60, compression="zstd")


def test_samples_have_the_chosen_columns_in_the_chosen_order(data: Path, tmp_path: Path) -> None:
    for place in ({"local": data}, {"remote": data, "local": tmp_path / "cache"}):
        dataset = StreamingDataset(**place, columns=["text", "id"])
        assert list(dataset[7]) == ["text", "id"]
        assert dataset[7]["id"] == 7
        assert [list(sample) for sample in dataset] == [["text", "id"]] * 60
        assert dataset.schema.names == ["text", "id"]
        assert dataset.take([3, 1]).column_names == ["text", "id"]
        assert [list(batch) for batch in dataset.batches(30, as_="numpy")] == [["text", "id"]] * 2
        assert [batch.column_names for batch in dataset.batches(30, as_="arrow")] == [["text", "id"]] * 2
        assert [list(batch) for batch in dataset.batches(30, columns=["id"])] == [["id"]] * 2


def test_a_local_dataset_has_the_chosen_columns(data: Path) -> None:
    dataset = LocalDataset(data, columns=["vector"])
    assert (list(dataset[0]), dataset.schema.names) == (["vector"], ["vector"])


def test_a_sample_that_is_not_cached_has_the_chosen_columns(tmp_path: Path) -> None:
    write_large_rows(tmp_path / "remote")
    dataset = StreamingDataset(
        remote=tmp_path / "remote", local=tmp_path / "cache", columns=["id"], random_access="record_batch"
    )
    assert dataset[31] == {"id": 31}
    assert not list((tmp_path / "cache").glob("shard.*"))


def test_workers_read_the_chosen_columns(data: Path) -> None:
    dataset = StreamingDataset(local=data, columns=["id"], batch_size=10)
    assert pickle.loads(pickle.dumps(dataset)).columns == ("id",)
    loader = DataLoader(dataset, batch_size=10, num_workers=2, multiprocessing_context="fork")
    assert sorted(ids(loader)) == list(range(60))


def test_a_column_that_is_not_there_is_named_before_a_shard_is_fetched(data: Path, tmp_path: Path) -> None:
    dataset = StreamingDataset(remote=data, local=tmp_path / "cache", columns=["id", "lable"])
    with pytest.raises(
        MissingColumnError, match=r"shard\.00000\.arrow: no column is named 'lable'; there are: id, text, vector"
    ):
        next(iter(dataset))
    assert not list((tmp_path / "cache").glob("shard.*"))


def test_a_column_that_some_shards_lack_is_named_with_such_a_shard(tmp_path: Path) -> None:
    write_samples(tmp_path / "a", 5)
    with MDSWriter(out=tmp_path / "b", columns={"id": "int", "label": "int"}) as writer:
        writer.write({"id": 5, "label": 1})
    merge_index(tmp_path)
    assert [list(sample) for sample in StreamingDataset(local=tmp_path, columns=["id"])] == [["id"]] * 6
    with pytest.raises(MissingColumnError, match=r"b/shard\.00000\.arrow: no column is named 'text'; there are: id, l"):
        StreamingDataset(local=tmp_path, columns=["text"])[0]


def test_a_column_that_was_left_out_cannot_be_taken(data: Path) -> None:
    dataset = StreamingDataset(local=data, columns=["id"])
    for read in (lambda: dataset.take([0], ["text"]), lambda: dataset.batches(2, columns=["text"])):
        with pytest.raises(MissingColumnError, match="no column is named 'text' among those that the dataset was told"):
            read()


@pytest.mark.parametrize("columns", ["id", [], ["id", "id"]])
def test_columns_that_are_no_list_of_names_are_refused(columns: object) -> None:
    with pytest.raises(ValueError, match="expected a list of different names"):
        StreamingDataset(local="nowhere", columns=columns)  # type: ignore[arg-type]


def test_an_empty_dataset_has_no_columns_to_miss(tmp_path: Path) -> None:
    write_samples(tmp_path / "data", 0)
    assert list(StreamingDataset(local=tmp_path / "data", columns=["id"])) == []


def test_columns_that_run_code_need_no_trust_when_they_are_left_out(tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path / "data", columns={"id": "int", "object": "pkl"}) as writer:
        writer.write({"id": 1, "object": {1, 2}})
    assert StreamingDataset(local=tmp_path / "data", columns=["id"])[0] == {"id": 1}
    with pytest.raises(UnsafeTypeError, match="column 'object' is pkl"):
        StreamingDataset(local=tmp_path / "data", columns=["id", "object"])[0]
