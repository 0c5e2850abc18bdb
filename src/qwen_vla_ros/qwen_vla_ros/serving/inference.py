"""Everybody computes in turn, in one thread, in the order of asking: there is one model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.request import ServerTiming
from qwen_vla_ros.types import ActionChunk

T = TypeVar("T")


class BusyError(QwenVlaError):
    """The answer would come too late."""


class InferenceResult(NamedTuple):
    """A chunk, and what it took."""

    chunk: ActionChunk
    timing: ServerTiming


class InferenceThread:
    """The one thread that every client's policy is used in; parts of torch are bound to theirs."""

    def __init__(self) -> None:
        """Start it with the first work; it ends with the process."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")

    def call(self, work: Callable[[], T]) -> T:
        """Have something done in the thread, and return or raise what it does."""
        return self._executor.submit(work).result()

    async def infer(self, work: Callable[[], ActionChunk], deadline_s: float) -> InferenceResult:
        """Wait for one's turn, and for what is done in it.

        Raises:
            BusyError: The turn did not come before the deadline, or the work ended after it.
            Exception: Whatever the work raised.
        """
        asked_s = time.perf_counter()
        begun: list[float] = []

        def timed() -> tuple[ActionChunk, float]:
            begun.append(time.perf_counter())
            return work(), time.perf_counter()

        future = self._executor.submit(timed)
        try:
            # Giving up cancels what has not begun; what has begun ends, and is nobody's.
            async with asyncio.timeout(deadline_s):
                chunk, end_s = await asyncio.wrap_future(future)
        except TimeoutError:
            if future.done() and not future.cancelled():
                raise  # the policy's own
            raise BusyError(_sentence(begun, asked_s, deadline_s)) from None
        return InferenceResult(
            chunk,
            ServerTiming(begun[0] - asked_s, end_s - begun[0], time.perf_counter() - asked_s),
        )

    def close(self) -> None:
        """Let what runs end by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _sentence(begun: list[float], asked_s: float, deadline_s: float) -> str:
    if not begun:
        return f"the model is busy with others for longer than {deadline_s:.3g} s."
    waited_s = time.perf_counter() - asked_s
    return f"the answer takes more than {waited_s:.3g} s, {deadline_s:.3g} s are allowed."
