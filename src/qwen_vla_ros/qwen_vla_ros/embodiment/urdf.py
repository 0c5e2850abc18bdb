"""The robot description, read strictly: every joint with the limits that a gate can rely on."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from qwen_vla_ros.embodiment.urdf_source import read_urdf_text
from qwen_vla_ros.errors import EmbodimentError, suggest
from qwen_vla_ros.problems import Problems, label
from qwen_vla_ros.types import FloatArray

ONCE = ("origin", "parent", "child", "axis", "limit", "mimic")
JointType = Literal["revolute", "continuous", "prismatic", "fixed", "floating", "planar"]
MAX_JOINTS = 1_000

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Mimic:
    """A joint that follows another: `multiplier * leader + offset`."""

    joint: str
    multiplier: float
    offset: float


@dataclass(frozen=True, kw_only=True, eq=False)
class UrdfJoint:
    """One joint of the description; rad or m by its type.

    Attributes:
        origin: The pose of the joint in its parent link at position 0, as a (4, 4) matrix.
        axis: Unit vector (3,) in the joint's own frame.
        lower: Lowest position; minus infinity for a joint that has no such limit.
        upper: Highest position; infinity for a joint that has no such limit.
        velocity: Highest speed; infinity where the type has none (fixed, floating, planar).
        effort: Highest force in N or torque in N m; infinity where the type has none.
    """

    name: str
    type: JointType
    parent: str
    child: str
    origin: FloatArray
    axis: FloatArray
    lower: float
    upper: float
    velocity: float
    effort: float
    mimic: Mimic | None = None

    @property
    def is_movable(self) -> bool:
        """Whether one number is the position of this joint."""
        return self.type in ("revolute", "continuous", "prismatic")


@dataclass(frozen=True, kw_only=True, eq=False)
class Urdf:
    """A robot as a tree of links; `xml` is canonical: no comments, attributes sorted."""

    name: str
    xml: str
    root: str
    links: tuple[str, ...]
    joints: Mapping[str, UrdfJoint]

    @property
    def commandable(self) -> tuple[str, ...]:
        """The joints that can be commanded: those that move, and by themselves."""
        return tuple(j.name for j in self.joints.values() if j.is_movable and j.mimic is None)


def load_urdf(path: Path) -> Urdf:
    """Read a .urdf or .xacro file.

    Raises:
        EmbodimentError: With one line for everything that is wrong.
    """
    # Comments hold the path of the machine that expanded them; the hash must not.
    try:
        canonical = ET.canonicalize(read_urdf_text(path), strip_text=True)
    except ET.ParseError as error:
        # Names that are none with XML namespaces, such as `:link`, pass the first look at it.
        raise EmbodimentError(f"{label(path)}: not well-formed XML: {error}.") from None
    return _Reader(path, ET.fromstring(canonical)).read(canonical)


class _Reader:
    """Walks one description and collects what is wrong with it."""

    def __init__(self, path: Path, robot: ET.Element) -> None:
        self._problems = Problems(path)
        self._robot = robot

    def read(self, xml: str) -> Urdf:
        if self._robot.tag != "robot":
            self._add(f"the top element is <{self._robot.tag}>, not <robot>.")
            raise self._problems.error()
        elements = self._robot.findall("joint")
        if len(elements) > MAX_JOINTS:
            self._add(f"has {len(elements)} joints; at most {MAX_JOINTS} are read.")
            raise self._problems.error()
        if not self._robot.get("name"):
            self._add("the <robot> has no name.")
        links = self._names("link")
        if not links:
            self._add("has no <link>.")
        self._names("joint")
        read = [self._joint(element) for element in elements]
        joints = {joint.name: joint for joint in read if joint is not None}
        self._problems.raise_if_any()
        self._check_mimics(joints)
        root = self._check_tree(links, joints)
        self._problems.raise_if_any()
        return Urdf(
            name=self._robot.get("name", ""), xml=xml, root=root, links=links, joints=joints
        )

    def _add(self, sentence: str) -> None:
        self._problems.add((), sentence)

    def _names(self, tag: str) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for element in self._robot.findall(tag):
            name = element.get("name", "")
            if not name:
                self._add(f"a <{tag}> has no name.")
            elif name in names:
                self._add(f"{tag} '{name}' is defined twice.")
            names[name] = None
        return tuple(names)

    def _joint(self, element: ET.Element) -> UrdfJoint | None:
        name = element.get("name", "")
        where = f"joint '{name}'"
        kind = element.get("type", "")
        for tag in ONCE:
            if len(element.findall(tag)) > 1:
                self._add(f"{where}: has more than one <{tag}>.")
        if kind not in get_args(JointType):
            self._add(f"{where}: unknown type '{kind}'.{suggest(kind, get_args(JointType))}")
            return None
        parent = self._attribute(element.find("parent"), "link", f"{where}: <parent>")
        child = self._attribute(element.find("child"), "link", f"{where}: <child>")
        lower, upper, velocity, effort = self._limits(element, kind, where)
        return UrdfJoint(
            name=name,
            type=kind,  # type: ignore[arg-type]  # checked against JointType above
            parent=parent,
            child=child,
            origin=self._origin(element.find("origin"), where),
            axis=self._axis(element.find("axis"), kind, where),
            lower=lower,
            upper=upper,
            velocity=velocity,
            effort=effort,
            mimic=self._mimic(element.find("mimic"), where),
        )

    def _limits(
        self, element: ET.Element, kind: str, where: str
    ) -> tuple[float, float, float, float]:
        infinite = (-math.inf, math.inf, math.inf, math.inf)
        if kind not in ("revolute", "continuous", "prismatic"):
            return infinite
        limit = element.find("limit")
        if limit is None:
            self._add(f"{where}: has no <limit>; a joint that moves needs one.")
            return infinite
        velocity = self._number(limit, "velocity", f"{where}: <limit>")
        effort = self._number(limit, "effort", f"{where}: <limit>")
        if velocity <= 0:
            self._add(f"{where}: velocity limit {velocity:g} must be above 0.")
        if effort < 0:
            self._add(f"{where}: effort limit {effort:g} must not be below 0.")
        if kind == "continuous":
            return (-math.inf, math.inf, velocity, effort)
        lower = self._number(limit, "lower", f"{where}: <limit>")
        upper = self._number(limit, "upper", f"{where}: <limit>")
        if lower >= upper:
            self._add(f"{where}: lower limit {lower:g} is not below upper {upper:g}.")
        return (lower, upper, velocity, effort)

    def _mimic(self, element: ET.Element | None, where: str) -> Mimic | None:
        if element is None:
            return None
        return Mimic(
            joint=self._attribute(element, "joint", f"{where}: <mimic>"),
            multiplier=self._number(element, "multiplier", f"{where}: <mimic>", default="1"),
            offset=self._number(element, "offset", f"{where}: <mimic>", default="0"),
        )

    def _origin(self, element: ET.Element | None, where: str) -> FloatArray:
        try:
            return pose_of_origin(element)
        except EmbodimentError as error:
            self._add(f"{where}: {error}")
            return np.eye(4)

    def _axis(self, element: ET.Element | None, kind: str, where: str) -> FloatArray:
        text = "1 0 0" if element is None else element.get("xyz", "1 0 0")
        axis = self._vector(text, f"{where}: axis xyz")
        length = float(np.linalg.norm(axis))
        if kind in ("fixed", "floating"):
            return np.array([1.0, 0.0, 0.0])
        if length < 1e-6:
            self._add(f"{where}: the axis has no direction.")
            return np.array([1.0, 0.0, 0.0])
        return axis / length

    def _attribute(self, element: ET.Element | None, key: str, where: str) -> str:
        value = "" if element is None else element.get(key, "")
        if not value:
            self._add(f"{where} {key} is missing.")
        return value

    def _number(
        self, element: ET.Element, key: str, where: str, default: str | None = None
    ) -> float:
        text = element.get(key, default)
        if text is None:
            self._add(f"{where} {key} is missing.")
            return 1.0
        value = _parse(text)
        if value is None:
            self._add(f"{where} {key} '{text[:40]}' is not a finite number.")
            return 1.0
        return value

    def _vector(self, text: str, where: str) -> FloatArray:
        values = [_parse(word) for word in text.split()]
        finite = [value for value in values if value is not None]
        if len(values) != 3 or len(finite) != 3:
            self._add(f"{where} '{text[:60]}' is not three finite numbers.")
            return np.zeros(3)
        return np.array(finite)

    def _check_mimics(self, joints: Mapping[str, UrdfJoint]) -> None:
        for joint in joints.values():
            if joint.mimic is None:
                continue
            leader = joints.get(joint.mimic.joint)
            if leader is None:
                hint = suggest(joint.mimic.joint, joints)
                self._add(
                    f"joint '{joint.name}': mimics unknown joint '{joint.mimic.joint}'.{hint}"
                )
            elif leader.mimic is not None or not leader.is_movable:
                self._problems.add(
                    (),
                    f"joint '{joint.name}': mimics '{leader.name}', which cannot lead: it is "
                    f"{'a mimic joint itself' if leader.mimic else leader.type}.",
                )

    def _check_tree(self, links: tuple[str, ...], joints: Mapping[str, UrdfJoint]) -> str:
        parent_of: dict[str, str] = {}
        for joint in joints.values():
            for role, link in (("parent", joint.parent), ("child", joint.child)):
                if link not in links:
                    hint = suggest(link, links)
                    self._add(f"joint '{joint.name}': unknown {role} link '{link}'.{hint}")
            if joint.child in parent_of:
                self._add(f"link '{joint.child}' is the child of two joints.")
            parent_of[joint.child] = joint.parent
        roots = [link for link in links if link not in parent_of]
        if not roots:
            self._add("the links form a cycle; there is no root link.")
        elif len(roots) > 1:
            self._add(f"has {len(roots)} root links ({', '.join(roots[:8])}); one is allowed.")
        elif cyclic := _cyclic_links(links, parent_of, roots[0]):
            self._add(f"the links {', '.join(cyclic[:8])} form a cycle.")
        return roots[0] if roots else ""


def _cyclic_links(links: tuple[str, ...], parent_of: Mapping[str, str], root: str) -> list[str]:
    """Return the links that never reach the root on the way up."""
    reaching = {root}
    for link in links:
        trail: list[str] = []
        here = link
        while here not in reaching and here in parent_of and here not in trail:
            trail.append(here)
            here = parent_of[here]
        if here in reaching:
            reaching.update(trail)
    return [link for link in links if link not in reaching]


def pose_of_origin(element: ET.Element | None) -> FloatArray:
    """Return the (4, 4) pose of an <origin>; the identity where there is none.

    Raises:
        EmbodimentError: It does not hold numbers.
    """
    origin = np.eye(4)
    if element is None:
        return origin
    for key in ("rpy", "xyz"):
        text = element.get(key, "0 0 0")
        values = [value for value in map(_parse, text.split()) if value is not None]
        if len(values) != 3 or len(text.split()) != 3:
            raise EmbodimentError(f"origin {key} '{text[:60]}' is not three finite numbers.")
        if key == "rpy":
            origin[:3, :3] = _rotation(*values)
        else:
            origin[:3, 3] = values
    return origin


def _parse(text: str) -> float | None:
    # Python's float() also takes "1_000", "nan" and digits of other scripts.
    if len(text) > 64 or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _rotation(roll: float, pitch: float, yaw: float) -> FloatArray:
    """Return the (3, 3) rotation of URDF's fixed-axis angles: first x, then y, then z."""
    cr, cp, cy = math.cos(roll), math.cos(pitch), math.cos(yaw)
    sr, sp, sy = math.sin(roll), math.sin(pitch), math.sin(yaw)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
