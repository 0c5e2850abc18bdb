"""What a gate does when all is well: plays chunks through its filter to the controllers.

The filters and players are the true ones; the watchdogs, which know real clocks and real wires,
are left out.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.backend import load_backend
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.execution.chunk_player import ChunkPlayer
from qwen_vla_ros.execution.pose_history import PoseHistory
from qwen_vla_ros.execution.seam import SeamLimits
from qwen_vla_ros.execution.waypoint_follower import WaypointFollower
from qwen_vla_ros.safety.arm_gate import JointCommand
from qwen_vla_ros.safety.brake_filter import BrakeFilter
from qwen_vla_ros.safety.envelope import BaseEnvelope, JointEnvelope
from qwen_vla_ros.safety.policy_monitor import OUT_OF_REACH
from qwen_vla_ros.safety.twist_filter import TwistFilter
from qwen_vla_ros.sim.robot import SimulatedArms, SimulatedBase
from qwen_vla_ros.types import ActionChunk, FloatArray

ODOMETRY_DEPTH = 200


class ArmGateStandIn:
    """Joint positions through the brake-feasible filter."""

    def __init__(self, embodiment: Embodiment, robot: SimulatedArms) -> None:
        self._embodiment = embodiment
        self._robot = robot
        self._envelope = JointEnvelope.from_embodiment(embodiment)
        self._filter = BrakeFilter(self._envelope)
        limits = SeamLimits(
            lower=self._envelope.lower,
            upper=self._envelope.upper,
            velocity=self._envelope.velocity,
            acceleration=self._envelope.acceleration,
            reach=OUT_OF_REACH * self._envelope.start_jump,
        )
        self._player = ChunkPlayer(embodiment.file.safety.max_observation_age_s, limits)
        self._period_s = 1.0 / embodiment.file.command.rate_hz
        self._position = robot.measured(embodiment.joints)
        self._velocity: FloatArray = np.zeros_like(self._position)
        self._wanted: FloatArray | None = None
        self._outputs = [
            (output, load_backend(output.backend)) for output in embodiment.file.command.outputs
        ]
        self.commands = 0
        self.commands_limited = 0

    @property
    def is_resting(self) -> bool:
        """Whether the newest chunk asked for rest."""
        return self._player.is_resting

    def accept(self, chunk: ActionChunk) -> None:
        """Play this chunk from now on."""
        joints = self._embodiment.joints_from_channels(chunk.actions)
        self._player.accept(replace(chunk, actions=joints))

    def tick(self, now_ns: int, *, is_held: bool) -> None:
        """Send the next command; brake while held."""
        wanted = self._player.at(now_ns + round(self._period_s * NS_PER_S))
        before, self._wanted = self._wanted, None if is_held else wanted
        if is_held:
            self._player.interrupt()
        if self._wanted is None:
            step = self._filter.brake(self._position, self._velocity, self._period_s)
        else:
            moving = self._wanted - (self._wanted if before is None else before)
            step = self._filter.step(
                self._position,
                self._velocity,
                self._wanted,
                moving / self._period_s,
                self._period_s,
            )
        command = JointCommand(step.position, step.velocity, self._position, self._velocity)
        self._position, self._velocity = step.position, step.velocity
        self.commands += 1
        self.commands_limited += bool(step.limited.any())
        for output, backend in self._outputs:
            trajectory = command.trajectory(output.joints, self._envelope, self._period_s)
            message = backend.write(_plain_message, trajectory, output)
            reason = self._robot.accept(output.topic, backend.read(message, output), now_ns)
            if reason:
                raise ValueError(reason)


class BaseGateStandIn:
    """Waypoints through the twist filter."""

    def __init__(self, embodiment: Embodiment, robot: SimulatedBase) -> None:
        self._robot = robot
        self._filter = TwistFilter(BaseEnvelope.from_embodiment(embodiment))
        self._follower = WaypointFollower(embodiment.file.safety.max_observation_age_s)
        self._history = PoseHistory(ODOMETRY_DEPTH)
        self._period_s = 1.0 / embodiment.file.command.rate_hz
        self._twist: FloatArray = np.zeros(2)
        self.commands = 0
        self.commands_limited = 0

    @property
    def is_resting(self) -> bool:
        """Whether the newest chunk led nowhere."""
        return self._follower.is_resting

    def accept(self, chunk: ActionChunk) -> None:
        """Follow this chunk from where its observation was made."""
        start = self._history.at(chunk.stamp_ns)
        if start is not None:
            self._follower.accept(chunk, start)

    def tick(self, now_ns: int, *, is_held: bool) -> None:
        """Send the next twist; brake while held."""
        pose = self._robot.controller.odometry.pose
        self._history.add(now_ns, pose)
        wanted = self._follower.at(now_ns, pose)
        if wanted is None or is_held:
            step = self._filter.brake(self._twist, self._period_s)
        else:
            step = self._filter.step(self._twist, wanted, self._period_s)
        self._twist = step.twist
        self.commands += 1
        self.commands_limited += step.is_limited
        self._robot.controller.accept(now_ns, step.twist[0], step.twist[1], now_ns)


def _plain_message(_: str, **fields: Any) -> Any:
    """Make what reads like a message where there is no ROS."""
    return SimpleNamespace(**fields)
