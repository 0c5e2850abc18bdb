"""The gate process of a mobile base: the only one that speaks to its controller."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.logging import get_logger

from qwen_vla_ros.clock import ns_from_stamp
from qwen_vla_ros.embodiment.backend import StampedTwist
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.execution.planar import WAYPOINT_KINDS
from qwen_vla_ros.execution.pose_history import PoseHistory
from qwen_vla_ros.execution.waypoint_follower import WaypointFollower
from qwen_vla_ros.ros.commands import Output
from qwen_vla_ros.ros.conversions import planar_pose
from qwen_vla_ros.ros.gate_node import GateNode
from qwen_vla_ros.ros.priority import raise_priority
from qwen_vla_ros.ros.process import main_of
from qwen_vla_ros.ros.qos import SENSOR
from qwen_vla_ros.safety.base_gate import BaseGate
from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.types import ActionChunk

HISTORY_S = 2.0


class Base:
    """A differential drive: its waypoint follower, its gate, and its controller."""

    def __init__(self, node: GateNode, embodiment: Embodiment) -> None:
        file = embodiment.file
        self._node = node
        self._gate = BaseGate.from_embodiment(embodiment)
        kinds: list[str] = [channel.kind for channel in file.action]
        self._columns = [kinds.index(kind) for kind in WAYPOINT_KINDS]
        self._follower = WaypointFollower(file.safety.max_observation_age_s)
        rate_hz = max(source.rate_hz for source in file.state)
        self._history = PoseHistory(depth=round(HISTORY_S * rate_hz))
        self.outputs = [Output(node, output) for output in file.command.outputs]
        topic = self._gate.monitor.topic
        node.create_subscription(Odometry, topic, self._on_odometry, SENSOR)

    @property
    def interlock(self) -> Interlock:
        """Level, cause and counters."""
        return self._gate.interlock

    @property
    def is_at_rest(self) -> bool:
        """Whether the base does not move, neither as commanded nor as measured."""
        return self._gate.is_at_rest

    def missing(self) -> str:
        """Say what is missing or moving."""
        if self._gate.monitor.pose is None:
            causes = self._gate.monitor.stops(time.monotonic_ns())
            return "; ".join(cause.detail for cause in causes)
        return "" if self._gate.is_still else "the base moves; the gate activates only at rest"

    def accept(self, chunk: ActionChunk, steady_ns: int) -> str:
        """Follow a chunk from where the base was when its observation was made."""
        start = self._history.newest if chunk.rest else self._history.at(chunk.stamp_ns)
        if start is None:
            return "the odometry does not reach back to the chunk's observation"
        actions = chunk.actions[:, self._columns]
        self._follower.accept(replace(chunk, actions=actions), start)
        self.interlock.on_chunk(steady_ns)
        return ""

    def clear(self) -> None:
        """Drop the way being followed."""
        self._follower.clear()

    def arm(self, steady_ns: int) -> str:
        """Let commands pass, beginning at rest."""
        return self._gate.arm(steady_ns)

    def tick(self, now_ns: int, steady_ns: int) -> None:
        """Command the twist that leads along the way."""
        pose = self._history.newest
        wanted = None if pose is None else self._follower.at(now_ns, pose)
        is_silent = wanted is None and not self._follower.is_resting
        command = self._gate.tick(now_ns, steady_ns, wanted, is_silent=is_silent)
        if command is not None:
            linear, angular = command.tolist()
            for output in self.outputs:
                output.publish(StampedTwist(linear=linear, angular=angular, stamp_ns=now_ns))

    def _on_odometry(self, message: Odometry) -> None:
        stamp_ns = ns_from_stamp(message.header.stamp)
        pose = planar_pose(message)
        twist = np.array([message.twist.twist.linear.x, message.twist.twist.angular.z])
        now_ns, steady_ns = self._node.now_ns(), time.monotonic_ns()
        if self._gate.monitor.observe(pose, twist, stamp_ns, now_ns, steady_ns):
            self._history.add(stamp_ns, pose)


class BaseGateNode(GateNode):
    """Follows chunks of waypoints through the gate."""

    def __init__(self) -> None:
        super().__init__("base_gate", Base)


def main() -> int:
    """Run the base gate."""
    get_logger("base_gate").info(raise_priority())
    return main_of(BaseGateNode)


if __name__ == "__main__":
    raise SystemExit(main())
