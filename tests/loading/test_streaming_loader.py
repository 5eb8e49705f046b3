"""StreamingDataLoader over real workers: what it delivers, where it says it stands, and what becomes of errors."""

import inspect
import itertools
import json
import os
import pickle
import random
import signal
from collections import UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate, get_worker_info

from arrowstream import LocalDataset, StreamingDataLoader, StreamingDataset
from arrowstream.deliveries import Deliveries
from arrowstream.errors import BatchSizeError, CorruptShardError, MissingShardError
from tests.batches.batches import assert_same, write
from tests.reading.datasets import ids, shard_files, write_samples
from tests.reading.subclasses import WithItem, WithTransform

NUM_SAMPLES = 100
FORK: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": "fork"}
HAS_IN_ORDER = pytest.mark.skipif(
    "in_order" not in inspect.signature(DataLoader).parameters, reason="torch before 2.6 knows no in_order="
)
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("loading") / "data", NUM_SAMPLES)


def make(data: Path, **arguments: Any) -> StreamingDataset:
    return StreamingDataset(local=data, **{"shuffle": True, "batch_size": 8, **arguments})


def make_loader(data: Path, **arguments: Any) -> StreamingDataLoader:
    return StreamingDataLoader(make(data), **arguments)


def expected(data: Path, num_epochs: int = 3) -> list[list[int]]:
    dataset = make(data)
    return [ids(dataset) for _ in range(num_epochs)]


def doubled(sample: dict[str, Any]) -> dict[str, Any]:
    return {"id": sample["id"], "double": 2 * sample["id"]}


def with_sum(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "sum": batch["id"].sum()}


def only_even(samples: list[dict[str, Any]]) -> list[int]:
    return [sample["id"] for sample in samples if sample["id"] % 2 == 0]


class Encoding(UserDict[str, Any]):
    """A batch as tokenizers give it."""


def encode(samples: list[dict[str, Any]]) -> Encoding:
    return Encoding({"id": torch.tensor([sample["id"] for sample in samples])})


LOADERS = [
    pytest.param({}, id="in-process"),
    pytest.param({"prefetch_factor": 0}, id="without-a-thread"),
    pytest.param(FORK, id="fork"),
    pytest.param({**FORK, "persistent_workers": True, "prefetch_factor": 4, "timeout": 60}, id="persistent"),
    pytest.param({**FORK, "transform": dict}, id="sample-by-sample"),
]
START_METHODS = [
    pytest.param({"num_workers": 1, "multiprocessing_context": how}, id=how) for how in ("spawn", "forkserver")
]

# What it delivers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [*LOADERS, *START_METHODS])
def test_batches_are_those_of_torch_to_the_bit(data: Path, arguments: dict[str, Any]) -> None:
    loader = make_loader(data, **arguments)
    theirs = DataLoader(make(data), batch_size=8)
    assert len(loader) == len(theirs) == 13
    for _ in range(2 if loader.persistent_workers or not loader.num_workers else 1):
        assert_same(list(loader), list(theirs))


def test_every_kind_of_column_is_as_torch_collates_it(tmp_path: Path) -> None:
    columns = {
        "x": "float16",
        "flag": "bool",
        "raw": "bytes",
        "tree": "json",
        "grid": "ndarray:int16:2,3",
        "n": "str_int",
    }
    samples = [
        {"x": number / 3, "flag": number % 2 == 0, "raw": bytes([number]), "tree": {"a": [number]}, "n": number}
        | {"grid": torch.full((2, 3), number, dtype=torch.int16).numpy()}
        for number in range(40)
    ]
    directory = write(tmp_path / "d", columns, samples, size_limit=2048)
    for arguments in ({}, FORK):
        assert_same(list(make_loader(directory, **arguments)), list(DataLoader(make(directory), 8)))


@pytest.mark.parametrize("arguments", [{}, FORK])
def test_the_last_batch_can_be_dropped(data: Path, arguments: dict[str, Any]) -> None:
    for more in ({}, {"transform": dict}):
        loader = make_loader(data, drop_last=True, **arguments, **more)
        epochs = expected(data)
        delivered = list(itertools.islice(loader, 12))
        assert ids(delivered) == epochs[0][:96]
        # Nothing more comes of an epoch, whether or not the loop has heard of it.
        for epoch in (1, 2):
            state = loader.state_dict()
            assert state is not None
            assert (state["epoch"], state["sample_in_epoch"]) == (epoch, 0)
            loader.load_state_dict(state)
            assert ids(loader) == epochs[epoch][:96]


@pytest.mark.parametrize("arguments", [{}, FORK])
def test_transforms_change_samples_and_batches(data: Path, arguments: dict[str, Any]) -> None:
    by_sample = list(make_loader(data, transform=doubled, **arguments))
    assert ids(by_sample) == expected(data)[0]
    assert all(torch.equal(batch["double"], 2 * batch["id"]) for batch in by_sample)
    by_batch = list(make_loader(data, batch_transform=with_sum, **arguments))
    assert ids(by_batch) == expected(data)[0]
    assert all(batch["sum"] == batch["id"].sum() for batch in by_batch)


@pytest.mark.parametrize("kind", [WithTransform, WithItem])
@pytest.mark.parametrize("arguments", [{}, FORK])
def test_what_a_subclass_makes_of_samples_is_honoured(data: Path, kind: Any, arguments: dict[str, Any]) -> None:
    arranged = {"local": data, "shuffle": True, "batch_size": 8}
    assert_same(list(StreamingDataLoader(kind(**arranged), **arguments)), list(DataLoader(kind(**arranged), 8)))


def test_a_layout_that_means_something_survives_the_way(data: Path) -> None:
    def channels_last(batch: dict[str, Any]) -> torch.Tensor:
        return batch["vector"].reshape(-1, 2, 2, 1).contiguous(memory_format=torch.channels_last)

    for batch in make_loader(data, batch_transform=channels_last, **FORK):
        assert batch.is_contiguous(memory_format=torch.channels_last)


def test_other_datasets_are_loaded_as_torch_does(data: Path) -> None:
    loader = StreamingDataLoader(LocalDataset(data), batch_size=10)
    assert ids(loader) == list(range(NUM_SAMPLES))
    assert loader.state_dict() is None
    with pytest.raises(ValueError, match="transform and batch_transform need a StreamingDataset, not a LocalDataset"):
        StreamingDataLoader(LocalDataset(data), transform=dict)


def sees_dataset(worker_id: int) -> None:
    worker = get_worker_info()
    assert worker is not None
    assert isinstance(worker.dataset, StreamingDataset)
    worker.dataset.predownload = worker_id


def test_the_init_function_of_a_worker_sees_the_dataset(data: Path) -> None:
    assert ids(make_loader(data, worker_init_fn=sees_dataset, **FORK)) == expected(data)[0]


# Where it stands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", LOADERS)
def test_a_state_after_any_batch_goes_on_with_the_next_sample(data: Path, arguments: dict[str, Any]) -> None:
    epochs = expected(data)
    num_workers = arguments.get("num_workers", 0)
    for stop in range(14) if not num_workers else (0, 1, 6, 12, 13):
        first = make_loader(data, **arguments)
        before = ids(itertools.islice(iter(first), stop))
        state = json.loads(json.dumps(first.state_dict()))
        again = make_loader(data, **arguments)
        again.load_state_dict(state)
        # An epoch of which everything was delivered is over.
        whole = epochs[0] + epochs[1] if stop == 13 else epochs[0]
        assert before + ids(again) == whole
        assert ids(again) == epochs[2 if stop == 13 else 1]


@pytest.mark.parametrize("arguments", LOADERS)
def test_one_loader_goes_on_again_and_again(data: Path, arguments: dict[str, Any]) -> None:
    loader = make_loader(data, **arguments)
    epochs = expected(data)
    first, second = ids(itertools.islice(loader, 3)), None
    state = loader.state_dict()
    assert state is not None
    loader.load_state_dict(state)
    second = ids(itertools.islice(loader, 4))
    later = loader.state_dict()
    assert later is not None
    assert later["sample_in_epoch"] == 56
    loader.load_state_dict(later)
    assert first + second + ids(loader) == epochs[0]
    loader.load_state_dict(state)
    assert ids(loader) == epochs[0][24:]
    assert ids(loader) == epochs[1]


@pytest.mark.parametrize("arguments", LOADERS)
def test_an_iterator_that_is_not_asked_moves_nothing(data: Path, arguments: dict[str, Any]) -> None:
    loader = make_loader(data, **arguments)
    assert len(ids(itertools.islice(loader, 2))) == 16
    state = loader.state_dict()
    unread = [iter(loader) for _ in range(2)]
    assert loader.state_dict() == state
    assert loader.dataset.next_epoch == 1
    assert ids(loader) == expected(data)[1]
    assert len(unread) == 2


def test_after_a_break_the_next_epoch_begins(data: Path) -> None:
    for arguments in (FORK, {**FORK, "persistent_workers": True}):
        loader = make_loader(data, **arguments)
        for _ in loader:
            break
        assert ids(loader) == expected(data)[1]
        state = loader.state_dict()
        assert state is not None
        assert (state["epoch"], state["sample_in_epoch"]) == (2, 0)


def test_two_loaders_of_one_dataset_know_their_own_epochs(data: Path) -> None:
    dataset = make(data)
    one, other = StreamingDataLoader(dataset, **FORK), StreamingDataLoader(dataset, **FORK)
    left, right = iter(one), iter(other)
    next(left), next(right), next(right)
    states = [loader.state_dict() for loader in (one, other)]
    assert [(state["epoch"], state["sample_in_epoch"]) for state in states if state] == [(0, 8), (1, 16)]


@pytest.mark.parametrize("collate", [only_even, encode])
@pytest.mark.parametrize("arguments", [{}, FORK])
def test_any_batch_is_counted_by_what_went_into_it(data: Path, collate: Any, arguments: dict[str, Any]) -> None:
    loader = make_loader(data, collate_fn=collate, **arguments)
    list(itertools.islice(loader, 4))
    state = loader.state_dict()
    assert state is not None
    assert state["sample_in_epoch"] == 32


class InPairs(StreamingDataset):
    """Makes batches by itself."""

    form = staticmethod(default_collate)

    def __iter__(self) -> Any:
        samples = super().__iter__()
        while pair := list(itertools.islice(samples, 2)):
            yield self.form(pair)


@pytest.mark.parametrize(
    ("form", "counted"),
    [
        (default_collate, 6),
        (lambda pair: torch.zeros(len(pair), 3), 6),
        (lambda pair: (torch.zeros(2), ["a", "b"]), 6),
        (lambda pair: [1, 2], 6),
        (encode, 6),
    ],
)
def test_batches_that_a_dataset_makes_are_measured(data: Path, form: Any, counted: int) -> None:
    dataset = InPairs(local=data, batch_size=8)
    dataset.form = form  # type: ignore[misc]
    loader = StreamingDataLoader(dataset, batch_size=None)
    list(itertools.islice(loader, 3))
    state = loader.state_dict()
    assert state is not None
    assert state["sample_in_epoch"] == counted


def test_a_batch_that_does_not_tell_its_size_is_refused(data: Path) -> None:
    dataset = InPairs(local=data, batch_size=8)
    dataset.form = lambda pair: object()  # type: ignore[misc, assignment, return-value]
    with pytest.raises(BatchSizeError, match="gave a object, which does not tell"):
        next(iter(StreamingDataLoader(dataset, batch_size=None)))


def test_without_a_batch_size_samples_are_counted(data: Path) -> None:
    loader = make_loader(data, batch_size=None)
    assert [sample["id"] for sample in itertools.islice(loader, 5)] == expected(data)[0][:5]
    state = loader.state_dict()
    assert state is not None
    assert state["sample_in_epoch"] == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 4}, "batch_size is 4, the dataset's 8"),
        pytest.param({"in_order": False}, "in_order", marks=HAS_IN_ORDER),
    ],
)
def test_batches_out_of_order_have_no_state(data: Path, arguments: dict[str, Any], said: str) -> None:
    loader = make_loader(data, **FORK, **arguments)
    next(iter(loader))
    with pytest.raises(ValueError, match=said):
        loader.state_dict()


@pytest.mark.parametrize("arguments", [{}, FORK])
def test_ranks_say_the_same_and_any_number_goes_on(
    data: Path, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    states, steps = [], []
    for rank in range(2):
        loader = StreamingDataLoader(make(data, rank=rank, world_size=2), **arguments)
        steps.append([ids([batch]) for batch in itertools.islice(loader, 3)])
        states.append(loader.state_dict())
    assert states[0] == states[1]
    assert states[0]["sample_in_epoch"] == 48
    again = make_loader(data)
    again.load_state_dict(states[0])
    whole = expected(data)[0]
    assert ids(again) == whole[48:]
    assert sorted(number for rank in steps for step in rank for number in step) == sorted(whole[:48])


# The memory of its batches -------------------------------------------------------------------------------------------

WORKERS = [
    pytest.param(FORK, id="fork"),
    pytest.param({**FORK, "persistent_workers": True}, id="persistent"),
    pytest.param({**FORK, "in_order": False, "prefetch_factor": 3}, id="out-of-order", marks=HAS_IN_ORDER),
]
SPAWN: dict[str, Any] = {"num_workers": 1, "multiprocessing_context": "spawn", "persistent_workers": True}


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples whose batches differ in size."""
    columns = {"id": "int", "text": "str", "x": "ndarray:int64:40"}
    samples = [{"id": number, "text": "a" * (number % 50), "x": np.full(40, number, np.int64)} for number in range(600)]
    return write(tmp_path_factory.mktemp("ragged") / "d", columns, samples, size_limit=1 << 14)


def grown(batch: dict[str, Any]) -> dict[str, Any]:
    """Make batches of very different sizes, which have each sample's number in every element."""
    return {**batch, "x": batch["x"].repeat(1, 1 + int(batch["id"][0]) % 90)}


@pytest.mark.parametrize("arguments", [*WORKERS, pytest.param(SPAWN, id="spawn")])
def test_no_batch_changes_while_the_loop_keeps_it(ragged: Path, arguments: dict[str, Any]) -> None:
    rng = random.Random(7)
    loader = make_loader(ragged, batch_transform=grown, **arguments)
    kept: list[dict[str, Any]] = []
    for epoch in range(3 if loader.persistent_workers or arguments is FORK else 1):
        delivered = 0
        for batch in loader:
            delivered += len(batch["id"])
            kept.append(batch)
            while len(kept) > 30 or (kept and rng.random() < 0.6):
                kept.pop(rng.randrange(len(kept)))
            for each in kept:
                assert torch.equal(each["x"], each["id"][:, None].expand_as(each["x"]))
                assert [len(text) for text in each["text"]] == (each["id"] % 50).tolist()
        assert delivered == 600, epoch


@pytest.mark.parametrize("arguments", WORKERS)
def test_a_list_of_all_batches_is_the_epoch(ragged: Path, arguments: dict[str, Any]) -> None:
    batches = list(make_loader(ragged, **arguments))
    assert sorted(ids(batches)) == list(range(600))
    assert all(torch.equal(batch["x"], batch["id"][:, None].expand(-1, 40)) for batch in batches)


def test_slabs_are_few_however_long_the_loop_and_however_it_ends(ragged: Path) -> None:
    loader = make_loader(ragged, persistent_workers=True, prefetch_factor=3, **FORK)
    counts = []
    for epoch in range(8):
        for number, _ in enumerate(loader):
            if epoch % 3 == 1 and number == epoch:
                break  # torch drops what was read ahead
        source = loader._source
        assert source is not None
        assert isinstance(source.dataset, Deliveries)
        counts.append(len(source.dataset._table.slabs))
    # Each worker fills a message of up to 8 batches while three wait and the loop has one, and a batch or two more.
    assert 2 <= counts[0] <= counts[-1] <= 2 * (8 * 5 + 2)


def test_several_iterators_at_once_have_memory_of_their_own(ragged: Path) -> None:
    loader = make_loader(ragged, **FORK)
    iterators = [iter(loader) for _ in range(3)]
    batches = [next(iterator) for _ in range(25) for iterator in iterators]
    assert all(torch.equal(batch["x"], batch["id"][:, None].expand(-1, 40)) for batch in batches)
    epochs = expected(ragged)
    assert [ids(batches[number::3]) for number in range(3)] == [epoch[:200] for epoch in epochs]


def test_batches_outlive_a_killed_worker_and_leave_nothing(ragged: Path) -> None:
    loader = make_loader(ragged, persistent_workers=True, **FORK)
    iterator = iter(loader)
    kept = [next(iterator) for _ in range(20)]
    source = loader._source
    assert source is not None
    workers = [worker.pid for worker in source._iterator._workers]  # type: ignore[union-attr]
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"worker process|killed by signal: Killed"):
        list(iterator)
    assert all(torch.equal(batch["x"], batch["id"][:, None].expand(-1, 40)) for batch in kept)
    assert not [name for worker in workers for name in Path("/dev/shm").glob(f"torch_{worker}_*")]
    assert_no_workers(loader)


# What becomes of errors ----------------------------------------------------------------------------------------------


def fails_at_50(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["id"] == 50:
        raise ZeroDivisionError("in the transform")
    return sample


def stops_at_50(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["id"] == 50:
        raise StopIteration
    return sample


def dies_at_50(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["id"] == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return sample


@pytest.mark.parametrize("arguments", [{}, FORK, {**FORK, "persistent_workers": True}])
@pytest.mark.parametrize(
    ("transform", "error", "said"),
    [(fails_at_50, ZeroDivisionError, "in the transform"), (stops_at_50, RuntimeError, "StopIteration")],
)
def test_what_a_transform_raises_reaches_the_loop(
    data: Path, transform: Any, error: type[Exception], said: str, arguments: dict[str, Any]
) -> None:
    loader = StreamingDataLoader(make(data, shuffle=False), transform=transform, **arguments)
    with pytest.raises(error, match=said):
        list(loader)
    assert_no_workers(loader)


def unsendable(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "f": lambda: None}


@pytest.mark.parametrize("arguments", [FORK, {**FORK, "transform": dict}])
def test_a_batch_that_cannot_be_sent_is_an_error_and_no_wait(data: Path, arguments: dict[str, Any]) -> None:
    loader = make_loader(data, batch_transform=unsendable, **arguments)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        list(loader)
    assert_no_workers(loader)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_worker_is_an_error_and_the_next_epoch_is_whole(data: Path, persistent: bool) -> None:
    dataset = make(data, shuffle=False)
    loader = StreamingDataLoader(dataset, transform=dies_at_50, persistent_workers=persistent, **FORK)
    delivered = []
    # Torch's handler of SIGCHLD may be the first to say it, wherever the loop happens to be.
    with pytest.raises(RuntimeError, match=r"worker process \d+ \(exit code -9\)|killed by signal: Killed"):
        delivered.extend(loader)
    assert ids(delivered) == list(range(len(ids(delivered))))
    assert_no_workers(loader)
    loader.transform = None
    assert ids(loader) == list(range(NUM_SAMPLES))


@pytest.mark.parametrize("arguments", [{}, FORK, {**FORK, "transform": dict}])
def test_bad_shards_reach_the_loop_by_name(tmp_path: Path, arguments: dict[str, Any]) -> None:
    damaged = write_samples(tmp_path / "data", NUM_SAMPLES)
    last = shard_files(damaged)[-1]
    last.write_bytes(last.read_bytes()[:-9])
    with pytest.raises(CorruptShardError, match=last.name):
        list(make_loader(damaged, **arguments))
    last.unlink()
    with pytest.raises(MissingShardError, match=last.name):
        list(make_loader(damaged, **arguments))


def assert_no_workers(loader: StreamingDataLoader) -> None:
    assert loader._source is None
    import multiprocessing

    assert multiprocessing.active_children() == []


def test_workers_that_persist_do_one_iteration_at_a_time(data: Path) -> None:
    loader = make_loader(data, persistent_workers=True, **FORK)
    one = iter(loader)
    next(one)
    assert ids(loader) == expected(data)[1]
    with pytest.raises(RuntimeError, match="one iteration at a time"):
        next(one)


# What it tells -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, FORK, {"transform": dict}])
def test_the_stats_count_what_was_delivered(data: Path, arguments: dict[str, Any]) -> None:
    loader = make_loader(data, **arguments)
    batches = list(loader)
    stats = loader.stats()
    assert (stats.num_samples, stats.num_batches) == (NUM_SAMPLES, 13)
    assert stats.num_bytes == sum(batch["id"].nbytes + batch["vector"].nbytes for batch in batches)
    assert 0 < stats.waiting_s <= stats.elapsed_s
    assert stats.fetch_s > 0 < stats.read_s
    assert stats.samples_per_s == NUM_SAMPLES / stats.elapsed_s
    assert "samples/s" in str(stats)


def test_a_bar_shows_how_far_the_epoch_is(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list(make_loader(data, progress_bar=True))
    shown = capsys.readouterr().err
    assert "epoch 0: 100%" in shown
    assert "100/100" in shown
