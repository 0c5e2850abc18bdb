"""Whether a robot may go on as planned, in space; asked for every wanted command (A13).

Nothing may touch (`clearance`), and tools stay in their workspace and below their speed (`tools`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.profile import NORMAL, Profile
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.clearance import Clearance
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.path import Path
from qwen_vla_ros.safety.solids import Solids
from qwen_vla_ros.safety.tools import Tool, Tools
from qwen_vla_ros.types import FloatArray

SHORTER = 0.5
"""Of a step that leads too near: how much of it is tried next."""


@dataclass(frozen=True)
class Refusal:
    """Why a path is not taken.

    Attributes:
        cause: For people and programs.
        share: Which part of its first step might be taken instead.
    """

    cause: Cause
    share: float


class MotionGuard:
    """Judges the path that a command and the brake after it make."""

    def __init__(
        self, embodiment: Embodiment, envelope: JointEnvelope, profile: Profile = NORMAL
    ) -> None:
        """Read the bodies and tools of one robot.

        Raises:
            EmbodimentError: The file says nothing of collisions, a shape cannot be read, or the
                margin is less than what happens between two commands.
        """
        safety, path = embodiment.file.safety, embodiment.path
        if safety.collision is None:
            raise EmbodimentError(f"{path}: safety.collision: absent, but joints are commanded")
        self.solids = Solids(embodiment, safety.collision)
        self.margin = safety.collision.margin
        period_s = 1.0 / embodiment.file.command.rate_hz
        self.sag = self.solids.sag(
            envelope.velocity,
            envelope.acceleration,
            period_s,
            is_smooth=envelope.jerk is not None,
        )
        if self.sag >= self.margin:
            raise EmbodimentError(
                f"{path}: safety.collision.margin: {self.margin:g} m is less than what two links "
                f"may come nearer between two commands, {self.sag:.4f} m at full speed. Allowed: "
                "a greater margin, less velocity, or a higher command.rate_hz."
            )
        self._path = Path(self.solids)
        self._clearance = Clearance(self.solids, self.margin)
        tools = tuple(
            Tool(
                name=name,
                link=spec.link,
                point=np.array(spec.point),
                speed=profile.tool_speed(spec).value,
                workspace=spec.workspace,
            )
            for name, spec in safety.tools.items()
        )
        self._tools = Tools(self.solids, tools, period_s)

    def begin(self, position: FloatArray) -> None:
        """Begin a motion at a position (J,)."""
        self._clearance.begin(position)

    def judge(self, commands: FloatArray) -> Refusal | None:
        """Return why a path is not taken; None when it may be.

        Args:
            commands: Positions (n, J) from the last command to the end of the brake.
        """
        self._path.set(commands)
        excess = self._tools.find(self._path)
        if excess is not None and excess.speed is None:
            x, y, z = excess.place
            where = f"x {x:.3f}, y {y:.3f}, z {z:.3f} m"
            detail = f"tool '{excess.tool}' would leave its workspace at {where}"
            return Refusal(Cause("workspace", detail), SHORTER)
        approach = self._clearance.find(self._path)
        if approach is not None:
            detail = (
                f"{approach.pair} would come as near as {approach.distance:.3f} m; "
                f"{self.margin:g} m are kept"
            )
            return Refusal(Cause("collision", detail), SHORTER)
        if excess is None or excess.speed is None:
            return None
        detail = f"tool '{excess.tool}' would be at {excess.speed:.3f} m/s of {excess.allowed:g}"
        return Refusal(Cause("tool_speed", detail), 0.99 * excess.allowed / excess.speed)
