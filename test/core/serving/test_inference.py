from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from qwen_vla_ros.serving.inference import BusyError, InferenceThread
from qwen_vla_ros.types import ActionChunk

SOON = 20.0


def chunk(number: int) -> ActionChunk:
    return ActionChunk(stamp_ns=number, dt=0.1, channels=("a",), actions=np.zeros((1, 1)))


@pytest.fixture
def inference(keep) -> InferenceThread:
    return keep(InferenceThread())


@pytest.fixture
def held(inference):
    """The thread, busy until it is released."""
    release = threading.Event()
    inference._executor.submit(release.wait, SOON)
    yield inference, release
    release.set()


def test_an_inference_returns_its_chunk_and_what_it_took(inference):
    got, timing = asyncio.run(inference.infer(lambda: chunk(3), SOON))
    assert got.stamp_ns == 3
    assert timing.queue_s >= 0
    assert 0 <= timing.infer_s <= timing.total_s


def test_everything_is_done_in_one_thread(inference):
    def name() -> str:
        return threading.current_thread().name

    assert inference.call(name) == inference.call(name)
    assert inference.call(name) != name()


@pytest.mark.parametrize("error", [ZeroDivisionError("no luck"), TimeoutError("mine")])
def test_a_failure_is_its_owners_and_the_next_one_has_its_turn(inference, error):
    def fail():
        raise error

    with pytest.raises(type(error), match=str(error)):
        asyncio.run(inference.infer(fail, SOON))
    assert asyncio.run(inference.infer(lambda: chunk(1), SOON)).chunk.stamp_ns == 1


def test_who_waits_too_long_is_sent_away_and_nothing_is_done_for_it(held):
    inference, release = held
    done = []
    with pytest.raises(BusyError, match=r"busy with others for longer than 0\.05 s"):
        asyncio.run(inference.infer(lambda: done.append(1), 0.05))
    release.set()
    inference.call(lambda: None)
    assert done == []


def test_a_late_answer_is_none(inference):
    release = threading.Event()
    with pytest.raises(BusyError, match=r"0\.05 s are allowed"):
        asyncio.run(inference.infer(lambda: release.wait(SOON), 0.05))
    release.set()
    assert asyncio.run(inference.infer(lambda: chunk(1), SOON)).chunk.stamp_ns == 1


def test_turns_are_taken_in_the_order_of_asking(held):
    inference, release = held
    order: list[int] = []

    async def ask() -> None:
        asked = [inference.infer(lambda n=n: order.append(n), SOON) for n in range(9)]
        tasks = [asyncio.ensure_future(one) for one in asked]
        await asyncio.sleep(0.01)
        release.set()
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    assert order == list(range(9))
