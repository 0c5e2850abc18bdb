"""How one chunk follows another: when the next one is asked for, and what it has to continue."""

from __future__ import annotations

from typing import Self

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.execution.commitment import Commitment
from qwen_vla_ros.execution.planar import WAYPOINT_KINDS
from qwen_vla_ros.execution.recent import Recent
from qwen_vla_ros.execution.replan import MOSTLY, ReplanSchedule
from qwen_vla_ros.types import ActionChunk, FloatArray

DEPTH = 64
LOOKAHEAD_PERIODS = 2.5
SMOOTH_LOOKAHEAD_PERIODS = 3.0
"""How far ahead a gate of joints asks what is wanted; the second where a jerk is declared."""


class Replanner:
    """Follows the chunks of one robot, from the policy's side."""

    def __init__(
        self,
        schedule: ReplanSchedule,
        commitment: Commitment,
        playable_s: float,
        max_age_s: float,
    ) -> None:
        """Compose the two.

        A chunk is played for `playable_s` (s) after its observation, while the robot moves; a
        motion begins within `max_age_s` (s) of it.
        """
        self._schedule = schedule
        self._commitment = commitment
        self._playable_s = playable_s
        self._max_age_s = max_age_s
        self._spans = Recent(DEPTH)
        self._stamp_ns: int | None = None

    @classmethod
    def from_embodiment(cls, embodiment: Embodiment) -> Self:
        """Follow the chunks of this robot."""
        file = embodiment.file
        max_age_s = file.safety.max_observation_age_s
        playable_s = min(file.prompt.action_horizon * embodiment.dt, max_age_s)
        kinds: list[str] = [channel.kind for channel in file.action]
        columns = [kinds.index(kind) for kind in WAYPOINT_KINDS] if embodiment.has_base else ()
        # Bases are told their speed now, joints the curve that they are to follow.
        is_smooth = any(limit.jerk is not None for limit in file.safety.joints.values())
        ahead = SMOOTH_LOOKAHEAD_PERIODS if is_smooth else LOOKAHEAD_PERIODS
        ahead = 0.0 if embodiment.has_base else ahead
        lookahead_s = ahead / file.command.rate_hz
        return cls(
            ReplanSchedule(embodiment.dt, file.prompt.execution_horizon, playable_s),
            Commitment(max_age_s, columns, lookahead_s),
            playable_s,
            max_age_s,
        )

    def restart(self) -> None:
        """Begin an episode: nothing is in play, and the first question is due."""
        self._schedule.restart()
        self._commitment.restart()
        self._stamp_ns = None

    def is_due(self, now_ns: int) -> bool:
        """Say whether the next inference should begin now."""
        return self._schedule.is_due(now_ns)

    def committed(self, stamp_ns: int) -> FloatArray | None:
        """Return the rows (d, c) that are played from an observation on until its answer is there.

        They are those of the chunk in play, at the rows of the next one. None where nothing is.
        """
        return self._commitment.rows(stamp_ns, self._schedule.latency_s)

    def lateness(self, chunk: ActionChunk, now_ns: int) -> str:
        """Say that nothing of a chunk would be played any more; empty while something would."""
        age_s = (now_ns - chunk.stamp_ns) / NS_PER_S
        is_in_play = self._commitment.is_in_play(now_ns)
        allowed_s = self._playable_s if is_in_play else self._max_age_s
        if chunk.rest or age_s < allowed_s:
            return ""
        what = "a chunk is played for" if is_in_play else "a motion begins within"
        return f"the answer came {age_s:.2f} s after its observation; {what} {allowed_s:g} s"

    def on_chunk(self, chunk: ActionChunk, now_ns: int, thought_s: float) -> None:
        """Note an answer, in time or late; the policy thought for `thought_s` (s)."""
        if self.lateness(chunk, now_ns):
            # A cold one: nothing of it is played, and its time says nothing about the next one's.
            self._schedule.restart()
            return
        self._schedule.on_chunk(chunk.stamp_ns, now_ns, thought_s)
        self._commitment.on_chunk(chunk, now_ns)
        if self._stamp_ns is not None:
            self._spans.add((now_ns - self._stamp_ns) / NS_PER_S)
        self._stamp_ns = None if chunk.rest else chunk.stamp_ns

    def on_gate(self, *, is_playing: bool, rejected: int) -> None:
        """Note what the gate says: whether it lets chunks pass, and how many it has rejected."""
        self._commitment.on_gate(is_playing=is_playing, rejected=rejected)

    def shortage(self) -> str:
        """Say that chunks mostly end before the next one is there; empty while they do not."""
        span_s = self._spans.quantile(MOSTLY)
        if span_s < self._playable_s:
            return ""
        return (
            f"chunks run dry: one plays until {self._playable_s * 1e3:.0f} ms after its "
            f"observation, the next one is there after {span_s * 1e3:.0f} ms "
            f"({self._schedule.latency_s * 1e3:.0f} ms of these after its own observation; p95)"
        )
