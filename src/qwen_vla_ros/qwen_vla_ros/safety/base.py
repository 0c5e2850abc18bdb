"""A mobile base: its waypoint follower and its gate."""

from __future__ import annotations

from dataclasses import replace

from qwen_vla_ros.embodiment.backend import Commands, StampedTwist
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.execution.planar import WAYPOINT_KINDS
from qwen_vla_ros.execution.pose_history import PoseHistory
from qwen_vla_ros.execution.twist_ramp import TwistRamp
from qwen_vla_ros.execution.waypoint_follower import WaypointFollower
from qwen_vla_ros.safety.base_gate import BaseGate
from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.safety.latch import Level
from qwen_vla_ros.types import ActionChunk, FloatArray

HISTORY_S = 2.0


class Base:
    """Follows chunks of waypoints through the base's gate."""

    def __init__(self, embodiment: Embodiment) -> None:
        """Make the gate of one robot's base.

        Raises:
            EmbodimentError: The base has no limits, or nothing reports where it is.
        """
        file = embodiment.file
        self._outputs = file.command.outputs
        self._gate = BaseGate.from_embodiment(embodiment)
        kinds: list[str] = [channel.kind for channel in file.action]
        self._columns = [kinds.index(kind) for kind in WAYPOINT_KINDS]
        envelope = self._gate.envelope
        ramp = TwistRamp(envelope.velocity, envelope.acceleration)
        self._follower = WaypointFollower(file.safety.max_observation_age_s, ramp)
        rate_hz = max(source.rate_hz for source in file.state)
        self._history = PoseHistory(depth=round(HISTORY_S * rate_hz))

    @property
    def interlock(self) -> Interlock:
        """Level, cause and counters."""
        return self._gate.interlock

    @property
    def topic(self) -> str:
        """Where the odometry comes from."""
        return self._gate.monitor.topic

    @property
    def is_at_rest(self) -> bool:
        """Whether the base does not move, neither as commanded nor as measured."""
        return self._gate.is_at_rest

    @property
    def is_resting(self) -> bool:
        """Whether the newest chunk led nowhere."""
        return self._follower.is_resting

    def missing(self, steady_ns: int) -> str:
        """Say what is missing or moving."""
        if self._gate.monitor.pose is None:
            return "; ".join(cause.detail for cause in self._gate.monitor.stops(steady_ns))
        return "" if self._gate.is_still else "the base moves; the gate activates only at rest"

    def observe(
        self, pose: FloatArray, twist: FloatArray, stamp_ns: int, now_ns: int, steady_ns: int
    ) -> None:
        """Take in one odometry message.

        Args:
            pose: x, y (m) and yaw (rad).
            twist: Forward (m/s) and turning (rad/s) speed.
            stamp_ns: ROS time of the measurement.
            now_ns: ROS time.
            steady_ns: Steady clock.
        """
        if self._gate.monitor.observe(pose, twist, stamp_ns, now_ns, steady_ns):
            self._history.add(stamp_ns, pose)

    def accept(self, chunk: ActionChunk, steady_ns: int) -> str:
        """Follow a chunk from where the base was when its observation was made."""
        start = self._history.newest if chunk.rest else self._history.at(chunk.stamp_ns)
        if start is None:
            return "the odometry does not reach back to the chunk's observation"
        actions = chunk.actions[:, self._columns]
        self._follower.accept(replace(chunk, actions=actions), start)
        self._gate.on_chunk(actions, steady_ns)
        return ""

    def clear(self) -> None:
        """Drop the waypoints being followed."""
        self._follower.clear()

    def arm(self, steady_ns: int) -> str:
        """Let commands pass, beginning at rest."""
        return self._gate.arm(steady_ns)

    def tick(self, now_ns: int, steady_ns: int) -> Commands:
        """Command the twist that leads along the waypoints."""
        pose = self._history.newest
        wanted = None
        if pose is not None:
            dt = self._gate.step_s(steady_ns)
            wanted = self._follower.at(now_ns, pose, self._gate.twist, dt)
        is_silent = wanted is None and not self._follower.is_resting
        command = self._gate.tick(now_ns, steady_ns, wanted, is_silent=is_silent)
        if self.interlock.latch.level >= Level.HOLD:
            self._follower.interrupt(now_ns)
        if command is None:
            return []
        linear, angular = command.tolist()
        twist = StampedTwist(linear=linear, angular=angular, stamp_ns=now_ns)
        return [(output, twist) for output in self._outputs]
