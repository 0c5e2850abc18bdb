"""Do the links, boxes and tools that the file names exist, and can they mean what they say?"""

from __future__ import annotations

from qwen_vla_ros.embodiment.limits_check import is_suspect
from qwen_vla_ros.embodiment.schema import CollisionSpec, EmbodimentFile, ToolSpec
from qwen_vla_ros.embodiment.urdf import Urdf
from qwen_vla_ros.errors import suggest
from qwen_vla_ros.problems import Loc, Problems

AXES = "xyz"


def check_collision(file: EmbodimentFile, robot: Urdf, problems: Problems) -> None:
    """Add a sentence for everything of `safety.collision` and `safety.tools` that does not fit."""
    safety = file.safety
    if not file.joints:
        for key in ("collision", "tools"):
            if getattr(safety, key):
                problems.add(("safety", key), "nothing would read it: no joint is commanded.")
        return
    if safety.collision is None:
        problems.add(
            ("safety", "collision"),
            "is missing: arms keep their links apart. Needed: how far, in m, such as "
            "'collision: {margin: 0.02}'.",
        )
    else:
        _check_pairs(safety.collision, robot, problems)
        _check_boxes(safety.collision, robot, problems)
    for name, tool in safety.tools.items():
        _check_tool(tool, ("safety", "tools", name), robot, problems)


def _check_pairs(collision: CollisionSpec, robot: Urdf, problems: Problems) -> None:
    known = {*robot.links, *collision.surroundings}
    seen: set[frozenset[str]] = set()
    for i, pair in enumerate(collision.may_touch):
        loc: Loc = ("safety", "collision", "may_touch", i)
        for name in pair:
            if name not in known:
                problems.add(loc, f"unknown link or box '{name}'.{suggest(name, known)}")
        if pair[0] == pair[1]:
            problems.add(loc, f"'{pair[0]}' is one body; a pair is two.")
        elif frozenset(pair) in seen:
            problems.add(loc, f"'{pair[0]}' and '{pair[1]}' stand there already.")
        seen.add(frozenset(pair))


def _check_boxes(collision: CollisionSpec, robot: Urdf, problems: Problems) -> None:
    for name, box in collision.surroundings.items():
        loc: Loc = ("safety", "collision", "surroundings", name)
        if name in robot.links:
            problems.add(loc, "is the name of a link; a box needs one of its own.")
        for key in ("center", "size"):
            for value in getattr(box, key):
                is_suspect(value, "m", (*loc, key), problems)


def _check_tool(tool: ToolSpec, loc: Loc, robot: Urdf, problems: Problems) -> None:
    if tool.link not in robot.links:
        problems.add(
            (*loc, "link"), f"unknown link '{tool.link}'.{suggest(tool.link, robot.links)}"
        )
    for value in tool.point:
        is_suspect(value, "m", (*loc, "point"), problems)
    if tool.speed is not None:
        is_suspect(tool.speed, "m/s", (*loc, "speed"), problems)
    if tool.workspace is None:
        return
    corners = zip(AXES, tool.workspace.lower, tool.workspace.upper, strict=True)
    for axis, lower, upper in corners:
        if lower >= upper:
            problems.add(
                (*loc, "workspace", "lower"),
                f"{axis}: {lower:g} is not below the upper {upper:g}.",
            )
