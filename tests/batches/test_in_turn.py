"""Messages of several batches come apart in the order in which single ones would have come."""

from itertools import zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowstream.errors import ArrowStreamError
from arrowstream.transport import Message, in_turn


@given(
    num_batches=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 8), min_size=30, max_size=30),
)
def test_batches_of_workers_come_in_turn_however_they_are_sent(num_batches: list[int], sizes: list[int]) -> None:
    epoch = [[(worker, number) for number in range(count)] for worker, count in enumerate(num_batches)]
    expected = [batch for turn in zip_longest(*epoch) for batch in turn if batch is not None]

    def messages_of(worker: int) -> list[Message]:
        left, messages = list(epoch[worker]), []
        for size in sizes:
            if left:
                messages.append(Message(worker, left[:size]))
                left = left[size:]
        return messages

    # Torch gives an item of each worker in turn, and passes over those that have ended.
    turns = zip_longest(*map(messages_of, range(len(num_batches))))
    arriving = (message for turn in turns for message in turn if message is not None)
    assert list(in_turn(arriving, len(num_batches))) == expected


def test_messages_of_unequal_sizes_are_an_error_and_never_a_short_epoch() -> None:
    # The second worker's batches would be due in the first one's turn.
    arriving = [Message(0, [1]), Message(1, [2, 2]), Message(1, [2]), Message(0, [1, 1])]
    with pytest.raises(ArrowStreamError, match="worker 0 of the loader sent batches out of its turn"):
        list(in_turn(iter(arriving), 2))


def test_a_message_is_let_go_of_when_its_batches_are() -> None:
    class Batch:
        alive = 0

        def __init__(self) -> None:
            Batch.alive += 1

        def __del__(self) -> None:
            Batch.alive -= 1

    arriving = (Message(0, [Batch()]) for _ in range(5))
    for batch in in_turn(arriving, 1):
        assert Batch.alive == 1
        del batch
        assert Batch.alive == 0
