"""Sequences of a dataset on disk: what they hold, one by one and in batches."""

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrowstream import MDSWriter
from arrowstream.errors import CorruptShardError, EncodingError, MissingColumnError
from arrowstream.sequences import SequenceDataset
from arrowstream.sequences.reader import SequenceReader
from tests.sequences.corpus import documents, documents_of_shards, write_documents

FIELDS = ["tokens", "document_ids", "positions", "cu_seqlens"]
LENGTH = 64


def sequences(out: Path, **arguments: Any) -> SequenceDataset:
    return SequenceDataset(local=out, **{"column": "tokens", "seq_len": LENGTH, "fields": FIELDS, **arguments})


def check_borders(sample: dict[str, Any], pad_id: int = 0) -> None:
    """Compare tokens with the documents that they are said to belong to."""
    borders = sample["cu_seqlens"].tolist()
    assert borders[0] == 0
    assert borders[-1] == LENGTH
    for start, stop in pairwise(borders):
        assert start < stop
        assert sample["positions"][start:stop].tolist() == list(range(stop - start))
        (document,) = set(sample["document_ids"][start:stop].tolist())
        part = sample["tokens"][start:stop]
        if document == -1:
            assert set(part.tolist()) == {pad_id}
            assert stop == LENGTH
        else:
            assert part.astype(np.uint8).tobytes() in documents()[document].tobytes()


@pytest.mark.parametrize("kind", ["ndarray", "list", "large_list", "bytes", "str"])
def test_concatenated_sequences_are_the_tokens_of_each_shard_without_the_rest(tmp_path: Path, kind: str) -> None:
    out = write_documents(tmp_path / "data", kind)
    dtype = {"bytes": "uint16", "str": "uint8"}.get(kind)
    dataset = sequences(out, dtype=dtype)
    expected = []
    for ids in documents_of_shards(out):
        tokens = np.concatenate([documents()[number] for number in ids])
        expected += list(tokens[: len(tokens) // LENGTH * LENGTH].reshape(-1, LENGTH))
    assert len(documents_of_shards(out)) > 2
    assert dataset.size == len(expected)
    for sample, tokens in zip(dataset, expected, strict=True):
        assert sample["tokens"].tolist() == tokens.tolist()
        assert sample["tokens"].flags.writeable
        check_borders(sample)


@pytest.mark.parametrize("arguments", [{"remainder": "pad"}, {"method": "best_fit"}], ids=["pad", "best_fit"])
def test_with_padding_every_token_of_every_document_is_read_once(tmp_path: Path, arguments: dict[str, Any]) -> None:
    dataset = sequences(write_documents(tmp_path / "data"), shuffle=True, pad_id=7, **arguments)
    found: dict[int, list[bytes]] = {}
    for sample in dataset:
        check_borders(sample, pad_id=7)
        for document in np.unique(sample["document_ids"]).tolist():
            part = sample["tokens"][sample["document_ids"] == document]
            found.setdefault(document, []).append(part.astype(np.uint8).tobytes())
    found.pop(-1)
    whole = {number: tokens.tobytes() for number, tokens in enumerate(documents()) if len(tokens)}
    assert found.keys() == whole.keys()
    for number, text in whole.items():
        assert sorted("".join(map(chr, b"".join(found[number])))) == sorted(map(chr, text))
        if len(text) <= LENGTH and "method" in arguments:
            assert found[number] == [text]


@pytest.mark.parametrize("method", ["concat", "best_fit"])
@pytest.mark.parametrize("compression", [None, "zstd:3"])
def test_batches_hold_what_samples_hold(tmp_path: Path, method: str, compression: str | None) -> None:
    out = write_documents(tmp_path / "data", compression=compression)
    for arguments in ({"remainder": "drop"}, {"remainder": "pad"}):
        dataset = sequences(out, method=method, shuffle=True, batch_size=5, pad_id=3, **arguments)
        samples = [dataset[number] for number in range(dataset.size)]
        for epoch in range(2):
            ids = [
                ids.tolist()
                for ids in np.split(dataset.plan(epoch).samples(0, dataset.size), range(5, dataset.size, 5))
            ]
            for numbers, batch in zip(ids, dataset.batches(as_="numpy"), strict=True):
                for name in ("tokens", "document_ids", "positions"):
                    expected = np.stack([samples[number][name] for number in numbers])
                    assert batch[name].dtype == expected.dtype
                    assert np.array_equal(batch[name], expected)
                borders = [samples[number]["cu_seqlens"][:-1] + place * LENGTH for place, number in enumerate(numbers)]
                assert batch["cu_seqlens"].tolist() == [*np.concatenate(borders).tolist(), len(numbers) * LENGTH]


@pytest.mark.parametrize("method", ["concat", "best_fit"])
@pytest.mark.parametrize("max_open", [2, 1024])
def test_batches_are_right_while_shards_are_let_go_of_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, max_open: int
) -> None:
    monkeypatch.setattr("arrowstream.sequences.reader.MAX_OPEN_SHARDS", max_open)
    out = write_documents(tmp_path / "data", size_limit=2500)
    dataset = sequences(out, method=method, remainder="pad", shuffle=True, batch_size=4)
    samples = [dataset[number] for number in range(dataset.size)]
    reader = dataset._reader
    assert isinstance(reader, SequenceReader)
    assert dataset.num_shards > 4
    for epoch in range(3):
        ids = dataset.plan(epoch).samples(0, dataset.size).tolist()
        for start, batch in zip(range(0, len(ids), 4), dataset.batches(as_="numpy"), strict=True):
            wanted = [samples[number] for number in ids[start : start + 4]]
            for name in ("tokens", "document_ids", "positions"):
                assert np.array_equal(batch[name], np.stack([sample[name] for sample in wanted]))
            if epoch == 1 and start % 3 == 0:
                # Those of batches that were looked up already, among others: with 1,024, all are open by now.
                for number in list(reader._tokens):
                    reader._close(number)


def test_several_threads_may_read_although_shards_are_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loader reads ahead in a thread while the loop reads samples of its own."""
    monkeypatch.setattr("arrowstream.sequences.reader.MAX_OPEN_SHARDS", 2)
    monkeypatch.setattr("arrowstream.opening.MAX_OPEN_SHARDS", 2)
    dataset = sequences(write_documents(tmp_path / "data", size_limit=2500), fields=["tokens"])
    expected = [sample["tokens"].tolist() for sample in dataset]
    assert dataset.num_shards > 4

    def read(seed: int) -> bool:
        numbers = np.random.default_rng(seed).integers(0, dataset.size, 150).tolist()
        return all(dataset[number]["tokens"].tolist() == expected[number] for number in numbers)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(16)))
    finally:
        sys.setswitchinterval(before)


def test_sequences_lie_across_record_batches(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    texts = [rng.integers(0, 2**16, length).astype(np.uint16) for length in rng.integers(1, 60_000, 60)]
    with MDSWriter(out=tmp_path, columns={"tokens": "ndarray:uint16"}, size_limit=None) as writer:
        for tokens in texts:
            writer.write({"tokens": tokens})
    joined = np.concatenate(texts)
    dataset = SequenceDataset(local=tmp_path, column="tokens", seq_len=5000, remainder="pad", pad_id=9, batch_size=7)
    assert dataset.num_shards == 1
    padded = np.concatenate([joined, np.full(-len(joined) % 5000, 9, np.uint16)]).reshape(-1, 5000)
    assert np.array_equal(np.stack([sample["tokens"] for sample in dataset]), padded)
    assert np.array_equal(np.concatenate([batch["tokens"] for batch in dataset.batches(as_="numpy")]), padded)
    assert np.array_equal(np.stack(dataset.take([3, 1])["tokens"].to_numpy()), padded[[3, 1]])


@pytest.mark.parametrize(("size", "seq_len"), [(8, 8), (8, 6), (8, 20), (8, 3)])
@pytest.mark.parametrize("method", ["concat", "best_fit"])
def test_documents_of_one_size_are_counted_without_reading_them(
    tmp_path: Path, size: int, seq_len: int, method: str
) -> None:
    with MDSWriter(out=tmp_path, columns={"tokens": f"ndarray:uint8:{size}"}, size_limit=2500) as writer:
        for number in range(300):
            writer.write({"tokens": np.full(size, number % 256, np.uint8)})
    dataset = SequenceDataset(local=tmp_path, column="tokens", seq_len=seq_len, method=method, fields=FIELDS)
    assert dataset.num_shards > 1
    counts = dataset.samples_per_shard
    assert not list(tmp_path.rglob("sequences-*"))
    read = list(dataset)  # each shard compares what it holds with what was counted
    assert len(read) == counts.sum()


def test_as_arrow_a_sequence_is_a_list_of_one_size(tmp_path: Path) -> None:
    dataset = sequences(write_documents(tmp_path / "data"), batch_size=4)
    table = next(dataset.batches(as_="arrow"))
    assert table.schema.equals(dataset.schema)
    assert table["tokens"].to_pylist() == [dataset[number]["tokens"].tolist() for number in range(4)]
    assert table["cu_seqlens"].to_pylist() == [dataset[number]["cu_seqlens"].tolist() for number in range(4)]


@pytest.mark.parametrize(
    ("column", "arguments", "error", "message"),
    [
        ("bytes", {}, EncodingError, "dtype="),
        ("str", {"column": "text"}, MissingColumnError, "no column is named 'text'"),
        ("ndarray:float32", {}, EncodingError, "tokens are integers"),
        ("int", {}, EncodingError, "tokens are integers"),
        ("ndarray", {"dtype": "uint8"}, EncodingError, "write it as ndarray:DTYPE"),
        ("ndarray:int32", {"dtype": "uint8"}, EncodingError, "leave dtype= out"),
        ("ndarray:int32", {}, EncodingError, "1 documents are null"),
    ],
)
def test_columns_without_tokens_are_refused(
    tmp_path: Path, column: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with MDSWriter(out=tmp_path, columns={"tokens": column}) as writer:
        writer.write({"tokens": None})
    with pytest.raises(error, match=message):
        sequences(tmp_path, **arguments).size  # noqa: B018


def test_bytes_that_are_no_whole_tokens_are_refused(tmp_path: Path) -> None:
    with MDSWriter(out=tmp_path, columns={"tokens": "bytes"}) as writer:
        writer.write({"tokens": b"123"})
    with pytest.raises(EncodingError, match="no whole number of uint16"):
        sequences(tmp_path, dtype="uint16").size  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seq_len": 0}, "seq_len is 0"),
        ({"method": "first_fit"}, "method is 'first_fit'"),
        ({"remainder": "keep"}, "remainder is 'keep'"),
        ({"dtype": "float32"}, "tokens are integers"),
        ({"shuffle_unit": "record_batch"}, "shuffle shards"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sequences(tmp_path, **arguments)
    with pytest.raises(MissingColumnError, match="no field 'labels'"):
        sequences(tmp_path, fields=["labels"])


def test_padding_that_is_no_token_is_refused(tmp_path: Path) -> None:
    dataset = sequences(write_documents(tmp_path / "data"), pad_id=-100)
    with pytest.raises(ValueError, match="pad_id is -100, which is no uint16"):
        dataset[0]


def test_a_shard_that_holds_other_sequences_than_were_counted_is_an_error(tmp_path: Path) -> None:
    out = write_documents(tmp_path / "data")
    dataset = sequences(out)
    reader = dataset._load()
    reader.samples_per_shard[1] += 1
    first = int(reader.samples_per_shard[0])
    with pytest.raises(CorruptShardError, match="delete the sequences-"):
        dataset[first]
