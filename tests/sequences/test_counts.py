"""Where the numbers of sequences come from, and who keeps them."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrowstream import pack_sequences
from arrowstream.cli import main
from arrowstream.errors import IndexFormatError, UnwritableError
from arrowstream.index import PRIVATE_FOLDER
from arrowstream.sequences import SequenceDataset, counts
from tests.sequences.corpus import documents, write_documents

PACKING: dict[str, Any] = {"column": "tokens", "seq_len": 50, "method": "best_fit"}


def counts_in(directory: Path) -> list[Path]:
    return sorted(directory.rglob("sequences-*"))


def forbid_shards(remote: Path) -> None:
    for shard in remote.glob("shard*"):
        shard.unlink()


def test_counts_are_found_once_and_kept_in_the_cache(tmp_path: Path) -> None:
    remote, local = write_documents(tmp_path / "remote"), tmp_path / "local"
    first = SequenceDataset(remote=remote, local=local, **PACKING)
    sizes = first.samples_per_shard.tolist()
    assert [path.parent for path in counts_in(tmp_path)] == [local / PRIVATE_FOLDER]
    # Nobody reads the shards again to count.
    forbid_shards(remote)
    for path in local.glob("shard*"):
        path.unlink()
    assert SequenceDataset(remote=remote, local=local, **PACKING).samples_per_shard.tolist() == sizes


def test_counts_beside_the_index_spare_readers_the_shards(tmp_path: Path) -> None:
    remote = write_documents(tmp_path / "remote")
    found = pack_sequences(remote, **PACKING)
    assert [path.parent for path in counts_in(tmp_path)] == [remote]
    assert found.num_tokens.sum() == sum(map(len, documents()))
    forbid_shards(remote)
    dataset = SequenceDataset(remote=remote, local=tmp_path / "local", **PACKING)
    assert dataset.samples_per_shard.tolist() == found.num_sequences.tolist()
    assert dataset.cost().num_bytes < 10_000


@pytest.mark.parametrize("why", ["Not a directory", "File exists"])
def test_a_cache_that_takes_no_counts_is_named(tmp_path: Path, why: str) -> None:
    remote, local = write_documents(tmp_path / "remote"), tmp_path / "local"
    dataset = SequenceDataset(remote=remote, local=local, **PACKING)
    sizes = dataset.samples_per_shard.tolist()
    [kept] = counts_in(local)
    kept.unlink()
    if why == "Not a directory":  # who runs as root may write anywhere but there
        shutil.rmtree(local / PRIVATE_FOLDER)
        (local / PRIVATE_FOLDER).write_bytes(b"")
    else:
        kept.mkdir()
    again = SequenceDataset(remote=remote, local=local, **PACKING)
    with pytest.raises(UnwritableError, match=rf"(?s)give another directory as local=.*{local}"):
        again.samples_per_shard  # noqa: B018
    shutil.rmtree(local)
    assert SequenceDataset(remote=remote, local=local, **PACKING).samples_per_shard.tolist() == sizes


def test_of_those_who_need_counts_at_once_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = write_documents(tmp_path / "remote")
    passes = []

    def count_sequences(*arguments: Any, **keywords: Any) -> counts.SequenceCounts:
        passes.append(arguments)
        return original(*arguments, **keywords)

    original = counts.count_sequences
    monkeypatch.setattr(counts, "count_sequences", count_sequences)
    datasets = [SequenceDataset(remote=remote, local=tmp_path / "local", **PACKING) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        sizes = list(threads.map(lambda dataset: dataset.size, datasets, timeout=60))
    assert len(set(sizes)) == 1
    assert len(passes) == 1


def test_a_directory_that_is_read_in_place_gets_no_files(tmp_path: Path) -> None:
    local = write_documents(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    assert SequenceDataset(local=local, **PACKING).size > 0
    assert sorted(tmp_path.rglob("*")) == before


def test_data_that_was_written_again_is_counted_again(tmp_path: Path) -> None:
    remote = write_documents(tmp_path / "remote")
    pack_sequences(remote, **PACKING)
    (old,) = counts_in(remote)
    text = old.read_bytes()
    write_documents(remote, size_limit=3000, exist_ok=True)
    old.write_bytes(text)  # the writer had deleted it
    dataset = SequenceDataset(remote=remote, local=tmp_path / "local", **PACKING)
    assert sum(int(sample["tokens"].astype(np.int64).sum()) for sample in dataset) == sum(
        int(tokens.astype(np.int64).sum()) for tokens in documents()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("tokens"), "is no list of sequences"),
        (lambda tree: tree.update(version=2), "is of version 2"),
        (lambda tree: tree.update(data="other"), "was made for other data"),
        (lambda tree: tree["sequences"].pop(), "one number for each"),
        (lambda tree: tree["sequences"].__setitem__(0, -1), "one number for each"),
    ],
)
def test_damaged_counts_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    remote = write_documents(tmp_path / "remote")
    pack_sequences(remote, **PACKING)
    (path,) = counts_in(remote)
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(IndexFormatError, match=message):
        SequenceDataset(remote=remote, local=tmp_path / "local", **PACKING).size  # noqa: B018


def test_counts_of_compressed_shards_are_those_of_plain_ones(tmp_path: Path) -> None:
    plain = pack_sequences(write_documents(tmp_path / "plain"), **PACKING)
    for compression in ("zstd:3", "gz"):
        packed = pack_sequences(write_documents(tmp_path / "packed", compression=compression), **PACKING)
        assert packed.num_sequences.tolist() == plain.num_sequences.tolist()
        shutil.rmtree(tmp_path / "packed")


def test_the_command_says_what_it_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remote = write_documents(tmp_path / "remote")
    arguments = ["pack", str(remote), "--column", "tokens", "--seq-len", "50", "--method", "best_fit", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tokens"] == sum(map(len, documents()))
    assert report["sequences"] == SequenceDataset(remote=remote, local=tmp_path / "local", **PACKING).size
    assert len(counts_in(remote)) == 1
    assert main(["pack", str(remote), "--column", "name", "--seq-len", "50"]) == 1
    assert "dtype=" in capsys.readouterr().err
