"""Users who share a cache: each reads what the others fetched, or is told whose it is and how it would be shared."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arrowstream import StreamingDataset
from arrowstream.cache.names import TEMPORARY
from tests.reading.datasets import assert_is_sample, write_samples

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as two users"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
NUM_SAMPLES = 100
FIRST, SECOND, GROUP = 61001, 61002, 61000


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter, with a remote in it and a directory for caches."""
    folder = Path(tempfile.mkdtemp(prefix="arrowstream-users-"))
    folder.chmod(0o755)
    remote = write_samples(folder / "remote", NUM_SAMPLES)
    for path in (remote, *remote.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "caches").mkdir()
    (folder / "caches").chmod(0o1777)
    for number in range(NUM_SAMPLES):  # all modules are imported by then, which another user might not be let to
        StreamingDataset(remote=remote, local=folder / "own")[number]
    yield folder
    shutil.rmtree(folder)


def act_as(user: int, umask: int, work: Callable[[], None]) -> str:
    """Work as a user, in a process of its own.

    Returns:
        What went wrong; "" if nothing did.
    """
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([GROUP])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.umask(umask)
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 (told to the parent)
            os.write(told, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
    os.close(told)
    with os.fdopen(ready) as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == bool(said)
    return said


def reader(shared: Path, num_samples: int = NUM_SAMPLES, limit: str | None = None) -> Callable[[], None]:
    def read() -> None:
        dataset = StreamingDataset(remote=shared / "remote", local=shared / "caches" / "one", cache_limit=limit)
        for number in range(num_samples):
            assert_is_sample(dataset[number], number)

    return read


@pytest.mark.parametrize("limit", [None, "1mb"])
def test_a_user_reads_what_another_one_fetched(shared: Path, limit: str | None) -> None:
    assert act_as(FIRST, 0o022, reader(shared, limit=limit)) == ""
    assert act_as(SECOND, 0o022, reader(shared, limit=limit)) == ""


def test_what_another_user_has_not_fetched_is_an_error_that_names_its_owner(shared: Path) -> None:
    assert act_as(FIRST, 0o022, reader(shared, 30)) == ""
    said = act_as(SECOND, 0o022, reader(shared))
    assert said.startswith("UnwritableError")
    assert f"{shared}/caches/one/{TEMPORARY} belongs to user {FIRST}, this process to {SECOND}" in said
    assert "umask 002" in said
    assert "local=" in said


def test_a_cache_that_its_owner_keeps_to_himself_is_an_error_that_names_him(shared: Path) -> None:
    assert act_as(FIRST, 0o077, reader(shared)) == ""
    said = act_as(SECOND, 0o077, reader(shared))
    assert said.startswith("UnwritableError")
    assert f"{shared}/caches/one belongs to user {FIRST}, this process to {SECOND}" in said


@pytest.mark.parametrize("limit", [None, "60kb"])
def test_users_of_a_group_share_a_cache_as_the_error_says(shared: Path, limit: str | None) -> None:
    cache = shared / "caches" / "one"
    cache.mkdir()
    os.chown(cache, FIRST, GROUP)
    cache.chmod(0o2775)
    assert act_as(FIRST, 0o002, reader(shared, 30, limit)) == ""
    assert act_as(SECOND, 0o002, reader(shared, NUM_SAMPLES, limit)) == ""
    assert act_as(FIRST, 0o002, reader(shared, NUM_SAMPLES, limit)) == ""
    assert list((cache / TEMPORARY).iterdir()) == []
