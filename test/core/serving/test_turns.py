from __future__ import annotations

import threading

import pytest

from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.turns import BusyError, Turns

SOON = 20.0


@pytest.fixture
def held():
    """Turns of which somebody has the first until the event is set."""
    turns, has_begun, end = Turns(), threading.Event(), threading.Event()

    def hold():
        has_begun.set()
        end.wait(SOON)

    thread = threading.Thread(target=turns.take, args=(hold, Deadline(SOON)))
    thread.start()
    has_begun.wait(SOON)
    yield turns, end
    end.set()
    thread.join()


def test_ones_turn_returns_what_was_done_in_it():
    turn = Turns().take(lambda: 5, Deadline(SOON))
    assert turn.result == 5
    assert turn.queue_s >= 0
    assert turn.infer_s >= 0


def test_a_failure_is_its_owners_and_the_next_one_has_its_turn():
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        turns.take(lambda: 1 / 0, Deadline(SOON))
    assert turns.take(lambda: 5, Deadline(SOON)).result == 5


def test_who_waits_too_long_is_sent_away_and_does_nothing(held):
    turns, end = held
    done = []
    with pytest.raises(BusyError, match="busy with others"):
        turns.take(lambda: done.append(1), Deadline(0.05))
    end.set()
    assert turns.take(lambda: 5, Deadline(SOON)).result == 5
    assert done == []


def test_a_late_answer_is_none():
    turns, wait = Turns(), threading.Event()
    with pytest.raises(BusyError, match="are allowed"):
        turns.take(lambda: wait.wait(0.05), Deadline(0.01))
    assert turns.take(lambda: 5, Deadline(SOON)).result == 5


def test_turns_are_taken_in_the_order_of_asking(held):
    turns, end = held
    order: list[int] = []
    threads = []
    for number in range(8):
        waiting = len(turns._waiting)
        thread = threading.Thread(
            target=turns.take, args=(lambda n=number: order.append(n), Deadline(SOON))
        )
        thread.start()
        threads.append(thread)
        while len(turns._waiting) == waiting:
            pass
    end.set()
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_never_two_at_once_and_nobody_is_forgotten():
    turns, inside, most = Turns(), [], []

    def work():
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    def ask():
        for _ in range(200):
            try:
                turns.take(work, Deadline(0.0005))
            except BusyError:
                continue

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert turns.take(lambda: 5, Deadline(SOON)).result == 5
