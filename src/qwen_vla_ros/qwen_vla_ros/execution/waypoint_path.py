"""The way that a chunk of waypoints describes: arcs of constant twist, one after the other."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.execution.planar import compose, motion_of, twist_of
from qwen_vla_ros.types import FloatArray


class WaypointPath:
    """Where a base shall be, by row.

    Row h is the motion from waypoint h to waypoint h + 1, seen from waypoint h. Between the two
    the way is the arc of constant twist, which is what a differential drive can do.
    """

    def __init__(self, motions: FloatArray, start: FloatArray | None = None) -> None:
        """Lay out the way.

        Args:
            motions: Rows (H, 3) of (dx m, dy m, turn rad).
            start: Pose (x m, y m, yaw rad) of waypoint 0; by default the origin.
        """
        self._twists = [twist_of(motion) for motion in motions]
        self.waypoints: list[FloatArray] = [np.zeros(3) if start is None else start]
        for motion in motions:
            self.waypoints.append(compose(self.waypoints[-1], motion))

    def at(self, index: float) -> tuple[FloatArray, FloatArray]:
        """Return pose (3,) and twist (vx, vy, w) per row at a row with its fraction.

        Beyond the last row, its arc goes on.
        """
        row = min(int(index), len(self._twists) - 1)
        twist = self._twists[row]
        return compose(self.waypoints[row], motion_of((index - row) * twist)), twist
