"""Writes the golden files, in an environment that has mosaicml-streaming 0.13.0: ``python record.py DIRECTORY``."""

import shutil
import sys
from pathlib import Path

from streaming import CSVWriter, JSONWriter, TSVWriter, XSVWriter

COLUMNS = {"text": "str", "count": "int", "ratio": "float"}
TEXTS = ["plain", "", "été", "a\rb", ' "quoted" ', "日本", "semi;colon", "x"]
RATIOS = [0.1, -0.0, 1e300, 1e-320, float("inf"), float("-inf"), 2.0, 1 / 3]


def samples() -> list[dict[str, object]]:
    return [{"text": TEXTS[i % 8], "count": (-1) ** i * 3**i, "ratio": RATIOS[i % 8]} for i in range(40)]


def write(out: Path) -> None:
    """Write one dataset a format."""
    for name, make in {
        "csv": lambda out: CSVWriter(columns=COLUMNS, out=out, size_limit=400),
        "tsv": lambda out: TSVWriter(columns=COLUMNS, out=out, size_limit=400),
        "xsv": lambda out: XSVWriter(columns=COLUMNS, separator="||", newline="--\n", out=out, size_limit=400),
        "json": lambda out: JSONWriter(columns=COLUMNS, out=out, size_limit=800),
        "json-newline": lambda out: JSONWriter(columns=COLUMNS, newline=",", out=out, size_limit=800),
    }.items():
        shutil.rmtree(out / name, ignore_errors=True)
        with make(str(out / name)) as writer:
            for sample in samples():
                writer.write(sample)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
