"""A package that we have never seen: the one in docs/writing-a-format.md, built, installed, tested by the battery."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "writing-a-format.md").read_text()


def block(name: str) -> str:
    """Take a file from the page, where it stands in full."""
    [text] = re.findall(rf"^`{re.escape(name)}`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package as its author would, and install it into a directory of its own."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "arrowstream_kv.py", "test_kv.py"):
        (source / name).write_text(block(name))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(source / "dist")]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    [wheel] = (source / "dist").glob("*.whl")
    # What pip does with a pure wheel, without asking an index for anything.
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True, timeout=60)
    (site / "test_kv.py").write_text(block("test_kv.py"))
    return site


def run(site: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT), str(ROOT / "formats")])}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=site,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_strangers_format_passes_the_battery(site: Path) -> None:
    told = run(site, "pytest", "-q", "-p", "no:cacheprovider", "-rN", "test_kv.py")
    assert re.search(r"\d{2} passed", told)
    assert "failed" not in told


def test_the_strangers_files_are_indexed_and_streamed(site: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.kv").write_text("".join(f"{number * 10 + row}=text {row}\n" for row in range(10)))
    facts = json.loads(run(site, "arrowstream", "index", str(tmp_path), "--json"))
    assert (facts["files"], facts["samples"], facts["formats"]) == (3, 30, "kv (3)")
    code = (
        f"import arrowstream\nprint(sum(row['id'] for row in arrowstream.StreamingDataset(remote={str(tmp_path)!r})))"
    )
    (site / "read_kv.py").write_text(code)
    assert run(site, "read_kv").strip() == str(sum(range(30)))
