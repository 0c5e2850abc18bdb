"""What will be played while the policy thinks, and so cannot be decided any more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.execution.motion_clock import MotionClock
from qwen_vla_ros.execution.planar import difference
from qwen_vla_ros.execution.timeline import end_ns, row_at, values_at
from qwen_vla_ros.execution.waypoint_path import WaypointPath
from qwen_vla_ros.types import ActionChunk, FloatArray

MARGIN_ROWS = 1
"""Committed beyond the expected answer, which may be late."""
ROUNDING = 1e-9


def committed_values(
    chunk: ActionChunk, stamp_ns: int, rows: int, max_age_s: float
) -> FloatArray | None:
    """Return what a chunk of values says from a time on, shape (d, c), or None for nothing.

    Args:
        chunk: The chunk in play.
        stamp_ns: ROS time of row 0; row h is for `dt` times h later.
        rows: How many rows are wanted; there are fewer where the chunk is over before.
        max_age_s: Longest time (s) for which a chunk is played.
    """
    times = _times(chunk, stamp_ns, rows)
    over_ns = end_ns(chunk, max_age_s)
    values = [values_at(chunk, time_ns) for time_ns in times[:-1] if time_ns < over_ns]
    return np.array(values) if values else None


def committed_motions(
    chunk: ActionChunk, stamp_ns: int, rows: int, max_age_s: float, columns: Sequence[int]
) -> FloatArray | None:
    """Return the motions that a chunk of waypoints makes from a time on, or None for none.

    Each row is the whole motion of one `dt`, so that the last one ends before the chunk is over.

    Args:
        chunk: The chunk in play.
        stamp_ns: ROS time at which row 0 begins.
        rows: How many rows are wanted.
        max_age_s: Longest time (s) for which a chunk is played.
        columns: Where dx, dy and the turn stand among the channels.

    Returns:
        Shape (d, c), in the order of the channels.
    """
    path = WaypointPath(chunk.actions[:, columns])
    over_ns = end_ns(chunk, max_age_s)
    times = [time_ns for time_ns in _times(chunk, stamp_ns, rows) if time_ns <= over_ns]
    poses = [path.at(row_at(chunk, time_ns))[0] for time_ns in times]
    if len(poses) < 2:
        return None
    motions = np.zeros((len(poses) - 1, chunk.actions.shape[1]))
    for row in range(len(motions)):
        motions[row, columns] = difference(poses[row], poses[row + 1])
    return motions


class Commitment:
    """Knows the chunk in play, and says which rows of it the next one has to continue.

    Nothing is committed before the first chunk, after one that says rest, while the gate does not
    play, and after the gate rejected a chunk: then nobody knows what the robot does.
    """

    def __init__(
        self, max_age_s: float, waypoint_columns: Sequence[int] = (), lookahead_s: float = 0.0
    ) -> None:
        """Follow the chunks of one robot.

        Args:
            max_age_s: Longest time (s) after its first row for which a chunk is played.
            lookahead_s: How far (s) the gate plans ahead of what is played.
            waypoint_columns: Where dx, dy and the turn stand among the channels; empty where the
                channels are positions.
        """
        self._max_age_s = max_age_s
        self._columns = list(waypoint_columns)
        self._lookahead_s = lookahead_s
        self._clock = MotionClock()
        self._chunk: ActionChunk | None = None
        self._observed_ns = self._begin_ns = self._over_ns = 0
        self._is_played = False
        self._rejected = 0

    def restart(self) -> None:
        """Note that the robot rests, or comes to rest."""
        self._chunk = None
        self._clock = MotionClock()

    def on_chunk(self, chunk: ActionChunk, now_ns: int) -> None:
        """Note that this chunk was sent to be played, at a ROS time."""
        if chunk.rest or not self._is_played:
            # A gate that holds will begin with it, but nobody knows when.
            self.restart()
            return
        if now_ns >= self._over_ns:
            self._clock.end(self._over_ns)
        self._begin_ns = now_ns + round(self._lookahead_s * NS_PER_S)
        self._observed_ns = chunk.stamp_ns
        self._chunk = self._clock.placed(chunk, self._begin_ns)
        self._clock.begin(self._begin_ns)
        self._over_ns = end_ns(self._chunk, self._max_age_s)

    def is_in_play(self, now_ns: int) -> bool:
        """Say whether the robot is thought to follow a chunk at a ROS time."""
        return self._is_played and not self._clock.stands and now_ns < self._over_ns

    def on_gate(self, *, is_playing: bool, rejected: int) -> None:
        """Note what the gate says: whether it lets chunks pass, and how many it has rejected."""
        self._is_played = is_playing
        if rejected != self._rejected:
            self._rejected = rejected
            self._chunk = None

    def rows(self, stamp_ns: int, latency_s: float) -> FloatArray | None:
        """Return what is played from a time on until an answer may be there, or None.

        Args:
            stamp_ns: ROS time of the new observation.
            latency_s: Seconds from an observation until its chunk is played.

        Returns:
            Rows (d, c) in channel units, fewer than a chunk has: the answer must have something
            left to decide.
        """
        chunk = self._chunk
        if chunk is None or not self._is_played or stamp_ns < self._observed_ns:
            return None
        # What was seen before the motion began is answered by rows from its beginning on.
        stamp_ns += self._clock.rested_ns(stamp_ns, max(stamp_ns, self._begin_ns))
        ahead_s = latency_s + self._lookahead_s
        needed = math.ceil(ahead_s / chunk.dt - ROUNDING) + MARGIN_ROWS
        rows = min(needed, len(chunk.actions) - 1)
        if self._columns:
            return committed_motions(chunk, stamp_ns, rows, self._max_age_s, self._columns)
        return committed_values(chunk, stamp_ns, rows, self._max_age_s)


def _times(chunk: ActionChunk, stamp_ns: int, rows: int) -> list[int]:
    """Return the ROS times at which `rows` rows begin, and the one at which the last ends."""
    return [stamp_ns + round(row * chunk.dt * NS_PER_S) for row in range(rows + 1)]
