"""Stand-in for ros2_controllers' forward_command_controller: what comes in goes to the joints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwen_vla_ros.embodiment.backend import JointTrajectory
from qwen_vla_ros.types import FloatArray


class ForwardCommandController:
    """Passes positions on, without a look at limits, speed, or age: the last one stays."""

    def __init__(self, joints: Sequence[str]) -> None:
        """Take hold of some joints, in the order of the values that will come."""
        self.joints = tuple(joints)
        self.reset()

    def reset(self) -> None:
        """Forget the last command."""
        self._values: FloatArray | None = None

    def accept(self, command: JointTrajectory, now_ns: int) -> str:  # noqa: ARG002
        """Take the positions (J,) of the only point, or say why not."""
        values = command.points[0].positions
        if len(values) != len(self.joints):
            return (
                f"command size ({len(values)}) does not match number of interfaces "
                f"({len(self.joints)})"
            )
        self._values = np.array(values, dtype=float)
        return ""

    def update(self, now_ns: int, positions: FloatArray, velocities: FloatArray) -> FloatArray:  # noqa: ARG002
        """Return the set-points (J,); where the joints are while nothing was ever commanded."""
        if self._values is None:
            self._values = np.array(positions)
        return self._values
