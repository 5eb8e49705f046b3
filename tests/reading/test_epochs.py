"""The count of epochs is one for a dataset and its copies in worker processes, whichever way those were made."""

import contextlib
import copy
import fcntl
import multiprocessing
import os
import pickle
import signal
from multiprocessing.connection import Connection

import pytest

from arrowstream.epochs import EpochCounter

DEADLINE_S = 60
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def test_epochs_are_counted_from_zero() -> None:
    counter = EpochCounter()
    assert [counter.claim()[0] for _ in range(3)] == [0, 1, 2]
    assert counter.upcoming[0] == 3


def test_a_count_can_be_set() -> None:
    counter = EpochCounter(5)
    assert counter.claim()[0] == 5
    counter.upcoming = (2, 0)
    assert [counter.upcoming[0], counter.claim()[0], counter.upcoming[0]] == [2, 2, 3]


def test_the_workers_of_one_iteration_get_one_epoch() -> None:
    counter = EpochCounter()
    assert [counter.claim((7, 1), 3)[0] for _ in range(3)] == [0, 0, 0]
    assert [counter.claim((7, 2), 3)[0] for _ in range(3)] == [1, 1, 1]
    assert counter.upcoming[0] == 2


def test_a_token_that_is_shown_again_is_a_new_iteration() -> None:
    counter = EpochCounter()
    assert [counter.claim((7, 1), 2)[0] for _ in range(6)] == [0, 0, 1, 1, 2, 2]


def test_iterations_side_by_side_are_told_apart() -> None:
    counter = EpochCounter()
    assert [counter.claim((seed, 1), 2)[0] for seed in (-(2**62), 2**62, 2**62, -(2**62))] == [0, 1, 1, 0]


def test_more_iterations_than_are_remembered_do_no_harm() -> None:
    counter = EpochCounter()
    assert [counter.claim((seed, 1), 2)[0] for seed in range(100)] == list(range(100))
    assert counter.claim((99, 1), 2)[0] == 99
    assert counter.upcoming[0] == 100


def test_a_plain_pickle_carries_the_count_and_goes_its_own_way() -> None:
    counter = EpochCounter(4)
    for other in (pickle.loads(pickle.dumps(counter)), copy.copy(counter), copy.deepcopy(counter)):
        assert [other.claim()[0], other.claim()[0]] == [4, 5]
    assert counter.upcoming[0] == 4


def claim_once(counter: EpochCounter, answers: Connection) -> None:
    answers.send((counter.claim((1, 1), 2)[0], counter.claim()[0], counter.upcoming[0]))
    answers.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_and_its_children_have_one_count(method: str) -> None:
    context = multiprocessing.get_context(method)
    counter = EpochCounter()
    assert counter.claim((1, 1), 2)[0] == 0
    inlet, outlet = context.Pipe(duplex=False)
    with inlet:
        child = context.Process(target=claim_once, args=(counter, outlet))
        child.start()
        outlet.close()
        assert inlet.poll(DEADLINE_S)
        assert inlet.recv() == (0, 1, 2)
    child.join(DEADLINE_S)
    assert child.exitcode == 0
    assert counter.claim()[0] == 2


@pytest.mark.parametrize("num_processes", [4])
def test_no_epoch_is_claimed_twice(num_processes: int) -> None:
    counter = EpochCounter()
    inlet, outlet = os.pipe()
    children = []
    for _ in range(num_processes):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                for _ in range(200):
                    os.write(outlet, counter.claim()[0].to_bytes(4, "little"))
                os._exit(0)
            os._exit(1)
        children.append(child)
    os.close(outlet)
    with os.fdopen(inlet, "rb") as answers:
        claimed = answers.read()
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * num_processes
    epochs = [int.from_bytes(claimed[start : start + 4], "little") for start in range(0, len(claimed), 4)]
    assert sorted(epochs) == list(range(200 * num_processes))


def test_a_process_that_is_killed_with_the_lock_in_its_hands_blocks_nobody() -> None:
    counter = EpochCounter()
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        with counter._locked():
            os.write(outlet, b"locked")
            signal.pause()
        os._exit(1)
    assert os.read(inlet, 6) == b"locked"
    with pytest.raises(BlockingIOError):
        fcntl.lockf(counter._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert counter.claim()[0] == 0
    os.close(inlet)
    os.close(outlet)


def test_a_counter_has_no_name_on_the_machine(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    counter = EpochCounter()
    assert counter.claim()[0] == 0
    assert os.listdir(str(tmp_path)) == []
