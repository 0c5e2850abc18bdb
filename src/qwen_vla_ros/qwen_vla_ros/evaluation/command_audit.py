"""A witness on the command wire: checks what a gate let out, sharing none of the gate's code."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qwen_vla_ros.embodiment.backend import Command, JointTrajectory, StampedTwist
from qwen_vla_ros.embodiment.embodiment import Embodiment

TOLERANCE = 1e-6
"""Rounding of a message's 64-bit values; rad, m, rad/s or m/s."""


@dataclass
class CommandAudit:
    """Counts commands and those of them that left the envelope.

    Attributes:
        embodiment: Whose envelope it is.
        commands: How many commands were seen.
        violations: What was wrong, with how often.
    """

    embodiment: Embodiment
    commands: int = 0
    violations: dict[str, int] = field(default_factory=dict)

    def on_command(self, command: Command) -> None:
        """Look at what one message on a command topic says."""
        self.commands += 1
        if isinstance(command, JointTrajectory):
            self._check_joints(command)
        else:
            self._check_twist(command)

    def _check_joints(self, command: JointTrajectory) -> None:
        limits = [self.embodiment.file.safety.joints[joint] for joint in command.joints]
        lower = np.array([limit.lower for limit in limits]) - TOLERANCE
        upper = np.array([limit.upper for limit in limits]) + TOLERANCE
        fastest = np.array([limit.velocity for limit in limits]) + TOLERANCE
        if any(len(point.positions) != len(limits) for point in command.points):
            self._note("size", ok=False)
            return
        where = np.array([point.positions for point in command.points])
        speed = np.array([point.velocities for point in command.points if point.velocities])
        # Written so that a value that is not a number fails.
        self._note("position", ok=bool(np.all((where >= lower) & (where <= upper))))
        if speed.size:  # bare positions have none
            self._note("velocity", ok=bool(np.all(np.abs(speed) <= fastest)))
            self._note("end not at rest", ok=bool(np.all(speed[-1] == 0)))

    def _check_twist(self, command: StampedTwist) -> None:
        base = self.embodiment.file.safety.base
        if base is None:
            return
        linear, angular = abs(command.linear), abs(command.angular)
        self._note("linear velocity", ok=linear <= base.linear_velocity + TOLERANCE)
        self._note("angular velocity", ok=angular <= base.angular_velocity + TOLERANCE)

    @property
    def total_violations(self) -> int:
        """How many findings there were in all."""
        return sum(self.violations.values())

    def _note(self, what: str, *, ok: bool) -> None:
        if not ok:
            self.violations[what] = self.violations.get(what, 0) + 1
