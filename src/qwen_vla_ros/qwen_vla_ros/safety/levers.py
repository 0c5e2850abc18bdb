"""How far a point of a link moves at most when the commanded joints do, in any pose."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt

from qwen_vla_ros.embodiment.urdf import Urdf, UrdfJoint
from qwen_vla_ros.types import FloatArray


class Levers:
    """Bounds that hold in every pose, per unit of motion of each commanded joint."""

    def __init__(self, robot: Urdf, joints: tuple[str, ...]) -> None:
        """Read a description; `joints` (J,) are the commanded ones."""
        self._joints = joints
        self._above = {joint.child: joint for joint in robot.joints.values()}
        slides = np.array([robot.joints[name].type == "prismatic" for name in joints])
        self._with_slide: npt.NDArray[np.bool_] = slides[:, None] | slides[None, :]

    def chain(self, link: str) -> tuple[UrdfJoint, ...]:
        """Return the joints that can move a link, from the link to the root."""
        return tuple(joint for joint in self._up(link) if joint.type != "fixed")

    def column(self, joint: UrdfJoint) -> int | None:
        """Return which commanded joint moves this one, or None."""
        leader = joint.name if joint.mimic is None else joint.mimic.joint
        return self._joints.index(leader) if leader in self._joints else None

    def of(self, link: str, reach: float, without: Collection[UrdfJoint] = ()) -> FloatArray:
        """Return the levers (J,), in m per rad or m per m, of points of a link.

        Args:
            link: Name of the link.
            reach: How far from the link's origin the points are at most, in m.
            without: Joints that do not count.
        """
        levers = np.zeros(len(self._joints))
        length = reach
        for joint in self._up(link):
            column = self.column(joint)
            if column is not None and joint not in without:
                factor = 1.0 if joint.mimic is None else abs(joint.mimic.multiplier)
                levers[column] += factor * (1.0 if joint.type == "prismatic" else length)
            if joint.type == "prismatic":
                length += max(abs(joint.lower), abs(joint.upper))
            length += float(np.linalg.norm(joint.origin[:3, 3]))
        return levers

    def bend(self, levers: FloatArray, velocity: FloatArray) -> float:
        """Return the greatest centripetal and Coriolis acceleration of such points, in m/s^2.

        Args:
            levers: As returned by `of`, shape (J,).
            velocity: Greatest speeds of the joints, shape (J,).
        """
        # Two turns act at the shorter lever; with a slide, it is its direction that turns.
        both = np.minimum.outer(levers, levers)
        both = np.where((both > 0) & self._with_slide, np.maximum(both, 1.0), both)
        return float(velocity @ both @ velocity)

    def _up(self, link: str) -> Iterator[UrdfJoint]:
        while link in self._above:
            yield self._above[link]
            link = self._above[link].parent
