"""What every format must do.

A plugin's tests inherit it::

    from arrowstream.testing import FormatTests

    class TestLines(FormatTests):
        name = "lines"

A format that only reads also says how to make a file of it (``make_shard``), one that holds fewer types which columns
its files have (``columns``).
"""

import io
import pickle
import random
import shutil
import tracemalloc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from arrowstream import ipc
from arrowstream.columns import Encoding
from arrowstream.dataset import StreamingDataset
from arrowstream.errors import ArrowStreamError, CorruptShardError, EncodingError
from arrowstream.foreign import declared_encoding
from arrowstream.format import Format, WriteSettings
from arrowstream.index import INDEX_NAME, Index, Shard, ShardGroup
from arrowstream.registry import format_names, load_format
from arrowstream.writer import ShardWriter

_CONTENT = "00c0ffee00c0ffee"
_WORDS = ["", "plain", "Grüße, 世界 🎉", 'with "quotes", commas; and\ttabs', "two\nlines", "x" * 300]


class FormatTests:
    """The battery. Subclass it under a name that pytest collects.

    Attributes:
        name: The format's, as its entry point says it.
        columns: Encodings or Arrow types, by name, that its files can hold; one of them is ``id``, an integer.
        nulls: Whether its files can hold missing values.
        options: What the index says to the format of its files.
        projects: Whether some of a file's columns can be declared without the others.
        num_mutations: Damaged files to try.
    """

    name: ClassVar[str]
    columns: ClassVar[Mapping[str, str]] = {"id": "int64", "score": "float64", "text": "str", "flag": "bool"}
    nulls: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Any]] = {}
    projects: ClassVar[bool] = True
    num_mutations: ClassVar[int] = 60

    # For subclasses --------------------------------------------------------------------------------------------------

    @property
    def format(self) -> Format:
        """The format under test."""
        return load_format(self.name)

    def make_shard(self, path: Path, table: pa.Table) -> Shard:
        """Make a file that holds a table, and say what an index would say of it. By default the format writes it."""
        batches = table.to_batches(max_chunksize=100)
        options = self.options_of(table.schema)
        written = self.format.write(path, table.schema, batches, codec=None, level=None, options=options)
        # Where the index is to derive it, the files themselves do not know it.
        return replace(self.shard(path, table.num_rows), content=written.content or _CONTENT, options=options)

    def options_of(self, schema: pa.Schema) -> Mapping[str, Any]:
        """Give what the index says to the format of files that its writer wrote."""
        settings = WriteSettings(compression=None, hashes=(), size_limit=None)
        return {**self.options, **self.format.options_for(schema, settings)}

    def values(self, encoding: Encoding, num_rows: int) -> list[Any]:
        """Make values for a column; with nulls in it, where the format has them."""
        numbers = np.random.default_rng(0)
        makers: dict[str, Any] = {
            "bool": lambda row: bool(row % 3),
            "str": lambda row: f"{_WORDS[row % len(_WORDS)]} {row}",
            "bytes": lambda row: bytes([row % 256]) * (row % 50),
        }
        if encoding.name.startswith(("float", "halffloat", "double")):
            return [float(value) for value in numbers.normal(size=num_rows).astype(np.float16)]
        make = makers.get(encoding.name, lambda row: row % 100)
        return [make(row) for row in range(num_rows)]

    # What it is made of ----------------------------------------------------------------------------------------------

    @property
    def writes(self) -> bool:
        """Whether the format writes."""
        return type(self.format).write is not Format.write

    def table(self, num_rows: int) -> pa.Table:
        """Make a table of the format's columns; every seventh value is missing, but ids are 0, 1, 2 and so on."""
        encodings = {name: declared_encoding(text) for name, text in self.columns.items()}
        columns = []
        for name, encoding in encodings.items():
            values = list(range(num_rows)) if name == "id" else self.values(encoding, num_rows)
            if self.nulls and name != "id":
                values = [None if row % 7 == 3 else value for row, value in enumerate(values)]
            columns.append(encoding.to_arrow([None if value is None else encoding.encode(value) for value in values]))
        return pa.table(columns, schema=pa.schema([each.field(name) for name, each in encodings.items()]))

    def shard(self, path: Path, num_rows: int) -> Shard:
        """Say what an index says of a file."""
        return Shard(
            basename=path.name,
            num_samples=num_rows,
            raw_bytes=path.stat().st_size,
            file_bytes=path.stat().st_size,
            content=_CONTENT,
            hashes={},
            format=self.name,
            compression=None,
            columns=self.columns,
            options=self.options,
        )

    def arrive(self, source: Path, shard: Shard) -> pa.Table:
        """Do with a file what a cache does with one that arrived.

        Raises:
            CorruptShardError: It was refused, by the format or by the checks after it.
        """
        target = source.with_name(f"{source.name}.ready")
        target.unlink(missing_ok=True)
        copy = source.with_name(f"{source.name}.arrived")
        shutil.copyfile(source, copy)
        self.format.transcode(copy, target, shard)
        reader = ipc.open_file(target)
        ipc.validate(reader, target, shard.num_samples)
        if ipc.content_of(reader.schema) != shard.content:
            raise CorruptShardError(f"carries the content {ipc.content_of(reader.schema)!r}, not {shard.content!r}")
        return reader.read_all()

    def made(self, folder: Path, num_rows: int) -> tuple[Path, Shard]:
        """Make a file with so many rows."""
        path = folder / f"shard{self.format.suffix}"
        return path, self.make_shard(path, self.table(num_rows))

    # Being a plugin --------------------------------------------------------------------------------------------------

    def test_it_is_installed_under_its_name(self) -> None:
        assert self.name in format_names()
        assert self.format.name == self.name
        assert self.format.suffix.startswith(".")

    def test_it_has_no_state_and_pickles(self) -> None:
        assert vars(self.format) == {}
        assert type(pickle.loads(pickle.dumps(self.format))) is type(self.format)  # noqa: S301 (our own)

    # Reading ---------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("num_rows", [1, 7, 100, 1013])
    def test_the_rows_come_out_in_their_order(self, tmp_path: Path, num_rows: int) -> None:
        path, shard = self.made(tmp_path, num_rows)
        found = self.arrive(path, shard)
        assert found.select(list(self.columns)).to_pylist() == self.table(num_rows).to_pylist()

    def test_a_file_without_rows_has_its_columns(self, tmp_path: Path) -> None:
        path, shard = self.made(tmp_path, 0)
        found = self.arrive(path, shard)
        assert (found.num_rows, set(found.schema.names)) == (0, set(self.columns))

    def test_columns_are_stored_as_they_are_declared(self, tmp_path: Path) -> None:
        path, shard = self.made(tmp_path, 10)
        found = self.arrive(path, shard)
        for name, text in self.columns.items():
            assert found.schema.field(name).equals(declared_encoding(text).field(name), check_metadata=True)

    def test_only_the_declared_columns_come_out(self, tmp_path: Path) -> None:
        if self.format.in_place or not self.projects:
            pytest.skip("its files have their columns together")
        path, shard = self.made(tmp_path, 50)
        some = dict(reversed(list(self.columns.items())[:2]))
        found = self.arrive(path, replace(shard, columns=some))
        assert found.to_pylist() == self.table(50).select(list(some)).to_pylist()

    def test_many_rows_become_record_batches_of_one_size(self, tmp_path: Path) -> None:
        if self.format.in_place:
            pytest.skip("its files are mapped as they are")
        num_rows = 150_000
        path, shard = self.made(tmp_path, num_rows)
        self.arrive(path, shard)
        reader = ipc.open_file(path.with_name(f"{path.name}.ready"))
        sizes = [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]
        assert len(sizes) > 1
        assert len(set(sizes[:-1])) == 1
        assert ipc.BATCH_BYTES / 2 <= reader.get_batch(0).nbytes <= 2 * ipc.BATCH_BYTES
        for number in range(len(sizes)):
            ipc.check_batch(path.with_name(f"{path.name}.ready"), reader.schema, number)

    def test_threads_may_read_at_a_time(self, tmp_path: Path) -> None:
        path, shard = self.made(tmp_path, 500)
        copies = [path.with_name(f"{number}{path.name}") for number in range(8)]
        for copy in copies:
            shutil.copyfile(path, copy)
        with ThreadPoolExecutor(4) as pool:
            tables = list(pool.map(lambda copy: self.arrive(copy, shard), copies))
        assert all(table.equals(tables[0]) for table in tables)

    def test_nothing_is_left_beside_the_result(self, tmp_path: Path) -> None:
        path, shard = self.made(tmp_path, 500)
        before = set(tmp_path.iterdir())
        self.arrive(path, shard)
        new = {each.name for each in set(tmp_path.iterdir()) - before}
        assert new <= {f"{path.name}.ready", f"{path.name}.arrived"}

    # Refusing --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("claimed", [0, 99, 101, 10**12])
    def test_another_number_of_rows_than_the_index_says_is_refused(self, tmp_path: Path, claimed: int) -> None:
        path, shard = self.made(tmp_path, 100)
        with pytest.raises(CorruptShardError):
            self.arrive(path, replace(shard, num_samples=claimed))

    def test_a_column_that_the_file_lacks_is_named(self, tmp_path: Path) -> None:
        if self.format.in_place:
            pytest.skip("its files are mapped as they are")
        path, shard = self.made(tmp_path, 100)
        with pytest.raises(CorruptShardError, match="'nowhere'"):
            self.arrive(path, replace(shard, columns={**self.columns, "nowhere": "int64"}))

    @pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.5, 0.9])
    def test_a_file_that_was_cut_off_is_refused(self, tmp_path: Path, kept: float) -> None:
        path, shard = self.made(tmp_path, 1000)
        contents = path.read_bytes()
        path.write_bytes(contents[: int(kept * len(contents))])
        with pytest.raises(CorruptShardError):
            self.arrive(path, shard)

    @pytest.mark.parametrize(
        "contents", [b"", b"\0", b"<html>404</html>\n", b"\xff" * 5000, b"ARROW1\0\0", b"PAR1PAR1"]
    )
    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path, contents: bytes) -> None:
        path, shard = self.made(tmp_path, 100)
        path.write_bytes(contents)
        with pytest.raises(CorruptShardError):
            self.arrive(path, shard)

    def test_a_damaged_file_is_read_or_refused_and_takes_no_memory(self, tmp_path: Path) -> None:
        path, shard = self.made(tmp_path, 300)
        contents = path.read_bytes()
        tracemalloc.start()
        try:
            for number in range(self.num_mutations):
                path.write_bytes(_mutated(contents, random.Random(number)))  # noqa: S311
                before = pa.total_allocated_bytes()
                try:
                    self.arrive(path, shard)
                    with path.open("rb") as file:
                        self.format.describe(file, self.options)
                except (ArrowStreamError, NotImplementedError):
                    pass
                assert pa.total_allocated_bytes() <= before + (64 << 20), f"mutation {number}"
            assert tracemalloc.get_traced_memory()[1] < 256 << 20
        finally:
            tracemalloc.stop()

    # Describing ------------------------------------------------------------------------------------------------------

    def test_what_it_describes_is_what_it_transcodes(self, tmp_path: Path) -> None:
        path, shard = self.made(tmp_path, 123)
        self._skip_unless_it_describes()
        with path.open("rb") as file:
            described = self.format.describe(file, self.options)
        assert described.num_samples == 123
        assert set(described.columns) == set(self.columns)
        assert described.content in ("", shard.content)
        found = self.arrive(path, replace(shard, columns=described.columns, options=described.options))
        fields = [declared_encoding(text).field(name) for name, text in described.columns.items()]
        assert [field.type for field in found.schema] == [field.type for field in fields]
        assert found.column("id").to_pylist() == list(range(123))

    @pytest.mark.parametrize("contents", [b"", b"\xff" * 5000])
    def test_it_does_not_describe_what_is_no_such_file(self, contents: bytes) -> None:
        self._skip_unless_it_describes()
        try:
            described = self.format.describe(io.BytesIO(contents), self.options)
        except (CorruptShardError, EncodingError):
            return
        assert (described.num_samples, contents) == (0, b"")

    def _skip_unless_it_describes(self) -> None:
        if type(self.format).describe is Format.describe:
            pytest.skip("its files cannot be indexed")

    # Being a dataset -------------------------------------------------------------------------------------------------

    def test_a_dataset_of_it_streams(self, tmp_path: Path) -> None:
        (tmp_path / "remote").mkdir()
        shards = []
        for number in range(3):
            path = tmp_path / "remote" / f"{number}{self.format.suffix}"
            shard = self.make_shard(path, self.table(40))
            shards.append(replace(shard, content=shard.content if self.writes else f"{number:016x}"))
        group = ShardGroup(
            format=self.name,
            columns=shards[0].columns,
            compression=None,
            size_limit=None,
            basename=[shard.basename for shard in shards],
            num_samples=np.array([shard.num_samples for shard in shards], np.int64),
            raw_bytes=np.array([shard.raw_bytes for shard in shards], np.int64),
            file_bytes=np.array([shard.file_bytes for shard in shards], np.int64),
            content=[shard.content for shard in shards],
            options=shards[0].options,
        )
        (tmp_path / "remote" / INDEX_NAME).write_bytes(Index(groups=(group,)).to_json())
        cached = StreamingDataset(remote=tmp_path / "remote", local=tmp_path / "local")
        assert [sample["id"] for sample in cached] == list(range(40)) * 3
        again = StreamingDataset(remote=tmp_path / "remote", local=tmp_path / "local", shuffle=True)
        assert sorted(sample["id"] for sample in again) == sorted(list(range(40)) * 3)
        in_place = StreamingDataset(remote=tmp_path / "remote")
        assert [sample["id"] for sample in in_place] == list(range(40)) * 3

    # Writing ---------------------------------------------------------------------------------------------------------

    def test_a_writer_of_it_writes_what_a_dataset_reads(self, tmp_path: Path) -> None:
        if not self.writes:
            pytest.skip("it only reads")

        class Writer(ShardWriter):
            format_name = self.name
            _format_options = self.options

        expected = self.table(300).to_pylist()
        for compression in (None, *sorted({"gz", "bz2", *self.format.codecs})):
            out = tmp_path / str(compression)
            with Writer(columns=self.columns, out=out, compression=compression, size_limit="10kb") as writer:
                for batch in self.table(300).to_batches():
                    writer.write_batch(batch)
            dataset = StreamingDataset(remote=out, local=tmp_path / f"{compression}-local")
            assert dataset.take(range(300)).to_pylist() == expected
            assert len({content for _, content in dataset.shard_paths()}) == dataset.num_shards

    def test_the_same_rows_have_the_same_identity_and_others_another(self, tmp_path: Path) -> None:
        if not self.writes:
            pytest.skip("it only reads")

        def written(table: pa.Table) -> str:
            path = tmp_path / "file"
            batches = table.to_batches()
            options = self.options_of(table.schema)
            content = self.format.write(path, table.schema, batches, codec=None, level=None, options=options).content
            # Where an index of theirs says no more than hashes, it is derived from those of the bytes.
            return content or path.read_bytes().hex()

        assert written(self.table(100)) == written(self.table(100))
        assert written(self.table(100)) != written(self.table(101))


def _mutated(contents: bytes, chance: random.Random) -> bytes:
    """Damage a file: flip bits, overwrite, cut out or double a part."""
    damaged = bytearray(contents)
    for _ in range(chance.choice([1, 1, 2, 8])):
        start = chance.randrange(len(damaged))
        length = chance.choice([1, 4, 8, 64])
        kind = chance.randrange(4)
        if kind == 0:
            damaged[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            damaged[start : start + length] = chance.choice([b"\xff", b"\0", b"\x7f"]) * length
        elif kind == 2:
            del damaged[start : start + length]
        else:
            damaged[start:start] = damaged[start : start + length]
        if not damaged:
            return b""
    return bytes(damaged)
