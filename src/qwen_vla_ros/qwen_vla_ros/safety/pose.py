"""The bodies of a robot in one pose: distances are computed when they are asked for, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pinocchio as pin

from qwen_vla_ros.embodiment.kinematics import Kinematics
from qwen_vla_ros.embodiment.shapes import Shape
from qwen_vla_ros.types import FloatArray

Indices = npt.NDArray[np.intp]
"""Which pairs, by their places in the list of pairs."""


class Pose:
    """A place to compute one pose in, again and again. Lengths in m, in the root link's frame."""

    def __init__(
        self,
        kinematics: Kinematics,
        joints: Sequence[str],
        bodies: Any,
        shapes: Sequence[Shape],
        pairs: Sequence[tuple[int, int]],
    ) -> None:
        """Make a place.

        Args:
            kinematics: Of the robot.
            joints: The commanded ones (J,). Every other joint is taken as resting at 0, or at the
                limit that is next to 0.
            bodies: Pinocchio's geometry model.
            shapes: Of the bodies.
            pairs: Which bodies make each pair.
        """
        self._kinematics = kinematics
        self._columns = [kinematics.joints.index(joint) for joint in joints]
        self._values = np.clip(0.0, kinematics.lower, kinematics.upper)
        self._model = model = kinematics.model
        self._bodies = bodies
        self._shapes, self._pairs = shapes, pairs
        self._data, self._places = model.createData(), bodies.createData()
        self._distance = np.full(len(pairs), np.nan)

    def move(self, position: FloatArray) -> None:
        """Go to positions (J,) of the commanded joints."""
        self._distance.fill(np.nan)
        self._values[self._columns] = position
        configuration = self._kinematics.configuration(self._values)
        pin.updateGeometryPlacements(
            self._model, self._data, self._bodies, self._places, configuration
        )

    def distances(self, pairs: Indices) -> FloatArray:
        """Return how far pairs are apart; negative where they overlap."""
        for pair in pairs[np.isnan(self._distance[pairs])].tolist():
            result = pin.computeDistance(self._bodies, self._places, pair)
            self._distance[pair] = result.min_distance
        return self._distance[pairs]

    def normal(self, pair: int) -> FloatArray:
        """Return the unit vector (3,) in which a pair of known distance is that far apart."""
        return np.array(self._places.distanceResults[pair].normal)

    def gap(self, pair: int, normal: FloatArray) -> float:
        """Return how far a pair is apart along a unit vector (3,): at most its distance."""
        centers, width = [], 0.0
        for body in self._pairs[pair]:
            place, shape = self._places.oMg[body], self._shapes[body]
            centers.append(place.translation)
            width += float(np.abs(normal @ place.rotation) @ shape.half) + shape.radius
        return float(normal @ (centers[1] - centers[0])) - width

    def point(self, frame: int) -> FloatArray:
        """Return the origin (3,) of a frame, by the frame's index."""
        return np.array(pin.updateFramePlacement(self._model, self._data, frame).translation)
