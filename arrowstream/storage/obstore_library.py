"""The library obstore, also in a process that was forked from one that used it.

It is Rust, and its runtime has threads that a fork does not copy: what was started before a fork hangs for ever after
it, new stores included. So a forked child whose ancestor had imported obstore loads the library a second time, from a
copy of its file in memory; the loader takes a file that it has seen for the library that it has loaded.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import threading
from types import ModuleType

EXTENSION = "obstore._obstore"

_loading = [threading.Lock()]  # a new one in a forked child: a thread of its parent may hold this
_loaded: dict[str, ModuleType] = {}
_left_to_parent: list[ModuleType] = []


def _leave_to_parent() -> None:
    """Run in a forked child."""
    _loading[0] = threading.Lock()
    _loaded.clear()
    extension = sys.modules.get(EXTENSION)
    if extension is not None:
        _left_to_parent.append(extension)


os.register_at_fork(after_in_child=_leave_to_parent)


def unusable_because() -> str | None:
    """Say why this process cannot use obstore; None if it can."""
    try:
        load()
    except ModuleNotFoundError:
        return "obstore is not installed"
    except ImportError as error:
        return f"obstore cannot be loaded: {error}"
    return None


def load() -> ModuleType:
    """Get obstore's functions, with its classes of stores as ``_store``.

    Raises:
        ImportError: It is not installed, or cannot be used in this process.
    """
    with _loading[0]:  # two threads would load two copies, and a store of the one is none to the other
        if EXTENSION not in _loaded:
            _loaded[EXTENSION] = _load_again() if _left_to_parent else importlib.import_module(EXTENSION)
        return _loaded[EXTENSION]


def _load_again() -> ModuleType:
    if sys.platform != "linux":
        raise ImportError("this process was forked from one that uses it")
    try:
        copy = os.memfd_create("obstore")
        try:
            with open(str(_left_to_parent[0].__file__), "rb") as file:
                while os.sendfile(copy, file.fileno(), None, 1 << 30):
                    pass
            return _load_from(f"/proc/{os.getpid()}/fd/{copy}")  # an ancestor's copies have other names
        finally:
            os.close(copy)
    except OSError as error:
        raise ImportError(f"no second copy can be loaded ({error})") from error


def _load_from(path: str) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(EXTENSION, path)
    spec = importlib.util.spec_from_file_location(EXTENSION, path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} is no library")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
