"""A simulated robot, whole: a world, and the controllers that its embodiment file commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qwen_vla_ros.embodiment.backend import load_backend
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import WORLDS, OutputSpec
from qwen_vla_ros.errors import QwenVlaError, suggest
from qwen_vla_ros.plugins import load_plugin
from qwen_vla_ros.sim.diff_drive_controller import DiffDriveController
from qwen_vla_ros.sim.forward_command_controller import ForwardCommandController
from qwen_vla_ros.sim.joint_trajectory_controller import JointTrajectoryController
from qwen_vla_ros.sim.world import JointWorld, WheeledWorld
from qwen_vla_ros.types import FloatArray

JOINT_AT_REST = 0.01
"""rad/s, and m/s of a finger."""

BASE_AT_REST = 0.01
"""m/s and rad/s."""

JointController = JointTrajectoryController | ForwardCommandController


class SimulatedArms:
    """Joints under one controller per output topic."""

    def __init__(self, embodiment: Embodiment, world: JointWorld) -> None:
        self.world = world
        self.controllers: dict[str, JointController] = {}
        for output in embodiment.file.command.outputs:
            self.controllers[output.topic] = self._make_controller(output)

    def reset(self, seed: int) -> None:
        """Put world and controllers back to their start; the robot is at rest."""
        self.world.reset(seed)
        for controller in self.controllers.values():
            controller.reset()

    def accept(self, topic: str, command: Any, now_ns: int) -> str:
        """Give a JointTrajectory to a topic's controller; returns why it refuses, or nothing."""
        return self.controllers[topic].accept(command, now_ns)

    def step(self, now_ns: int) -> None:
        """Advance by one period of the world; the controllers' clock reads `now_ns`."""
        for controller in self.controllers.values():
            joints = controller.joints
            targets = controller.update(
                now_ns, self.measured(joints), self.measured_velocity(joints)
            )
            self.world.set_targets(joints, targets)
        self.world.step()

    def measured(self, joints: Sequence[str]) -> FloatArray:
        """Return the measured position of some joints (rad or m), in their order."""
        return self.world.positions()[self._columns(joints)]

    def measured_velocity(self, joints: Sequence[str]) -> FloatArray:
        """Return the measured velocity of some joints (rad/s or m/s), in their order."""
        return self.world.velocities()[self._columns(joints)]

    def is_at_rest(self) -> bool:
        """Say whether every joint stands still."""
        return bool(np.all(np.abs(self.world.velocities()) < JOINT_AT_REST))

    def _columns(self, joints: Sequence[str]) -> list[int]:
        return [self.world.joints.index(joint) for joint in joints]

    def _make_controller(self, output: OutputSpec) -> JointController:
        for joint in output.joints:
            if joint not in self.world.joints:
                known = suggest(joint, self.world.joints)
                raise QwenVlaError(f"the simulated robot has no joint '{joint}'.{known}")
        if load_backend(output.backend).is_timed:
            return JointTrajectoryController(output.joints, update_period_s=self.world.period_s)
        return ForwardCommandController(output.joints)


class SimulatedBase:
    """Two wheels under one controller."""

    def __init__(self, world: WheeledWorld) -> None:
        self.world = world
        self.controller = DiffDriveController(
            wheel_separation_m=world.wheel_separation_m, wheel_radius_m=world.wheel_radius_m
        )

    def reset(self, seed: int) -> None:
        """Put world and controller back to their start; the odometry begins anew."""
        self.world.reset(seed)
        self.controller.reset(*self.world.wheel_positions())

    def accept(self, _: str, command: Any, now_ns: int) -> str:
        """Give a StampedTwist to the controller; returns why it refuses, or nothing."""
        return self.controller.accept(command.stamp_ns, command.linear, command.angular, now_ns)

    def step(self, now_ns: int) -> None:
        """Advance by one period of the world; the controller's clock reads `now_ns`."""
        left, right = self.world.wheel_positions()
        speeds = self.controller.update(now_ns, left, right, self.world.period_s)
        self.world.set_wheel_velocities(*speeds)
        self.world.step()

    def is_at_rest(self) -> bool:
        """Say whether the odometry says that the base stands still."""
        return max(abs(speed) for speed in self.controller.odometry.twist) < BASE_AT_REST


SimulatedRobot = SimulatedArms | SimulatedBase


def make_robot(embodiment: Embodiment, seed: int = 0) -> SimulatedRobot:
    """Build the robot that an embodiment file describes, at the start of a scene.

    Raises:
        QwenVlaError: The file names no world, or asks for a camera, a joint or a controller that
            the world lacks.
    """
    world: JointWorld | WheeledWorld = load_plugin(WORLDS, embodiment.world).World()
    for camera in embodiment.file.cameras:
        if camera.name not in world.cameras:
            known = suggest(camera.name, world.cameras)
            raise QwenVlaError(f"{embodiment.world} has no camera '{camera.name}'.{known}")
    moves = "joints" if isinstance(world, JointWorld) else "base"
    for output in embodiment.file.command.outputs:
        if load_backend(output.backend).moves != moves:
            raise QwenVlaError(
                f"{embodiment.world} has no controller for backend '{output.backend}' "
                f"({output.topic})."
            )
    robot: SimulatedRobot = (
        SimulatedArms(embodiment, world) if isinstance(world, JointWorld) else SimulatedBase(world)
    )
    robot.reset(seed)
    return robot
