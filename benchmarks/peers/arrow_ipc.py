"""The limit of writing tables: a bare ``pyarrow.ipc`` file writer, the same record batches, the same size of file."""

from collections.abc import Mapping

from benchmarks.peers import base
from benchmarks.request import Request

_BATCH_BYTES = 1 << 20


class Peer(base.Peer):
    name = "arrow_ipc"
    distributions = ("pyarrow",)
    tasks: Mapping[str, tuple[str, ...]] = {"write_frame": ("",)}

    def write_table(self, request: Request, table) -> None:
        import pyarrow as pa

        out = request.data
        out.mkdir()
        row_bytes = table.nbytes / table.num_rows
        batch_rows = max(1, int(_BATCH_BYTES / row_bytes))
        file_rows = max(batch_rows, int(request.shard_bytes / row_bytes) // batch_rows * batch_rows)
        options = pa.ipc.IpcWriteOptions(compression=_codec(request.options["compression"]))
        for shard, start in enumerate(range(0, table.num_rows, file_rows)):
            path = str(out / f"shard.{shard:05}.arrow")
            with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
                writer.write_table(table.slice(start, file_rows), max_chunksize=batch_rows)

    def open(self, request: Request):
        import pyarrow as pa

        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in sorted(request.data.iterdir())]
        return _Table(pa.concat_tables(tables))


class _Table:
    def __init__(self, table) -> None:
        self.table = table

    def __getitem__(self, i: int) -> dict[str, object]:
        row = {name: self.table[name][i] for name in self.table.column_names}
        return {name: value.to_numpy() if hasattr(value, "to_numpy") else value.as_py() for name, value in row.items()}


def _codec(compression: str | None):
    """A codec from ``zstd:3`` or ``lz4``."""
    import pyarrow as pa

    if compression is None:
        return None
    name, _, level = compression.partition(":")
    return pa.Codec(name, compression_level=int(level)) if level else name
