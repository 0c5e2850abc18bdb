"""Runs a policy in a thread of its own, so that nothing else ever waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Policy, Prompt


@dataclass(frozen=True)
class Answer:
    """What came of one inference: a chunk, or the exception that took its place."""

    episode: str
    seconds: float
    chunk: ActionChunk | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class _Job:
    observation: Observation
    prompt: Prompt
    episode: str
    is_first: bool
    committed: FloatArray | None


class InferenceWorker:
    """One thread and one job at a time; a busy worker takes no second job."""

    def __init__(self, policy: Policy, deliver: Callable[[Answer], None]) -> None:
        """Start the thread; `deliver` is called in it with every answer.

        The worker takes the next job only when `deliver` has returned: a question may depend on
        what became of the answer before.
        """
        self._policy = policy
        self._deliver = deliver
        self._job: _Job | None = None
        self._busy = False
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Say whether an inference is under way."""
        return self._busy

    def submit(
        self,
        observation: Observation,
        prompt: Prompt,
        episode: str,
        *,
        is_first: bool,
        committed: FloatArray | None = None,
    ) -> bool:
        """Begin an inference; returns False when one is already under way."""
        with self._wake:
            if self._busy or self._closing:
                return False
            self._busy = True
            self._job = _Job(observation, prompt, episode, is_first, committed)
            self._wake.notify()
        return True

    def close(self) -> None:
        """End the thread once the inference under way is done; its answer is thrown away."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._job is None and not self._closing:
                    self._wake.wait()
                if self._closing:
                    return
                job, self._job = self._job, None
            if job is None:
                continue
            answer = self._infer(job)
            try:
                if not self._closing:
                    self._deliver(answer)
            finally:
                self._busy = False

    def _infer(self, job: _Job) -> Answer:
        begin = time.monotonic()
        try:
            if job.is_first:
                self._policy.reset()
            chunk = self._policy.infer(job.observation, job.prompt, job.committed)
        except Exception as error:
            # Whatever a model throws must not end the node: the gate holds, the goal learns why.
            return Answer(job.episode, time.monotonic() - begin, error=error)
        return Answer(job.episode, time.monotonic() - begin, chunk=chunk)
