"""What is in a batch never changes while anything refers to it, and memory is used again once nothing does."""

import gc
import os
import pickle
import random
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowstream import slabs
from arrowstream.batch_forms import Texts
from arrowstream.deliveries import Delivery
from arrowstream.errors import ArrowStreamError
from arrowstream.slabs import Slab, SlabPool, SlabTable
from arrowstream.transport import Joined, Packer, Sent, in_turn, unpack
from tests.batches.batches import assert_same

MAX_SLABS = 4


class Way:
    """From a worker to the training process and back; both are this process, the memory is mapped twice."""

    def __init__(self) -> None:
        self.table = SlabTable()
        self.pool = SlabPool(self.table, MAX_SLABS)

    def send(self, batch: Any) -> bytes:
        return bytes(ForkingPickler.dumps(Sent(0, [Packer(self.pool).pack(batch)])))

    def deliver(self, batch: Any) -> Any:
        return arrive(self.send(batch))

    def taken(self) -> int:
        return sum(slab.state == slabs._TAKEN for slab in self.pool._slabs.values())


def arrive(sent: bytes) -> Any:
    """Give the one batch of a message."""
    (packed,) = pickle.loads(sent).batches
    return unpack(packed)


@pytest.fixture(params=["nameless", "torch's"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    if request.param == "torch's":
        monkeypatch.setattr(slabs, "_IS_NAMELESS", False)
    return Way()


def numbered(number: int, length: int = 100) -> dict[str, torch.Tensor]:
    return {"x": torch.full((length,), number), "y": torch.full((length, 2), -number, dtype=torch.int16)}


#: What a loop may keep of a tensor, as something that has the same values.
KEPT: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda x: x,
    "slice": lambda x: x[3:9],
    "array": lambda x: x.numpy(),
    "slice of an array": lambda x: x.numpy()[::7],
    "other dtype": lambda x: x.view(torch.int32)[::2] if x.dtype == torch.int64 else x.view(torch.int16),
    "dlpack": torch.from_dlpack,
    "dlpack to NumPy": np.from_dlpack,
    "transposed": lambda x: x.reshape(-1, 2).t(),
    "buffer": lambda x: memoryview(x.numpy()),
    "detached": lambda x: x.detach().requires_grad_(False),
    "storage": lambda x: x.untyped_storage(),
}


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT.keys())
def test_whatever_is_made_of_a_batch_keeps_its_memory(way: Way, keep: Callable[[torch.Tensor], Any]) -> None:
    kept = keep(way.deliver(numbered(5))["x"])
    before = bytes(np.asarray(list(kept) if isinstance(kept, torch.UntypedStorage) else kept).tobytes())
    for number in range(20):
        way.deliver(numbered(number + 6))
    assert bytes(np.asarray(list(kept) if isinstance(kept, torch.UntypedStorage) else kept).tobytes()) == before
    assert way.taken() == 1
    del kept
    assert way.taken() == 0


def test_a_loop_that_keeps_nothing_needs_one_slab(way: Way) -> None:
    for number in range(200):
        assert torch.equal(way.deliver(numbered(number))["x"], numbered(number)["x"])
    assert (len(way.pool), len(way.table.slabs)) == (1, 1)


def test_a_loop_that_keeps_everything_gets_memory_of_its_own_for_each(way: Way) -> None:
    kept = [way.deliver(numbered(number)) for number in range(5 * MAX_SLABS)]
    for number, batch in enumerate(kept):
        assert torch.equal(batch["x"], numbered(number)["x"])
    assert (len(way.pool), way.taken()) == (MAX_SLABS, MAX_SLABS)
    del kept, batch
    assert way.taken() == 0


Step = tuple[int, int]  # bytes of a batch; which of the kept ones to drop, if there is one


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(-3, 12)), max_size=40), st.randoms(use_true_random=False))
def test_no_batch_ever_changes_whatever_is_kept_and_dropped(steps: list[Step], rng: random.Random) -> None:
    way = Way()
    kept: list[tuple[Any, bytes]] = []
    under_way: list[tuple[bytes, bytes]] = []
    for num_bytes, dropped in steps:
        content = rng.randbytes(num_bytes)
        under_way.append((way.send(torch.frombuffer(bytearray(content) or bytearray(1), dtype=torch.uint8)), content))
        if rng.random() < 0.7:
            sent, content = under_way.pop(0)
            arrived = arrive(sent)
            kept.append((rng.choice([arrived, arrived[:], arrived.numpy()]), content or b"\0"))
            del arrived
        if 0 <= dropped < len(kept):
            del kept[dropped]
        # Not in a loop, whose variable would keep the last one.
        assert [bytes(memoryview(np.asarray(memory))) for memory, _ in kept] == [content for _, content in kept]
        assert len(way.pool) <= MAX_SLABS
    kept.clear()
    for sent, _ in under_way:
        pickle.loads(sent)
    assert way.taken() == 0


def test_the_loop_may_write_into_its_batch(way: Way) -> None:
    batch = way.deliver(numbered(1))
    batch["x"].mul_(7)
    other = way.deliver(numbered(2))
    assert batch["x"].unique().tolist() == [7]
    assert batch["y"].unique().tolist() == [-1]
    assert other["x"].unique().tolist() == [2]


def test_larger_batches_replace_slabs_and_differing_ones_soon_do_not(way: Way) -> None:
    for length in (10, 5000, 40_000, 10, 39_000, 44_000):
        assert len(way.deliver(numbered(3, length))["x"]) == length
        assert (len(way.pool), len(way.table.slabs)) == (1, 1)
    (slab,) = way.pool._slabs.values()
    assert slab.num_bytes >= 40_000 * 12
    way.deliver(numbered(3, 44_500))
    assert list(way.pool._slabs.values()) == [slab]


def test_a_batch_that_arrives_and_is_dropped_unseen_frees_its_memory(way: Way) -> None:
    sent = [way.send(numbered(number)) for number in range(3)]
    assert way.taken() == 3
    for each in sent:
        pickle.loads(each)
    assert way.taken() == 0
    # Its slab came with the batch that was dropped, and is known all the same.
    assert torch.equal(way.deliver(numbered(9))["x"], numbered(9)["x"])


def test_torch_pins_what_is_under_way_and_its_memory_is_free_at_once(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.data._utils.pin_memory import pin_memory

    batch = {"x": torch.arange(12).reshape(3, 4), "text": ["a", "b"], "pair": (torch.ones(2), 1)}
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: pinned.append(len(tensor)) or tensor.clone())
    packer = Packer(way.pool)
    said = Texts([memoryview("für".encode()), memoryview(b"")], is_text=True, has_nulls=False)
    parcel, laid = packer.pack({**batch, "said": Joined.of(said, packer.take)})
    message = Sent(0, [(parcel, Delivery(laid, 2, (0, 0), 96, 0.0, 0.0, 0.0))])
    arrived = iter([pin_memory(pickle.loads(bytes(ForkingPickler.dumps(message))))])
    found = unpack(next(in_turn(arrived, 1)))
    assert isinstance(found, Delivery)
    assert len(pinned) == 1
    assert way.taken() == 0
    way.deliver(numbered(5))
    assert found.batch.pop("said") == ["für", ""]
    assert_same(found.batch, pin_memory(batch))  # releases of torch differ in what becomes of a tuple


def test_a_slab_outlives_the_loader_as_long_as_its_batch(way: Way) -> None:
    batch = way.deliver(numbered(8))
    way.table = SlabTable()
    way.pool = SlabPool(way.table, 1)
    gc.collect()
    assert torch.equal(batch["y"], numbered(8)["y"])


def test_a_batch_that_arrives_where_its_memory_is_unknown_says_so(way: Way) -> None:
    sent = way.send(numbered(1))
    del way.table
    with pytest.raises(ArrowStreamError, match="does not know its memory"):
        pickle.loads(sent)


def in_child(check: Callable[[], bool]) -> int:
    """Fork, and give the process id of a child that waits for a line before it checks."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0 if check() else 1)
    os.close(read)
    _writers[child] = write
    return child


_writers: dict[int, int] = {}


def ended_well(child: int) -> bool:
    os.close(_writers.pop(child))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_keeps_the_batches_that_it_inherits(way: Way) -> None:
    kept = [way.deliver(numbered(1))]
    child = in_child(lambda: torch.equal(kept[0]["x"], numbered(1)["x"]))
    kept.clear()
    for number in range(2, 20):
        way.deliver(numbered(number))
    assert ended_well(child)
    # The slab that the child sees is nobody's any more; its number has a new one.
    assert (len(way.pool), len(way.table.slabs)) == (1, 1)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("python_forks", [True, False])  # False: a library does, and calls no hooks
def test_a_child_that_drops_its_batches_frees_nothing_of_the_parents(
    way: Way, python_forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not python_forks:
        monkeypatch.setattr(Slab, "retire", lambda slab: None)
    kept = [way.deliver(numbered(number)) for number in range(3)]

    def drop() -> bool:
        kept.clear()
        gc.collect()
        return True

    assert ended_well(in_child(drop))
    for number in range(20):
        way.deliver(numbered(number + 50))
    for number, batch in enumerate(kept):
        assert torch.equal(batch["x"], numbered(number)["x"])


def open_files() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # of the listing itself


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or not slabs._IS_NAMELESS, reason="memory without names is Linux's")
def test_kept_batches_cost_no_descriptor_and_no_name() -> None:
    way = Way()
    before = sum("arrowstream-batch" in name for name in open_files())
    kept = [way.deliver(numbered(number)) for number in range(100)]
    gc.collect()
    # The worker keeps those of its slabs, and the one that was sent last may not be closed yet.
    assert sum("arrowstream-batch" in name for name in open_files()) - before <= MAX_SLABS + 1
    assert len(kept) == 100
    assert not list(Path("/dev/shm").glob(f"torch_{os.getpid()}_*"))


def test_a_slab_has_room_for_what_was_asked() -> None:
    for num_bytes in (0, 1, 4031, 4032, 4033, 100_000):
        slab = Slab.make(num_bytes)
        assert slab.num_bytes >= num_bytes
        assert len(slab.fill(num_bytes)) == num_bytes
        assert slab.fill(num_bytes).data_ptr() % 64 == 0
