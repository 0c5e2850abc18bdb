"""What could touch what: the links of a robot and the boxes beside it, as convex bodies.

A pair of bodies is watched when a commanded joint moves one of them against the other, unless the
two are neighbours (one joint between them), its owner lets them touch, or they are nearer than the
margin in every pose: then the shapes overlap where the links meet, and tell nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pinocchio as pin

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.kinematics import Kinematics
from qwen_vla_ros.embodiment.schema import CollisionSpec
from qwen_vla_ros.embodiment.shapes import Shape, read_shapes
from qwen_vla_ros.embodiment.urdf import UrdfJoint
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.levers import Levers
from qwen_vla_ros.safety.pose import Pose
from qwen_vla_ros.types import FloatArray

SAMPLES = 300
"""Poses that are looked at for pairs which always touch; drawn with a fixed seed."""

Indices = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """Two bodies that are watched, by the names of their links or boxes."""

    first: str
    second: str

    def __str__(self) -> str:
        return f"'{self.first}' and '{self.second}'"


class Solids:
    """The bodies of one robot and its pairs.

    Attributes:
        pairs: What is watched, P of them.
        levers: How much nearer each pair may come per unit of motion of each commanded joint,
            shape (P, J), in m per rad or m per m.
        touching: Pairs that are not watched since they are near in every pose.
        bare: Links that move and have no shape.
    """

    def __init__(self, embodiment: Embodiment, spec: CollisionSpec) -> None:
        """Read one robot.

        Raises:
            EmbodimentError: A shape cannot be read, or no link that moves has one.
        """
        robot, limits = embodiment.robot, embodiment.file.safety.joints
        self.rule = Levers(robot, embodiment.joints)
        self.kinematics = Kinematics(robot.xml)
        self._joints = embodiment.joints
        try:
            links = read_shapes(robot)
        except EmbodimentError as error:
            raise EmbodimentError(
                f"{embodiment.path}: urdf: {embodiment.file.urdf}: {error}"
            ) from None
        boxes = [
            Shape(link=name, pose=_at(box.center), half=np.array(box.size) / 2, radius=0.0)
            for name, box in spec.surroundings.items()
        ]
        self._shapes = (*links, *boxes)
        moving = [link for link in robot.links if self._is_moved(self.rule.chain(link))]
        self.bare = tuple(link for link in moving if link not in {each.link for each in links})
        if len(self.bare) == len(moving):
            raise EmbodimentError(
                f"{embodiment.path}: urdf: no link that moves has a shape in "
                f"{embodiment.file.urdf}, so that nothing is known of what could touch what. "
                "Give each link a <collision>."
            )
        self._bodies = pin.GeometryModel()
        for index, shape in enumerate(self._shapes):
            self._bodies.addGeometryObject(self._body(index, shape))
        pairs = self._candidates({frozenset(pair) for pair in spec.may_touch})
        lower = np.array([limits[joint].lower for joint in embodiment.joints])
        upper = np.array([limits[joint].upper for joint in embodiment.joints])
        self._set_pairs(pairs)
        always = self._always_near(lower, upper, spec.margin)
        self.touching = tuple(pair for k, pair in enumerate(self.pairs) if always[k])
        self._set_pairs([pair for k, pair in enumerate(pairs) if not always[k]])
        sides = [(self._levers(i, j), self._levers(j, i)) for i, j in self._indices]
        self._sides = np.array(sides).reshape(len(self.pairs), 2, len(embodiment.joints))
        self.levers = self._sides.sum(axis=1)

    def pose(self) -> Pose:
        """Return a place to compute one pose in."""
        return Pose(self.kinematics, self._joints, self._bodies, self._shapes, self._indices)

    def add_frame(self, name: str, link: str, point: FloatArray) -> int:
        """Fix a frame to a link at a point (3,) of its frame, in m; returns its index.

        Poses that were made before do not know it.
        """
        model = self.kinematics.model
        index = model.getFrameId(link, pin.FrameType.BODY)
        place = model.frames[index].placement * pin.SE3(np.eye(3), point)
        joint = model.frames[index].parentJoint
        return int(model.addFrame(pin.Frame(name, joint, index, place, pin.FrameType.OP_FRAME)))

    def sag(
        self,
        velocity: FloatArray,
        acceleration: FloatArray,
        period_s: float,
        *,
        is_smooth: bool = False,
    ) -> float:
        """Return how much nearer than at two commands a pair may be between them, in m.

        The curve that is played leaves the chord between two commands by at most a T^2 / 8, or
        a T^2 / 6 where it is the cubic one that bounds jerk. Points of a link that turns leave
        theirs by as large a share of their centripetal and Coriolis acceleration. But for these, a
        plane that separates a pair at both separates it between.

        Args:
            velocity: Greatest speeds, shape (J,).
            acceleration: Greatest accelerations, shape (J,).
            period_s: Seconds between two commands.
            is_smooth: Whether a jerk is declared.
        """
        share = 1 / 6 if is_smooth else 1 / 8
        bends = [sum(self.rule.bend(side, velocity) for side in sides) for sides in self._sides]
        return float((self.levers @ acceleration + bends).max(initial=0.0)) * period_s**2 * share

    def _is_moved(self, joints: tuple[UrdfJoint, ...]) -> bool:
        return any(self.rule.column(joint) is not None for joint in joints)

    def _body(self, index: int, shape: Shape) -> Any:
        model, name = self.kinematics.model, f"{index} {shape.link}"
        joint, pose = 0, pin.SE3(shape.pose)
        if model.existFrame(shape.link, pin.FrameType.BODY):
            frame = model.frames[model.getFrameId(shape.link, pin.FrameType.BODY)]
            joint, pose = frame.parentJoint, frame.placement * pose
        return pin.GeometryObject(name, joint, 0, pose, shape.geometry())

    def _candidates(self, may_touch: set[frozenset[str]]) -> list[Indices]:
        found = []
        for j, other in enumerate(self._shapes):
            for i, one in enumerate(self._shapes[:j]):
                joints = (*self._joints_of(i, j), *self._joints_of(j, i))
                is_free = frozenset({one.link, other.link}) in may_touch
                if len(joints) > 1 and self._is_moved(joints) and not is_free:
                    found.append((i, j))
        return found

    def _joints_of(self, i: int, j: int) -> tuple[UrdfJoint, ...]:
        """Return the joints that move shape i and not shape j."""
        other = self.rule.chain(self._shapes[j].link)
        return tuple(each for each in self.rule.chain(self._shapes[i].link) if each not in other)

    def _levers(self, i: int, j: int) -> FloatArray:
        """Return how far shape i moves, as seen from shape j, per unit of each joint (J,)."""
        own = self._joints_of(i, j)
        link = self._shapes[i].link
        shared = [joint for joint in self.rule.chain(link) if joint not in own]
        return self.rule.of(link, self._shapes[i].reach, shared)

    def _set_pairs(self, indices: list[Indices]) -> None:
        self._indices = indices
        self.pairs = tuple(Pair(self._shapes[i].link, self._shapes[j].link) for i, j in indices)
        self._bodies.removeAllCollisionPairs()
        for i, j in indices:
            self._bodies.addCollisionPair(pin.CollisionPair(i, j))

    def _always_near(
        self, lower: FloatArray, upper: FloatArray, margin: float
    ) -> npt.NDArray[np.bool_]:
        rng = np.random.default_rng(0)
        pose, every = self.pose(), np.arange(len(self.pairs))
        near = np.ones(len(every), dtype=bool)
        for _ in range(SAMPLES):
            pose.move(rng.uniform(lower, upper))
            near[near] = pose.distances(every[near]) < margin
        return near


def _at(center: tuple[float, float, float]) -> FloatArray:
    pose = np.eye(4)
    pose[:3, 3] = center
    return pose
