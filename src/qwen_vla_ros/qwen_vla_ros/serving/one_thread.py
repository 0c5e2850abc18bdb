"""A policy that lives in one thread, whoever asks it: parts of torch are bound to a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Policy, Prompt

T = TypeVar("T")


class OneThread:
    """A thread that does one thing after the other, and ends with the process."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="inference", daemon=True).start()

    def call(self, work: Callable[[], T]) -> T:
        """Have `work` done in the thread, and return or raise what it does."""
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(work())
            except Exception as error:
                # It belongs to whoever asked; the thread goes on.
                future.set_exception(error)

        self._jobs.put(job)
        return future.result()

    def _run(self) -> None:
        while True:
            self._jobs.get()()


class OneThreadPolicy:
    """Hands every call to a thread that several policies may share."""

    def __init__(self, policy: Policy, thread: OneThread) -> None:
        self._policy = policy
        self._thread = thread

    def infer(
        self, observation: Observation, prompt: Prompt, committed: FloatArray | None = None
    ) -> ActionChunk:
        """Ask the policy, in its thread."""
        return self._thread.call(lambda: self._policy.infer(observation, prompt, committed))

    def reset(self) -> None:
        """Begin a new episode, in the policy's thread."""
        self._thread.call(self._policy.reset)
