"""The interpreter of each peer: this one, one that the user names, or a virtual environment made on first use."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.peers import Peer

_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE / "peers" / "requirements"
_STAND_INS = _HERE / "peers" / "stand_ins"
ENVIRONMENTS = _HERE / ".peers"


def interpreter(peer: Peer, given: Mapping[str, Path]) -> Path:
    """Find the Python that runs a peer, making its environment where it is missing or its requirements changed."""
    if peer.name in given:
        return _python_of(given[peer.name])
    if not peer.own_environment:
        return Path(sys.executable)
    environment = ENVIRONMENTS / peer.name
    done = environment / "made-from"
    recipe = _recipe_digest(peer.name)
    if not done.exists() or done.read_text() != recipe:
        print(f"making the environment of {peer.name} in {environment.relative_to(_HERE.parent)} …", file=sys.stderr)
        _make(peer.name, environment)
        done.write_text(recipe)
    return _python_of(environment)


def _python_of(path: Path) -> Path:
    """The interpreter of a virtual environment, not resolved: its own path is what makes it that environment's."""
    for candidate in (path, path / "bin" / "python", path / "Scripts" / "python.exe"):
        if candidate.is_file():
            return candidate.absolute()
    raise FileNotFoundError(f"{path} is neither a Python interpreter nor a virtual environment")


def _recipe_digest(name: str) -> str:
    files = sorted([*_REQUIREMENTS.glob(f"{name}.*"), *_STAND_INS.rglob("*.py")])
    content = b"\0".join(path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()


def _make(name: str, environment: Path) -> None:
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(_python_of(environment))
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", str(_REQUIREMENTS / f"{name}.txt")], check=True)
    subprocess.run([*install, "--no-deps", "-r", str(_REQUIREMENTS / f"{name}.no-deps.txt")], check=True)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
    for stand_in in _STAND_INS.iterdir():
        if stand_in.is_dir() and not (Path(packages) / stand_in.name).exists():
            shutil.copytree(stand_in, Path(packages) / stand_in.name, ignore=shutil.ignore_patterns("__pycache__"))
