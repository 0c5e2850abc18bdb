"""Where tools are on a path, and how fast.

A path is allowed when every tool is inside its workspace at each of its commands, and goes no
faster from one to the next than its speed. A workspace is a box, thus convex, and the way between
two commands is nearly straight: what was said of the pairs in `clearance` holds here too. Over a
period the mean speed of a tool is its speed in the middle, but for a ten-thousandth.

A tool that is outside its workspace when a motion begins may come back, and go no further out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qwen_vla_ros.embodiment.schema import WorkspaceSpec
from qwen_vla_ros.safety.path import Path
from qwen_vla_ros.safety.solids import Solids
from qwen_vla_ros.types import FloatArray

SLACK = 1e-9
"""Rounding, in m and m/s."""


@dataclass(frozen=True)
class Excess:
    """A tool that would leave its workspace or be too fast.

    Attributes:
        tool: Its name.
        speed: How fast it would be in m/s, or None where it leaves its workspace.
        allowed: How fast it may be.
        place: Where it would be, (x, y, z) m.
    """

    tool: str
    speed: float | None
    allowed: float
    place: FloatArray


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A point of a link.

    Attributes:
        name: As in the robot's file.
        link: Whose frame `point` (m) is in.
        point: Shape (3,).
        speed: In m/s; infinite where nothing is said.
        workspace: The box it stays in, or None.
    """

    name: str
    link: str
    point: FloatArray
    speed: float
    workspace: WorkspaceSpec | None


class Tools:
    """Watches the tools of one robot."""

    def __init__(self, solids: Solids, tools: tuple[Tool, ...], period_s: float) -> None:
        """Watch `tools`, whose robot gets a command every `period_s` (s)."""
        self._tools = tools
        self._period_s = period_s
        self._frames = [solids.add_frame(each.name, each.link, each.point) for each in tools]
        reach = [float(np.linalg.norm(tool.point)) for tool in tools]
        levers = [solids.rule.of(each.link, far) for each, far in zip(tools, reach, strict=True)]
        self._levers = np.array(levers)
        self._speed = np.array([tool.speed for tool in tools])
        infinite = np.full(3, np.inf)
        boxes = [tool.workspace for tool in tools]
        self._lower = np.array([-infinite if box is None else box.lower for box in boxes])
        self._upper = np.array([infinite if box is None else box.upper for box in boxes])

    def find(self, path: Path) -> Excess | None:
        """Return what a path does that it may not; None where it does nothing."""
        if not self._tools:
            return None
        here = self._places(path, 0)
        lower = np.minimum(self._lower, here) - SLACK
        upper = np.maximum(self._upper, here) + SLACK
        way = self._levers @ path.travel.sum(axis=0)
        steps = self._levers @ path.travel.max(axis=0)
        is_slow = steps <= self._speed * self._period_s
        is_inside = (here - way[:, None] >= lower).all(axis=1)
        is_inside &= (here + way[:, None] <= upper).all(axis=1)
        if (is_slow & is_inside).all():
            return None
        places = np.array([here, *(self._places(path, k) for k in range(1, len(path)))])
        outside = ((places < lower) | (places > upper)).any(axis=2)
        if outside.any():
            k, tool = np.unravel_index(int(outside.argmax()), outside.shape)
            return Excess(self._tools[tool].name, None, self._speed[tool], places[k, tool])
        speeds = np.linalg.norm(places[1:] - places[:-1], axis=2) / self._period_s
        share = (speeds - SLACK) / self._speed
        k, tool = np.unravel_index(int(share.argmax()), share.shape)
        if share[k, tool] <= 1:
            return None
        return Excess(
            self._tools[tool].name, float(speeds[k, tool]), self._speed[tool], places[k + 1, tool]
        )

    def _places(self, path: Path, index: int) -> FloatArray:
        """Return where the tools are at a command, shape (tools, 3)."""
        pose = path[index]
        return np.array([pose.point(frame) for frame in self._frames])
