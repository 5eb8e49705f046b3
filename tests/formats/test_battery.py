"""Every format of ours passes what strangers' formats have to pass."""

from pathlib import Path

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
