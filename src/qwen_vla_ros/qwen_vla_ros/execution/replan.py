"""When to ask the policy again."""

from __future__ import annotations

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.execution.recent import Recent

DEPTH = 64
MOSTLY = 0.95
"""How often an answer shall be there in time. By the mean, every second one would be late."""


class ReplanSchedule:
    """Asks early enough that the answer is there when the execution horizon ends.

    The time that an answer takes is learned from the answers themselves: from those that took
    longest. A policy that is slow for its horizon is asked again as soon as it has answered.
    """

    def __init__(self, dt: float, execution_horizon: int, playable_s: float) -> None:
        """Plan for the chunks of one robot.

        Args:
            dt: Seconds between two rows.
            execution_horizon: Rows that are to be executed.
            playable_s: Seconds from an observation until nothing of its chunk is played any more.
                The row before that is the last that the next chunk may take over from.
        """
        self._span_s = min(dt * execution_horizon, playable_s - dt)
        self._latency = Recent(DEPTH)
        self._thinking = Recent(DEPTH)
        self._chunk_stamp_ns: int | None = None

    @property
    def latency_s(self) -> float:
        """Seconds within which a chunk mostly follows its observation."""
        return self._latency.quantile(MOSTLY)

    def restart(self) -> None:
        """Forget the chunk in play: the next question is due at once."""
        self._chunk_stamp_ns = None

    def is_due(self, now_ns: int) -> bool:
        """Say whether the next inference should begin now."""
        if self._chunk_stamp_ns is None:
            return True
        played_s = (now_ns - self._chunk_stamp_ns) / NS_PER_S
        # Below 0 the clock went back, as it does when a simulation begins anew.
        return played_s < 0 or played_s + self._thinking.quantile(MOSTLY) >= self._span_s

    def on_chunk(self, stamp_ns: int, now_ns: int, thought_s: float) -> None:
        """Learn from a chunk.

        Args:
            stamp_ns: ROS time of the observation that it answers.
            now_ns: ROS time at which it is there.
            thought_s: Seconds from the question to the answer.
        """
        self._latency.add(max(0.0, (now_ns - stamp_ns) / NS_PER_S))
        self._thinking.add(thought_s)
        self._chunk_stamp_ns = stamp_ns
