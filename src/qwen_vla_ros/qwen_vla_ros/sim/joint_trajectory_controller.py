"""Stand-in for the topic interface of ros2_controllers' joint_trajectory_controller (Jazzy).

It accepts, refuses, interpolates and holds as the real one does with position commands and its
default parameters, blind spots included: it does not look whether a number is finite, nor whether
a joint is named twice, and a trajectory that starts with a jump is followed as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.backend import JointTrajectory, TrajectoryPoint
from qwen_vla_ros.sim.trajectory import State, interpolate
from qwen_vla_ros.types import FloatArray

_AT_REST = float(np.finfo(np.float32).eps)
_UNKNOWN: FloatArray = np.zeros(0)


class JointTrajectoryController:
    """Follows the newest trajectory, and holds its last point."""

    def __init__(
        self,
        joints: Sequence[str],
        *,
        update_period_s: float,
        interpolate_from_desired_state: bool = False,
        allow_nonzero_velocity_at_trajectory_end: bool = False,
    ) -> None:
        """Take hold of some joints.

        Args:
            joints: Names, in the order of every array here.
            update_period_s: Time between two calls of `update`; commands are sampled that much
                ahead, as the real controller does.
            interpolate_from_desired_state: Begin a new trajectory where the last command was,
                instead of where the joints are measured. The default is the real one's. Then
                every replacement whose first point lies ahead pulls the command back to the
                measured state, by as much as the servos lag. A stream of short trajectories stays
                smooth all the same when its first point has time_from_start 0.
            allow_nonzero_velocity_at_trajectory_end: Accept a trajectory that ends in motion.
        """
        self.joints = tuple(joints)
        self._ahead_ns = round(update_period_s * NS_PER_S)
        self._from_desired = interpolate_from_desired_state
        self._may_end_moving = allow_nonzero_velocity_at_trajectory_end
        self.reset()

    def reset(self) -> None:
        """Forget the trajectory: hold what is measured at the next update."""
        self._points: list[State] = []
        self._offsets_ns: list[int] = []
        self._start_ns = 0
        self._before: State | None = None
        self._commanded: State | None = None

    def accept(self, trajectory: JointTrajectory, now_ns: int) -> str:
        """Take a new trajectory in place of the old one, or say why not.

        Args:
            trajectory: From the topic.
            now_ns: The controller's clock.

        Returns:
            An empty string, or the reason of the refusal; the old trajectory then goes on.
        """
        reason = self._refusal(trajectory, now_ns)
        if not reason:
            order = [self.joints.index(name) for name in trajectory.joints]
            self._points = [_state(point, order) for point in trajectory.points]
            self._offsets_ns = [point.time_from_start_ns for point in trajectory.points]
            self._start_ns = trajectory.start_ns
            self._before = None
        return reason

    def update(self, now_ns: int, positions: FloatArray, velocities: FloatArray) -> FloatArray:
        """Return the set-points (J,) for the next period.

        Args:
            now_ns: The controller's clock.
            positions: Measured, shape (J,).
            velocities: Measured, shape (J,).
        """
        if self._commanded is None:
            self._commanded = State(
                time_ns=now_ns + self._ahead_ns,
                positions=np.array(positions),
                velocities=_UNKNOWN,
                accelerations=_UNKNOWN,
            )
        if self._points:
            if self._before is None:
                self._begin(now_ns, positions, velocities)
            self._commanded = self._sample(now_ns + self._ahead_ns)
        return self._commanded.positions

    def _begin(self, now_ns: int, positions: FloatArray, velocities: FloatArray) -> None:
        if self._start_ns == 0:
            self._start_ns = now_ns
        time_ns = now_ns
        accelerations = _UNKNOWN
        if self._from_desired and self._commanded is not None:
            past = self._commanded
            # The real controller pairs the last command with the time at which it was sent.
            time_ns = past.time_ns - self._ahead_ns
            positions, velocities = past.positions, past.velocities
            accelerations = past.accelerations
        rest = np.zeros(len(self.joints))
        # What is not known counts as zero, so that the first segment has the others' degree.
        self._before = State(
            time_ns=time_ns,
            positions=np.array(positions),
            velocities=np.array(velocities) if velocities.size else rest,
            accelerations=np.array(accelerations) if accelerations.size else rest,
        )

    def _sample(self, time_ns: int) -> State:
        times = [self._start_ns + offset for offset in self._offsets_ns]
        a = self._before
        for at, b in zip(times, self._points, strict=True):
            end = State(
                time_ns=at,
                positions=b.positions,
                velocities=b.velocities,
                accelerations=b.accelerations,
            )
            if time_ns < at and a is not None:
                return interpolate(a, end, time_ns)
            a = end
        last = self._points[-1]
        rest = np.zeros(last.positions.size)
        return State(
            time_ns=time_ns,
            positions=last.positions,
            velocities=last.velocities if last.velocities.size else rest,
            accelerations=last.accelerations if last.accelerations.size else rest,
        )

    def _refusal(self, trajectory: JointTrajectory, now_ns: int) -> str:
        names, points = trajectory.joints, trajectory.points
        if len(names) != len(self.joints):
            return "Joints on incoming trajectory don't match the controller joints."
        if not points:
            return "Empty trajectory received."
        for name in names:
            if name not in self.joints:
                return f"Incoming joint {name} doesn't match the controller's joints."
        if not self._may_end_moving:
            for name, velocity in zip(names, points[-1].velocities, strict=False):
                if abs(velocity) > _AT_REST:
                    return f"Velocity of last trajectory point of joint {name} is not zero."
        end_ns = trajectory.start_ns + points[-1].time_from_start_ns
        if trajectory.start_ns != 0 and end_ns < now_ns:
            return "Received trajectory with non-zero start time that ends in the past."
        for i, point in enumerate(points):
            if i and point.time_from_start_ns <= points[i - 1].time_from_start_ns:
                return f"Time between points {i - 1} and {i} is not strictly increasing."
            mismatch = _mismatch(point, len(names))
            if mismatch:
                return f"Mismatch between joint_names size and {mismatch} at point #{i}."
            if point.effort:
                return "Trajectories with effort fields need the 'effort' command interface."
        return ""


def _mismatch(point: TrajectoryPoint, count: int) -> str:
    """Return the name of the first field of the wrong size; positions are not optional."""
    if len(point.positions) != count:
        return "positions"
    if point.velocities and len(point.velocities) != count:
        return "velocities"
    if point.accelerations and len(point.accelerations) != count:
        return "accelerations"
    return ""


def _state(point: TrajectoryPoint, order: list[int]) -> State:
    """Return a point in the controller's order of joints; its time is set when it starts."""

    def ordered(values: tuple[float, ...]) -> FloatArray:
        if not values:
            return _UNKNOWN
        result = np.zeros(len(order))
        result[order] = values
        return result

    return State(
        time_ns=0,
        positions=ordered(point.positions),
        velocities=ordered(point.velocities),
        accelerations=ordered(point.accelerations),
    )
