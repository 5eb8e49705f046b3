"""A storage in other processes: forked after use, spawned, started by a server; and what importing it costs."""

import concurrent.futures
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arrowstream.storage import Storage
from tests.servers import S3Server

DEADLINE_S = 60


@pytest.fixture(params=["obstore", "fsspec"])
def storage(request: pytest.FixtureRequest, s3: S3Server) -> Storage:
    storage = Storage(s3.new_prefix(), options={**s3.options, "client": request.param}, timeout_s=20)
    storage.write("key", b"1234")  # so that the parent has a client with connections and threads
    return storage


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_reads_after_its_parent_did(storage: Storage, tmp_path: Path) -> None:
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                storage.download("key", tmp_path / "target", num_bytes=4)
                os._exit(0 if storage.read("key", 1, 3) == b"23" else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (tmp_path / "target").read_bytes() == b"1234"
        assert storage.read("key") == b"1234"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_children_of_children_choose_as_their_parents_did(storage: Storage) -> None:
    chosen = storage.client

    def fork(depth: int) -> int:
        child = os.fork()
        if child == 0:
            status = 2
            try:
                same = storage.client == chosen and storage.read("key") == b"1234"
                status = (fork(depth - 1) if depth else 0) if same else 1
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert fork(2) == 0
    assert storage.read("key") == b"1234"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_any_kind_read(storage: Storage, method: str) -> None:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        answers = [executor.submit(storage.read, "key", start, 4) for start in range(4)]
        assert [answer.result(DEADLINE_S) for answer in answers] == [b"1234", b"234", b"34", b"4"]


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_importing_the_module_imports_no_client() -> None:
    done = run_python(
        "import sys, arrowstream.storage as storage; storage.Storage('s3://bucket'); storage.Storage('.').list();"
        "print(sorted({'fsspec', 's3fs', 'obstore', 'botocore', 'asyncio', 'torch', 'polars'} & set(sys.modules)))"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_program_ends_in_silence(s3: S3Server) -> None:
    program = "import sys, json; from arrowstream.storage import Storage\n"
    program += "Storage(sys.argv[1], options=json.loads(sys.argv[2])).write('key', b'1')"
    done = run_python(program, s3.new_prefix(), json.dumps(s3.options))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_request_that_hangs_does_not_hold_up_the_exit() -> None:
    program = """
import threading
import fsspec
from arrowstream.errors import RemoteTimeoutError
from arrowstream.storage import Storage

class Hanging(fsspec.AbstractFileSystem):
    protocol = "hanging"
    def cat_file(self, path, start=None, end=None, **kwargs):
        threading.Event().wait()

fsspec.register_implementation("hanging", Hanging)
try:
    Storage("hanging://store", attempts=1, timeout_s=0.2).read("key")
except RemoteTimeoutError as error:
    print(error)
"""
    done = run_python(program)
    assert done.stdout.startswith("hanging://store/key: cannot read, 1 attempt in ")
    assert "no answer in time" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
