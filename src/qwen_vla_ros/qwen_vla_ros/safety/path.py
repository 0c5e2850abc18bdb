"""The commands that a robot would follow from the last one on, until it rests."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.safety.pose import Pose
from qwen_vla_ros.safety.solids import Solids
from qwen_vla_ros.types import FloatArray


class Path:
    """Commands from the last that was sent to the end of the brake. Holds one at a time.

    Attributes:
        commands: Positions of the commanded joints, shape (n, J), n >= 2.
        travel: How far each joint goes from each command to the next, shape (n - 1, J).
    """

    def __init__(self, solids: Solids) -> None:
        self._solids = solids
        self._poses: list[Pose] = []
        self._is_known: list[bool] = []

    def __len__(self) -> int:
        return len(self.commands)

    def set(self, commands: FloatArray) -> None:
        """Take another path."""
        self.commands = commands
        self.travel = np.abs(commands[1:] - commands[:-1])
        while len(self._poses) < len(commands):
            self._poses.append(self._solids.pose())
        self._is_known = [False] * len(commands)

    def __getitem__(self, index: int) -> Pose:
        """Return the pose of a command; it is computed when it is first asked for."""
        pose = self._poses[index]
        if not self._is_known[index]:
            pose.move(self.commands[index])
            self._is_known[index] = True
        return pose
