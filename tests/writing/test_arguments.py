"""Every argument of a writer, with the meaning that mosaicml-streaming gave it."""

import bz2
import errno
import gzip
import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import xxhash

from arrowstream import MDSWriter, StreamingDataset
from arrowstream.errors import (
    DirectoryInUseError,
    RemoteNotFoundError,
    StorageError,
    UnknownEncodingError,
    UnwritableError,
)
from tests.servers import S3Server, closed_port
from tests.writing.directories import index_of, listing, read_rows, read_shard, shards_of

SAMPLES = [{"id": number, "text": f"sample {number} " * 10} for number in range(300)]
COLUMNS = {"id": "int", "text": "str"}


def _write(out: Any, **arguments: Any) -> None:
    with MDSWriter(**{"columns": COLUMNS, "out": out, "size_limit": "16kb", **arguments}) as writer:
        for sample in SAMPLES:
            writer.write(sample)


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    _write(tmp_path / "a" / "b c")
    assert read_rows(tmp_path / "a" / "b c") == SAMPLES


def test_a_file_url_is_a_directory(tmp_path: Path) -> None:
    _write((tmp_path / "a dir").as_uri())
    assert read_rows(tmp_path / "a dir") == SAMPLES


def test_a_text_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write("here/train")
    assert read_rows(tmp_path / "here" / "train") == SAMPLES


@pytest.mark.parametrize("keep_local", [True, False])
@pytest.mark.parametrize("as_url", [True, False])
def test_a_local_directory_beside_a_remote_is_kept_on_request(tmp_path: Path, keep_local: bool, as_url: bool) -> None:
    local, remote = tmp_path / "local", tmp_path / "remote"
    _write((local, remote.as_uri() if as_url else str(remote)), keep_local=keep_local)
    assert read_rows(remote) == SAMPLES
    assert local.exists() == keep_local
    if keep_local:
        assert listing(local) == listing(remote)
        assert read_rows(local) == SAMPLES


def test_the_same_directory_twice_is_one(tmp_path: Path) -> None:
    _write((tmp_path / "x", (tmp_path / "x").as_uri()))
    assert read_rows(tmp_path / "x") == SAMPLES


@pytest.mark.parametrize("keep_local", [True, False])
def test_a_url_goes_by_way_of_a_directory_that_is_removed(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_local: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _write(s3.new_prefix(), storage_options=s3.options, keep_local=keep_local)
    if keep_local:
        (staged,) = tmp_path.iterdir()
        assert read_rows(staged) == SAMPLES
    else:
        assert list(tmp_path.iterdir()) == []


UNWRAP = {
    "gz": gzip.decompress,
    "bz2": bz2.decompress,
    "br": lambda data: pa.CompressedInputStream(pa.BufferReader(data), "brotli").read(),
}


@pytest.mark.parametrize("compression", ["zstd", "zstd:1", "zstd:22", "lz4"])
def test_compression_inside_leaves_an_arrow_file(tmp_path: Path, compression: str) -> None:
    _write(tmp_path / "plain")
    _write(tmp_path / "packed", compression=compression)
    assert read_rows(tmp_path / "packed") == SAMPLES
    group = index_of(tmp_path / "packed")["groups"][0]
    assert group["compression"] == compression
    plain = index_of(tmp_path / "plain")["groups"][0]["shards"]
    assert group["shards"]["raw_bytes"] == plain["raw_bytes"] == plain["file_bytes"]
    assert group["shards"]["file_bytes"] == [path.stat().st_size for path in shards_of(tmp_path / "packed")]
    assert sum(group["shards"]["file_bytes"]) < sum(plain["file_bytes"])
    assert [path.suffix for path in shards_of(tmp_path / "packed")] == [".arrow"] * len(plain["basename"])


@pytest.mark.parametrize("compression", ["gz", "gz:0", "gz:9", "bz2", "bz2:1", "bz2:9", "br", "br:0", "br:11"])
def test_other_compressions_wrap_the_file_reproducibly(tmp_path: Path, compression: str) -> None:
    _write(tmp_path / "plain")
    _write(tmp_path / "packed", compression=compression)
    _write(tmp_path / "again", compression=compression)
    codec = compression.partition(":")[0]
    plain, packed = shards_of(tmp_path / "plain"), shards_of(tmp_path / "packed")
    assert [path.name for path in packed] == [f"{path.name}.{codec}" for path in plain]
    assert [UNWRAP[codec](path.read_bytes()) for path in packed] == [path.read_bytes() for path in plain]
    assert [path.read_bytes() for path in packed] == [path.read_bytes() for path in shards_of(tmp_path / "again")]
    shards = index_of(tmp_path / "packed")["groups"][0]["shards"]
    assert shards["raw_bytes"] == [path.stat().st_size for path in plain]
    assert shards["file_bytes"] == [path.stat().st_size for path in packed]


def test_snappy_wraps_the_file_as_one_raw_block(tmp_path: Path) -> None:
    _write(tmp_path / "plain")
    _write(tmp_path / "packed", compression="snappy")
    for plain, packed in zip(shards_of(tmp_path / "plain"), shards_of(tmp_path / "packed"), strict=True):
        content = plain.read_bytes()
        assert packed.name == f"{plain.name}.snappy"
        assert pa.decompress(packed.read_bytes(), len(content), "snappy", asbytes=True) == content


@pytest.mark.parametrize("compression", ["zstd:3", "lz4", "gz", "bz2", "br", "snappy"])
def test_every_compression_is_read_back(tmp_path: Path, compression: str) -> None:
    _write(tmp_path / "remote", compression=compression)
    dataset = StreamingDataset(remote=tmp_path / "remote", local=tmp_path / "local")
    assert list(dataset) == SAMPLES
    assert read_shard(tmp_path / "local" / "shard.00000.arrow").to_pylist() == SAMPLES[: dataset.samples_per_shard[0]]


@pytest.mark.parametrize("level", [1, 9])
def test_a_level_reaches_the_codec(tmp_path: Path, level: int) -> None:
    _write(tmp_path / "packed", compression=f"gz:{level}")
    for path in shards_of(tmp_path / "packed"):
        plain = gzip.decompress(path.read_bytes())
        assert gzip.compress(plain, level, mtime=0)[10:] == path.read_bytes()[10:]


@pytest.mark.parametrize(
    "compression",
    ["zip", "ZSTD", "zstd:0", "zstd:23", "zstd:x", "zstd:", "zstd:-1", "lz4:1", "gz:10", "br:12", "bz2:0", "snappy:1"],
)
def test_a_compression_that_does_not_exist_is_refused(tmp_path: Path, compression: str) -> None:
    with pytest.raises(ValueError, match=f"compression '{compression}'"):
        _write(tmp_path / "x", compression=compression)
    assert listing(tmp_path) == []


HASH_CLASSES = {"xxh128": "xxh3_128"}  # two names of one hash


@pytest.mark.parametrize("compression", [None, "zstd", "gz"])
def test_hashes_are_those_of_the_files(tmp_path: Path, compression: str | None) -> None:
    names = ["blake2b", "md5", "sha1", "sha256", "sha3_384", "xxh128", "xxh32", "xxh3_128", "xxh64"]
    _write(tmp_path / "x", hashes=names, compression=compression)
    hashes = index_of(tmp_path / "x")["groups"][0]["shards"]["hashes"]
    assert set(hashes) == {*names, "xxh3_64"}
    for number, path in enumerate(shards_of(tmp_path / "x")):
        for name, digests in hashes.items():
            made = getattr(xxhash, HASH_CLASSES.get(name, name), None) or getattr(hashlib, name)
            assert digests[number] == made(path.read_bytes()).hexdigest(), name


@pytest.mark.parametrize("name", ["crc32", "SHA1", "shake_128", ""])
def test_a_hash_that_does_not_exist_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"no hash is named {name!r}; there are: .*sha1.*xxh3_64"):
        _write(tmp_path / "x", hashes=["sha1", name])
    assert listing(tmp_path) == []


@pytest.mark.parametrize(("size_limit", "num_bytes"), [(20_000, 20_000), ("16kb", 16_384), ("0.02MB", 20_971)])
def test_shards_stay_within_their_limit(tmp_path: Path, size_limit: int | str, num_bytes: int) -> None:
    _write(tmp_path / "x", size_limit=size_limit)
    assert index_of(tmp_path / "x")["groups"][0]["size_limit"] == num_bytes
    sizes = [path.stat().st_size for path in shards_of(tmp_path / "x")]
    assert len(sizes) > 1
    assert max(sizes) <= num_bytes


@pytest.mark.parametrize("size_limit", [None, 0, "0"])
def test_without_a_limit_there_is_one_shard(tmp_path: Path, size_limit: int | str | None) -> None:
    _write(tmp_path / "x", size_limit=size_limit)
    assert len(shards_of(tmp_path / "x")) == 1
    assert index_of(tmp_path / "x")["groups"][0]["size_limit"] is None


@pytest.mark.parametrize("size_limit", [-1, "64 parsecs", "", 1.5, True])
def test_a_limit_that_is_no_size_is_refused(tmp_path: Path, size_limit: Any) -> None:
    with pytest.raises(ValueError, match="a size like 67108864, '64mb'"):
        _write(tmp_path / "x", size_limit=size_limit)
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"max_workers": 0}, "max_workers is 0; expected at least 1"), ({"retry": 0}, "is 0, expected at least 1")],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _write(tmp_path / "x", **arguments)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("max_workers", [1, 3, 16])
def test_any_number_of_workers_writes_the_same(tmp_path: Path, max_workers: int) -> None:
    _write(tmp_path / "x", max_workers=max_workers, size_limit="4kb")
    _write(tmp_path / "default", size_limit="4kb")
    assert len(shards_of(tmp_path / "x")) > 16
    assert (tmp_path / "x" / "index.json").read_bytes() == (tmp_path / "default" / "index.json").read_bytes()
    assert read_rows(tmp_path / "x") == SAMPLES


@pytest.mark.parametrize("progress_bar", [True, False])
def test_a_progress_bar_counts_bytes_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], progress_bar: bool
) -> None:
    _write(tmp_path / "x", progress_bar=progress_bar)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("writing" in shown.err and "B/s" in shown.err) == progress_bar
    assert bool(shown.err) == progress_bar


@pytest.mark.parametrize("content", ["index.json", "notes.txt", "folder/", ".hidden"])
def test_a_directory_in_use_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x" / content
    path.parent.mkdir()
    path.mkdir() if content.endswith("/") else path.write_text("mine")
    before = listing(tmp_path)
    with pytest.raises(DirectoryInUseError, match=r"x: is not empty.*exist_ok=True"):
        _write(tmp_path / "x")
    with pytest.raises(FileExistsError):
        _write((tmp_path / "x", (tmp_path / "remote").as_uri()))
    assert listing(tmp_path) == before


def test_a_remote_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    _write(tmp_path / "remote")
    before = {path.name: path.read_bytes() for path in (tmp_path / "remote").iterdir()}
    with pytest.raises(DirectoryInUseError, match=r"remote/index.json: exists already"):
        _write((tmp_path / "local", str(tmp_path / "remote")))
    assert not (tmp_path / "local").exists()
    (tmp_path / "remote" / "index.json").unlink()
    with pytest.raises(DirectoryInUseError, match=r"remote/shard.00000.arrow: exists already"):
        _write((tmp_path / "local", str(tmp_path / "remote")))
    assert not (tmp_path / "local").exists()
    (tmp_path / "remote" / "index.json").write_bytes(before["index.json"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "remote").iterdir()} == before


def test_an_empty_directory_is_not_in_use(tmp_path: Path) -> None:
    _write(tmp_path)
    assert read_rows(tmp_path) == SAMPLES


def test_with_exist_ok_what_was_there_is_gone(tmp_path: Path) -> None:
    _write(tmp_path / "x", size_limit="4kb", compression="gz")
    (tmp_path / "x" / "notes.txt").write_text("mine")
    _write(tmp_path / "x", exist_ok=True)
    assert read_rows(tmp_path / "x") == SAMPLES
    assert listing(tmp_path / "x") == sorted(["index.json", *(path.name for path in shards_of(tmp_path / "x"))])


def test_with_exist_ok_the_old_index_goes_before_the_first_new_shard_comes(tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    _write(remote)
    with MDSWriter(columns=COLUMNS, out=(tmp_path / "local", str(remote)), exist_ok=True):
        assert not (remote / "index.json").exists()
    with pytest.raises(RemoteNotFoundError, match="its writer did not finish"):
        _dataset_of_interrupted(tmp_path, remote)


def _dataset_of_interrupted(tmp_path: Path, remote: Path) -> int:
    with pytest.raises(KeyboardInterrupt), MDSWriter(columns=COLUMNS, out=(tmp_path / "l", str(remote)), exist_ok=True):
        raise KeyboardInterrupt
    return StreamingDataset(remote=remote, local=tmp_path / "cache").num_samples


def test_retry_counts_all_attempts(tmp_path: Path) -> None:
    endpoint = closed_port()
    options = {"key": "k", "secret": "s", "endpoint_url": endpoint}
    for attempts in (1, 2):
        with pytest.raises(StorageError, match=rf"s3://bucket/x/index.json.*{attempts} attempt"):
            _write("s3://bucket/x", storage_options=options, retry=attempts)


def test_where_no_directory_can_be_made_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(UnwritableError, match="file") as caught:
        _write(tmp_path / "file" / "x")
    assert caught.value.errno == errno.ENOTDIR
    with pytest.raises(UnwritableError, match="file"):
        _write(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "no directory"


def test_columns_without_a_known_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownEncodingError, match="did you mean 'int32'"):
        _write(tmp_path / "x", columns={"id": "int23"})
    with pytest.raises(ValueError, match="at least one column"):
        _write(tmp_path / "x", columns={})
    assert listing(tmp_path) == []


def test_an_unknown_argument_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="colums"):
        MDSWriter(colums=COLUMNS, out=tmp_path)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "columns",
    [
        {"id": "int", "text": "str"},
        {"id": pa.int64(), "text": pa.large_string()},
        pa.schema({"id": pa.int64(), "text": pa.string()}),
        {"text": "str", "id": "int64"},
    ],
)
def test_columns_are_names_of_encodings_types_or_a_schema(tmp_path: Path, columns: Any) -> None:
    _write(tmp_path / "x", columns=columns)
    assert read_rows(tmp_path / "x") == SAMPLES
    assert read_shard(shards_of(tmp_path / "x")[0]).schema.names == list(
        columns.names if isinstance(columns, pa.Schema) else columns
    )
