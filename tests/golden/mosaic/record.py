"""Record datasets of mosaicml-streaming, for the tests of ``arrowstream_mosaic``.

Run it where mosaicml-streaming 0.13.0 is installed, while no other job of it runs; it writes the folders beside it.

    python tests/golden/mosaic/record.py          record
    python tests/golden/mosaic/record.py DIR      check, value by value, that it reads the datasets in DIR, where it
                                                  unpacks what is compressed
"""

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from streaming import CSVWriter, JSONWriter, MDSWriter, StreamingDataset, TSVWriter, XSVWriter  # noqa: E402
from streaming.base.util import clean_stale_shared_memory, merge_index  # noqa: E402
from values import DATASETS, ENCODINGS, NUM_SAMPLES, SIZE_LIMIT, encodings_of, is_same, samples  # noqa: E402

FEW = ("int", "str", "ndarray:float32:4")
COUNT = {"int": "int"}


def record() -> None:
    for name, (compression, hashes) in DATASETS.items():
        _write(HERE / name, encodings_of(name), compression=compression, hashes=hashes, size_limit=SIZE_LIMIT)
    _write(HERE / "splits" / "train", FEW)
    _write(HERE / "splits" / "val", FEW, first=4, compression="zstd")
    for part, compression in enumerate((None, "gz:1")):
        _write(HERE / "merged" / f"part-{part}", FEW, first=3 * part, compression=compression, hashes=["sha1"])
    merge_index(str(HERE / "merged"), keep_local=True)
    # The first sample is larger than the limit: an empty shard comes before it.
    _write(HERE / "empty-shard", ("bytes",), first=2, size_limit=300)
    _record_cache()
    _record_text()


def _write(out, encodings=ENCODINGS, first=0, **arguments) -> None:
    shutil.rmtree(out, ignore_errors=True)
    with MDSWriter(out=str(out), columns={name: name for name in encodings}, **arguments) as writer:
        for sample in samples(encodings, first):
            writer.write(sample)


def _record_cache() -> None:
    """What it leaves in its cache: the index says zstd, the shards lie there without."""
    cache, source = HERE / "cache", HERE / "cache-source"
    shutil.rmtree(cache, ignore_errors=True)
    _write(source, FEW, compression="zstd", hashes=["xxh64"])
    clean_stale_shared_memory()
    dataset = StreamingDataset(remote=str(source), local=str(cache), batch_size=1)
    assert len([dataset[i] for i in range(NUM_SAMPLES)]) == NUM_SAMPLES
    shutil.rmtree(source)


def _record_text() -> None:
    """The indexes of its text formats; their files are another plugin's matter."""
    columns = {"n": "int", "text": "str"}
    (HERE / "text").mkdir(exist_ok=True)
    out = HERE / "text" / "out"
    for name, writer, arguments in (
        ("json", JSONWriter, {"compression": "zstd:7", "hashes": ["sha1"]}),
        ("csv", CSVWriter, {"newline": "\r\n"}),
        ("tsv", TSVWriter, {"compression": "gz"}),
        ("xsv", XSVWriter, {"separator": "|", "hashes": ["xxh3_64"]}),
    ):
        with writer(out=str(out), columns=columns, **arguments) as sink:
            for i in range(5):
                sink.write({"n": i, "text": "a" * i})
        (out / "index.json").replace(HERE / "text" / f"{name}.index.json")
        shutil.rmtree(out)


def check(folder: Path) -> None:
    """Read every dataset in a folder, and print what is not as it was written."""
    wrong = []
    count = 0
    for directory in sorted(path.parent for path in folder.rglob("index.json")):
        clean_stale_shared_memory()
        dataset = StreamingDataset(local=str(directory), batch_size=1, allow_unsafe_types=True)
        encodings = json.loads((directory / "index.json").read_text())["shards"][0]["column_names"]
        for i, expected in enumerate(samples(encodings, NUM_SAMPLES - dataset.size)):
            found = dataset[i]
            count += len(expected)
            wrong += [(directory.name, i, name) for name in expected if not is_same(name, found[name], expected[name])]
    print(json.dumps({"version": version("mosaicml-streaming"), "values": count, "wrong": wrong}))


if __name__ == "__main__":
    check(Path(sys.argv[1])) if sys.argv[1:] else record()
