import queue
import threading
import time

import numpy as np
import pytest

from qwen_vla_ros.policy.worker import InferenceWorker
from qwen_vla_ros.types import ActionChunk, Observation, Prompt

OBSERVATION = Observation(stamp_ns=1, images={}, state=np.zeros(1))
PROMPT = Prompt(instruction="x", text="x", cameras=())
CHUNK = ActionChunk(stamp_ns=1, dt=0.1, channels=("a",), actions=np.zeros((2, 1)))


class SlowPolicy:
    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.resets = 0
        self.committed = []
        self.error: Exception | None = None

    def infer(self, observation, prompt, committed=None):  # noqa: ARG002 - a policy has these
        self.committed.append(committed)
        assert self.may_answer.wait(5)
        if self.error is not None:
            raise self.error
        return CHUNK

    def reset(self):
        self.resets += 1


@pytest.fixture
def answers():
    return queue.Queue()


@pytest.fixture
def policy():
    return SlowPolicy()


@pytest.fixture
def worker(policy, answers):
    worker = InferenceWorker(policy, answers.put)
    yield worker
    policy.may_answer.set()
    worker.close()


def submit_when_free(worker, **job):
    """Submit as soon as the worker has handed the answer before over."""
    deadline = time.monotonic() + 5
    while worker.is_busy and time.monotonic() < deadline:
        time.sleep(0.001)
    assert worker.submit(OBSERVATION, PROMPT, "e1", **{"is_first": False, **job})


def test_submit_returns_at_once_and_the_answer_comes_later(worker, policy, answers):
    assert worker.submit(OBSERVATION, PROMPT, "e1", is_first=True)
    assert worker.is_busy
    policy.may_answer.set()
    answer = answers.get(timeout=5)
    assert answer.chunk is CHUNK
    assert answer.episode == "e1"
    assert answer.seconds >= 0


def test_a_busy_worker_takes_no_second_job(worker):
    assert worker.submit(OBSERVATION, PROMPT, "e1", is_first=True)
    assert not worker.submit(OBSERVATION, PROMPT, "e2", is_first=True)


def test_an_exception_becomes_an_answer_and_the_thread_lives_on(worker, policy, answers):
    policy.may_answer.set()
    policy.error = RuntimeError("out of memory")
    worker.submit(OBSERVATION, PROMPT, "e1", is_first=False)
    assert str(answers.get(timeout=5).error) == "out of memory"
    policy.error = None
    submit_when_free(worker)
    assert answers.get(timeout=5).chunk is CHUNK


def test_the_policy_is_reset_on_the_first_job_of_an_episode_only(worker, policy, answers):
    policy.may_answer.set()
    for is_first in (True, False, False):
        submit_when_free(worker, is_first=is_first)
        answers.get(timeout=5)
    assert policy.resets == 1


def test_the_policy_learns_which_rows_are_played_meanwhile(worker, policy, answers):
    policy.may_answer.set()
    rows = np.ones((2, 1))
    for committed in (None, rows):
        worker.submit(OBSERVATION, PROMPT, "e1", is_first=False, committed=committed)
        answers.get(timeout=5)
    assert policy.committed[0] is None
    assert policy.committed[1] is rows


def test_an_answer_after_close_is_thrown_away(worker, policy, answers):
    worker.submit(OBSERVATION, PROMPT, "e1", is_first=True)
    worker.close()
    policy.may_answer.set()
    with pytest.raises(queue.Empty):
        answers.get(timeout=0.2)


def test_what_is_committed_reaches_the_policy(worker, policy, answers):
    policy.may_answer.set()
    rows = np.ones((3, 1))
    for committed in (None, rows):
        submit_when_free(worker, committed=committed)
        answers.get(timeout=5)
    assert policy.committed == [None, rows]


def test_no_job_is_taken_before_the_answer_was_handed_over(policy):
    is_free = []
    handed_over = threading.Event()

    def deliver(_):
        is_free.append(not worker.is_busy)
        handed_over.set()

    worker = InferenceWorker(policy, deliver)
    policy.may_answer.set()
    submit_when_free(worker)
    assert handed_over.wait(5)
    assert is_free == [False]
    submit_when_free(worker)
    worker.close()
