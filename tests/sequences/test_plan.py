"""Sequences are samples of the plan: state, shares and workers are what they are for any dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from arrowstream import SequenceDataset, Stream
from arrowstream.errors import StateMismatchError
from tests.sequences.corpus import write_documents

METHODS = pytest.mark.parametrize("method", ["concat", "best_fit"])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("corpus") / "data")


def sequences(out: Path, **arguments: Any) -> SequenceDataset:
    told = {"column": "tokens", "seq_len": 150, "fields": ["tokens", "document_ids", "positions"], "shuffle": True}
    return SequenceDataset(local=out, **{**told, "batch_size": 4, "shuffle_block_size": 32, **arguments})


def identity(sample: dict[str, Any]) -> bytes:
    return b"".join(np.asarray(sample[name]).tobytes() for name in ("tokens", "document_ids", "positions"))


@METHODS
def test_a_resume_goes_on_with_the_very_next_sequence(corpus: Path, method: str) -> None:
    whole = [identity(sample) for sample in sequences(corpus, method=method, seq_len=300)]
    assert len(set(whole)) == len(whole) > 12
    for seen in range(len(whole)):
        dataset = sequences(corpus, method=method, seq_len=300)
        samples = iter(dataset)
        begun = [identity(next(samples)) for _ in range(seen)]
        again = sequences(corpus, method=method, seq_len=300)
        again.load_state_dict(dataset.state_dict())
        assert begun + [identity(sample) for sample in again] == whole


@METHODS
def test_ranks_may_become_more_or_fewer_in_the_middle_of_an_epoch(corpus: Path, method: str) -> None:
    size = sequences(corpus, method=method).size
    order = sequences(corpus, method=method).plan(0).samples(0, size).tolist()
    of = [identity(sequences(corpus, method=method)[number]) for number in range(size)]
    seen = 8
    state = sequences(corpus, method=method).state_dict(num_samples=seen)
    rest: dict[int, list[bytes]] = {}
    for rank in range(2):
        dataset = sequences(corpus, method=method, rank=rank, world_size=2)
        dataset.load_state_dict(state)
        rest[rank] = [identity(sample) for sample in dataset]
    together = [sample for pair in zip(rest[0], rest[1], strict=True) for sample in pair]
    expected = [of[number] for number in order[seen:]]
    repeated = together[len(expected) :]  # so that both ranks read as many
    assert sorted(together[: len(expected)]) == sorted(expected)
    assert len(repeated) == (size - seen) % 2
    assert set(repeated) <= set(of)


@pytest.mark.parametrize(
    "arguments", [{"seq_len": 151}, {"method": "best_fit"}, {"remainder": "pad"}, {"column": "name", "dtype": "uint8"}]
)
def test_a_state_of_other_sequences_is_refused(corpus: Path, arguments: dict[str, Any]) -> None:
    state = sequences(corpus).state_dict(num_samples=4)
    with pytest.raises(StateMismatchError, match="sequences: "):
        sequences(corpus, **arguments).load_state_dict(state)


@METHODS
@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaders_give_every_sequence_of_an_epoch(corpus: Path, method: str, num_workers: int) -> None:
    dataset = sequences(corpus, method=method)
    assert isinstance(dataset, IterableDataset)
    expected = sorted(identity(dataset[number]) for number in range(dataset.size))
    loader = DataLoader(dataset, batch_size=4, num_workers=num_workers)
    for _ in range(2):
        found = [
            identity({name: batch[name][row] for name in batch})
            for batch in loader
            for row in range(len(batch["tokens"]))
        ]
        assert sorted(found) == expected


def test_spawned_workers_read_sequences(corpus: Path) -> None:
    dataset = sequences(corpus)
    loader = DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context="spawn")
    assert sum(len(batch["tokens"]) for batch in loader) == dataset.size


def test_batches_are_tensors_with_an_exact_state(corpus: Path) -> None:
    dataset = sequences(corpus)
    whole = torch.cat([batch["tokens"] for batch in dataset.batches()])
    dataset.next_epoch = 0
    batches = dataset.batches()
    seen = torch.cat([next(batches)["tokens"] for _ in range(3)])
    again = sequences(corpus)
    again.load_state_dict(dataset.state_dict())
    rest = torch.cat([batch["tokens"] for batch in again.batches()])
    assert torch.equal(torch.cat([seen, rest]), whole)


def test_streams_are_mixed_by_sequences(corpus: Path, tmp_path: Path) -> None:
    other = write_documents(tmp_path / "other", "list", size_limit=3000)
    mixed = SequenceDataset(
        streams=[Stream(local=corpus, proportion=1), Stream(local=write_documents(tmp_path / "third"), proportion=3)],
        column="tokens",
        seq_len=100,
        mixing="even",
        batch_size=4,
        shuffle=True,
    )
    first = int(sequences(corpus, seq_len=100).size)
    ids = mixed.plan(0).samples(0, 40)
    assert (ids < first).sum() == 10
    assert len(list(mixed)) == len(mixed)
    with pytest.raises(TypeError, match="holds int32, in other shards uint16"):
        list(SequenceDataset(streams=[Stream(local=corpus), Stream(local=other)], column="tokens", seq_len=100))


def test_a_cache_limit_holds_for_sequences(corpus: Path, tmp_path: Path) -> None:
    plain = SequenceDataset(local=corpus, column="tokens", seq_len=20)
    expected = np.stack([sample["tokens"] for sample in plain])
    largest = max(path.stat().st_size for path in corpus.glob("*.arrow"))
    limited = SequenceDataset(
        remote=corpus, local=tmp_path / "cache", column="tokens", seq_len=20, cache_limit=4 * largest, batch_size=8
    )
    for _ in range(2):
        assert np.array_equal(np.concatenate([batch["tokens"] for batch in limited.batches(as_="numpy")]), expected)
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.arrow"))
    assert 0 < kept <= 4 * largest
