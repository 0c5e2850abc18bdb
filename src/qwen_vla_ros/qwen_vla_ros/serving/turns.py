"""Everybody computes in turn, in the order in which they asked: there is one model."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.deadline import Deadline

T = TypeVar("T")


class BusyError(QwenVlaError):
    """The answer would come too late."""


class Turn(NamedTuple, Generic[T]):
    """What came of one's turn, and how many seconds it took to get it and to use it."""

    result: T
    queue_s: float
    infer_s: float


class Turns:
    """A lock that is handed on in order. Everybody asks for one thing at a time, so it is fair.

    What is done in a turn is done in the thread that asked: to hand it to another thread and back
    takes longer than all the rest of a small request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Lock] = deque()

    def take(self, work: Callable[[], T], deadline: Deadline) -> Turn[T]:
        """Wait for one's turn, do `work` in it, and return what it returns.

        Raises:
            BusyError: The turn did not come before the deadline, or the work ended after it.
            Exception: Whatever the work raised.
        """
        asked_s = time.perf_counter()
        self._enter(deadline)
        begin_s = time.perf_counter()
        try:
            result = work()
        finally:
            self._leave()
        end_s = time.perf_counter()
        if deadline.has_passed:
            raise BusyError(
                f"the answer took {end_s - asked_s:.3g} s, {deadline.seconds:.3g} s are allowed."
            )
        return Turn(result, begin_s - asked_s, end_s - begin_s)

    def _enter(self, deadline: Deadline) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            ticket = threading.Lock()
            ticket.acquire()
            self._waiting.append(ticket)
        try:
            is_mine = ticket.acquire(timeout=deadline.left())
        except TimeoutError:
            is_mine = False
        if is_mine:
            return
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                is_passed_on = True
            else:
                is_passed_on = False  # it became ours just now, too late
        if not is_passed_on:
            self._leave()
        raise BusyError(f"the model is busy with others for longer than {deadline.seconds:.3g} s.")

    def _leave(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False
