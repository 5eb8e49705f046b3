"""What is shipped, and what importing it costs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(program: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = run("import arrowstream, sys; print(*sys.modules)").split()
    assert "arrowstream" in loaded
    assert not {"torch", "polars", "numpy", "pyarrow", "fsspec", "pandas"} & set(loaded)


def test_writing_and_scanning_need_no_torch() -> None:
    program = """
import sys
sys.modules["torch"] = None  # importing it raises ImportError from now on
import numpy as np, pyarrow as pa, tempfile
from arrowstream import MDSWriter, scan, to_arrow_dataset, write_dataframe
with tempfile.TemporaryDirectory() as out:
    write_dataframe(pa.table({"a": np.arange(10)}), out)
    assert scan(out).collect()["a"].sum() == to_arrow_dataset(out).to_table()["a"].to_numpy().sum() == 45
"""
    run(program)


def test_without_torch_the_dataset_is_still_there() -> None:
    program = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else real(name, package)
import arrowstream
assert arrowstream.StreamingDataset.__module__ == "arrowstream.dataset"
assert "torch" not in sys.modules
"""
    run(program)


def test_every_public_name_is_there_and_listed() -> None:
    program = """
import arrowstream
for name in arrowstream.__all__:
    assert getattr(arrowstream, name).__doc__, name
    assert name in dir(arrowstream)
print(arrowstream.__version__)
"""
    assert run(program).strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    import arrowstream

    with pytest.raises(AttributeError, match="no attribute 'StreamingDatasett'"):
        _ = arrowstream.StreamingDatasett


def test_the_wheel_holds_every_format_and_the_types(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        path.relative_to(root).as_posix()
        for root in (ROOT, ROOT / "formats")
        for folder in (root.glob("arrowstream") if root == ROOT else root.glob("arrowstream_*"))
        for path in folder.rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert sources <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {name.partition("/")[0] for name in sources}


def test_a_name_is_not_hidden_by_the_module_it_comes_from() -> None:
    program = (
        "import importlib, pkgutil, arrowstream\n"
        "modules = {each.name for each in pkgutil.iter_modules(arrowstream.__path__)}\n"
        "assert not modules & set(arrowstream.__all__), modules & set(arrowstream.__all__)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
