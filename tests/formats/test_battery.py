"""Every format of ours passes what strangers' formats have to pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from arrowstream.index import Shard
from arrowstream.testing import FormatTests

ALL_KINDS = {
    "id": "int64",
    "score": "float64",
    "text": "str",
    "flag": "bool",
    "bytes": "bytes",
    "half": "float16",
    "small": "uint8",
    "ints": "int",
}


class TestMDS(FormatTests):
    name = "mds"
    columns = ALL_KINDS


class TestParquet(FormatTests):
    name = "parquet"
    columns = ALL_KINDS


class TestArrowFiles(FormatTests):
    name = "arrow"
    columns = ALL_KINDS

    def make_shard(self, path: Path, table: pa.Table) -> Shard:
        with pa.ipc.new_file(str(path), table.schema.remove_metadata()) as writer:
            writer.write_table(table, max_chunksize=333)
        return self.shard(path, table.num_rows)


class TestArrowStreams(TestArrowFiles):
    def make_shard(self, path: Path, table: pa.Table) -> Shard:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(str(path), table.schema.remove_metadata(), options=options) as writer:
            writer.write_table(table, max_chunksize=333)
        return self.shard(path, table.num_rows)


TEXT_KINDS = {
    "id": "int64",
    "score": "float64",
    "text": "str",
    "flag": "bool",
    "small": "uint8",
    "ints": "int",
}


#: How our writers tell a missing value from an empty text.
WRITTEN = {"null_values": [""], "quoted_nulls": False, "blank_rows": True}


class TestCSV(FormatTests):
    name = "csv"
    columns = TEXT_KINDS
    options: ClassVar[dict[str, Any]] = WRITTEN


class TestTSV(FormatTests):
    name = "tsv"
    columns = TEXT_KINDS
    options: ClassVar[dict[str, Any]] = WRITTEN


class TestXSV(FormatTests):
    name = "xsv"
    columns = TEXT_KINDS
    options: ClassVar[dict[str, Any]] = {**WRITTEN, "separator": ";"}


class TestJSONLines(FormatTests):
    name = "jsonl"
    columns = TEXT_KINDS

    def test_a_column_that_the_file_lacks_is_named(self, tmp_path: Path) -> None:
        # An object need not have every key.
        path, shard = self.made(tmp_path, 100)
        found = self.arrive(path, replace(shard, columns={**self.columns, "nowhere": "int64"}))
        assert found.column("nowhere").null_count == 100


class TestMosaic(FormatTests):
    name = "mosaic"
    columns: ClassVar[dict[str, str]] = {**ALL_KINDS, "flag": "uint8"}
    nulls = False
    projects = False  # where a value begins is known from those before it
