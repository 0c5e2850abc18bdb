"""When to ask the policy again."""

from __future__ import annotations

NS_PER_S = 1_000_000_000
SMOOTHING = 0.2


class ReplanSchedule:
    """Asks early enough that the answer is there when the execution horizon ends.

    The time that an answer takes is learned from the answers themselves.
    """

    def __init__(self, dt: float, execution_horizon: int) -> None:
        """Plan for rows `dt` seconds apart, of which `execution_horizon` are to be executed."""
        self._span_s = dt * execution_horizon
        self._latency_s = 0.0
        self._chunk_stamp_ns: int | None = None

    @property
    def latency_s(self) -> float:
        """Smoothed seconds from the observation to its chunk."""
        return self._latency_s

    def restart(self) -> None:
        """Forget the chunk in play: the next question is due at once."""
        self._chunk_stamp_ns = None

    def is_due(self, now_ns: int) -> bool:
        """Say whether the next inference should begin now."""
        if self._chunk_stamp_ns is None:
            return True
        played_s = (now_ns - self._chunk_stamp_ns) / NS_PER_S
        return played_s + self._latency_s >= self._span_s

    def on_chunk(self, stamp_ns: int, now_ns: int) -> None:
        """Learn from a chunk that answers an observation made at `stamp_ns`."""
        measured = max(0.0, (now_ns - stamp_ns) / NS_PER_S)
        known = self._latency_s > 0
        self._latency_s += (measured - self._latency_s) * (SMOOTHING if known else 1.0)
        self._chunk_stamp_ns = stamp_ns
