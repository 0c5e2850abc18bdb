"""Run profiles: how fast a robot may be today. A profile only ever makes a limit tighter.

The limit in force is the least of what the URDF, the robot's file and the profile say, and each
keeps its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import ToolSpec
from qwen_vla_ros.errors import EmbodimentError, suggest

NOTHING = "-"
"""The source of a limit that nobody has set."""


@dataclass(frozen=True)
class Limit:
    """A greatest value, and who says so."""

    value: float
    source: str


@dataclass(frozen=True)
class Profile:
    """What a robot may do at most, whatever its file allows.

    Attributes:
        name: As an option.
        tool: Speed of a tool in m/s.
        turn: Speed of a joint that turns, in rad/s.
        slide: Speed of a joint that slides, in m/s.
    """

    name: str
    tool: float = math.inf
    turn: float = math.inf
    slide: float = math.inf

    def velocity(self, embodiment: Embodiment, joint: str) -> Limit:
        """Return the greatest speed of a joint, in rad/s or m/s."""
        urdf = embodiment.robot.joints[joint]
        own = self.slide if urdf.type == "prismatic" else self.turn
        file = embodiment.file.safety.joints[joint].velocity
        return _least(("URDF", urdf.velocity), ("file", file), (self.name, own))

    def tool_speed(self, tool: ToolSpec) -> Limit:
        """Return the greatest speed of a tool, in m/s; infinite where nobody says one."""
        file = math.inf if tool.speed is None else tool.speed
        return _least(("file", file), (self.name, self.tool))

    def require_tools(self, embodiment: Embodiment) -> None:
        """Refuse a robot whose tools the profile would slow down, but that names none.

        Raises:
            EmbodimentError: It is one.
        """
        if math.isfinite(self.tool) and not embodiment.file.safety.tools:
            raise EmbodimentError(
                f"{embodiment.path}: safety.tools: absent, but profile '{self.name}' limits the "
                f"speed of tools to {self.tool:g} m/s. Name the tools there"
                f"{'; a base has no profiles' if embodiment.has_base else ''}."
            )


NORMAL = Profile("normal")
COMMISSIONING = Profile("commissioning", tool=0.25, turn=0.5, slide=0.05)
"""250 mm/s is what ISO 10218-1 calls reduced speed: slow enough for a person to step back."""

PROFILES = {profile.name: profile for profile in (NORMAL, COMMISSIONING)}


def find_profile(name: str) -> Profile:
    """Return a profile by its name.

    Raises:
        EmbodimentError: There is none of that name.
    """
    if name not in PROFILES:
        raise EmbodimentError(f"unknown profile '{name}'.{suggest(name, PROFILES)}")
    return PROFILES[name]


def _least(*limits: tuple[str, float]) -> Limit:
    source, value = min(limits, key=lambda limit: limit[1])  # the first of equals
    return Limit(value, source if math.isfinite(value) else NOTHING)
