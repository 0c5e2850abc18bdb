"""Turns a chunk of waypoints into the twist that a differential drive should have now."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.execution.motion_clock import MotionClock
from qwen_vla_ros.execution.planar import difference
from qwen_vla_ros.execution.timeline import end_ns, row_at
from qwen_vla_ros.execution.twist_ramp import TwistRamp
from qwen_vla_ros.execution.waypoint_path import WaypointPath
from qwen_vla_ros.types import ActionChunk, FloatArray

STOP_DISTANCE = 0.05
"""A chunk that leads less far (m) than this says that the robot has arrived ..."""
STOP_TURN = 0.1
"""... unless it turns by more than this (rad)."""

GAIN_ALONG = 1.0
GAIN_TURN = 2.0
GAIN_ACROSS = 4.0
"""Feedback per metre along, radian, and metre across: 1/s, 1/s, 1/m^2. A lag of 0.1 m adds
0.1 m/s; a sideways error dies out with a damping of 0.8 at 0.6 m/s, and of more when slower."""
MAX_ERROR = np.array([0.3, 0.3, 0.6])
"""Errors (m, m, rad) count up to here: far from its reference a base may hurry, but not race."""


class WaypointFollower:
    """Follows the newest chunk from where its observation was made, by the time of the motion.

    Row h of a chunk is the motion between `stamp + h dt` and `stamp + (h + 1) dt`, seen from the
    waypoint before it. A new chunk needs no seam: its way begins where the base was seen, so that
    only the speed changes, as it does from row to row, and the ramp takes its time for that.
    While the base rests, no row passes: a motion begins with the first row of what was seen then.
    """

    def __init__(self, max_age_s: float, ramp: TwistRamp) -> None:
        """Lead a base along within what the ramp allows.

        A motion begins only within `max_age_s` (s) of the observation that it answers, and goes on
        for no longer than that without an answer to a newer one.
        """
        self._max_age_s = max_age_s
        self._clock = MotionClock()
        self._ramp = ramp
        self._chunk: ActionChunk | None = None
        self._path: WaypointPath | None = None

    @property
    def is_resting(self) -> bool:
        """Whether there is nowhere to go, so that silence is what is expected."""
        return self._chunk is None

    def accept(self, chunk: ActionChunk, start: FloatArray) -> None:
        """Follow this chunk from now on.

        Args:
            chunk: Rows of (dx m, dy m, turn rad).
            start: Pose (x m, y m, yaw rad) of the base when the observation was made.
        """
        path = WaypointPath(chunk.actions, start)
        if chunk.rest or _is_stop(chunk.actions, path.waypoints):
            self.clear()
            return
        self._chunk, self._path = chunk, path

    def clear(self) -> None:
        """Drop everything that was asked for so far."""
        self._chunk = self._path = None
        self._clock = MotionClock()

    def interrupt(self, now_ns: int) -> None:
        """Note that the base is not led along at a ROS time, whatever is wanted."""
        self._clock.end(now_ns)

    def reference(self, now_ns: int) -> tuple[FloatArray, FloatArray] | None:
        """Return pose (3,) and twist (vx, vy, w) that are meant for a ROS time, or None."""
        chunk, path = self._chunk, self._path
        if chunk is None or path is None:
            return None
        is_old = now_ns - chunk.stamp_ns >= self._max_age_s * NS_PER_S
        placed = self._clock.placed(chunk, now_ns)
        if (self._clock.stands and is_old) or now_ns >= end_ns(placed, self._max_age_s):
            return None
        pose, twist = path.at(row_at(placed, now_ns))
        return pose, twist / chunk.dt

    def at(self, now_ns: int, pose: FloatArray, twist: FloatArray, dt: float) -> FloatArray | None:
        """Return the next twist (v m/s, w rad/s) of a base that is led along, or None.

        It is on the way to the chunk's own speed plus a feedback on the distance from the
        reference. What a chunk asks for beyond the base's speed is returned as it is: whoever
        bounds that shall see it.

        Args:
            now_ns: ROS time.
            pose: Where the base is (x m, y m, yaw rad).
            twist: Last commanded (v, w).
            dt: Seconds between that command and this one.
        """
        reference = self.reference(now_ns)
        if reference is None:
            self.interrupt(now_ns)
            return None
        self._clock.begin(now_ns)
        wanted_pose, (forward, _, turn) = reference
        along, across, angle = np.clip(difference(pose, wanted_pose), -MAX_ERROR, MAX_ERROR)
        v = forward * np.cos(angle) + GAIN_ALONG * along
        # A sideways error can only be driven away while driving, hence the factor `forward`.
        w = turn + GAIN_TURN * angle + GAIN_ACROSS * forward * across * np.sinc(angle / np.pi)
        goal = np.array([v, w])
        if not self._ramp.allows(np.array([forward, turn])):
            return goal
        return self._ramp.step(twist, goal, dt)


def _is_stop(actions: FloatArray, waypoints: list[FloatArray]) -> bool:
    way = np.hypot(*(waypoints[-1][:2] - waypoints[0][:2]))
    return bool(way < STOP_DISTANCE and abs(actions[:, 2].sum()) < STOP_TURN)
