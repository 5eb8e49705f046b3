"""Every Python example in the README and the docs runs, page by page, in the order in which it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if EXAMPLE.search(page.read_text())], ids=lambda page: page.name
)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    # A script of its own, because workers that are spawned import it.
    body = "\n".join(EXAMPLE.findall(page.read_text()))
    script = tmp_path / "example.py"
    script.write_text(
        "def main():\n"
        + "".join(f"    {line}\n" for line in body.splitlines())
        + "\nif __name__ == '__main__':\n    main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []
