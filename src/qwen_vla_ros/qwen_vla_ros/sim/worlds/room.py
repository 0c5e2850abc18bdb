"""The room: a differential-drive base that is asked to drive to one of several things."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from qwen_vla_ros.sim.room_model import (
    BALL_RADIUS_M,
    BOX_EDGE_M,
    COLORS,
    WHEEL_RADIUS_M,
    WHEEL_SEPARATION_M,
    compile_room,
    object_names,
)
from qwen_vla_ros.sim.target import named_object
from qwen_vla_ros.sim.world import Scatter, Verdict, WheeledWorld
from qwen_vla_ros.types import FloatArray

REACH_M = 0.5
"""A base that stands still this near to the centre of a thing has reached it.

The base has a radius of 0.17 m and a thing one of 0.13 to 0.18 m: at most 0.2 m are between them.
"""

STILL_M_S = 0.02
NEAREST_M, FARTHEST_M, APART_M = 1.2, 3.1, 1.1
IN_SIGHT = 0.6
"""Bearing (rad) within which the asked-for thing lies at first: the camera sees 0.79 rad."""

SETTLE_S = 0.2
_OUT_OF_SIGHT = (0.0, 0.0, -5.0)


class World(WheeledWorld):
    """The base starts at the origin of the world frame, looking along x."""

    cameras: tuple[str, ...] = ("front",)
    object_names = object_names()
    scatter = Scatter(low=(-3.2, -3.2), high=(3.2, 3.2), apart_m=0.7)
    phrases = (
        "go to the {thing}",
        "drive to the {thing}",
        "move to the {thing}",
        "drive up to the {thing} and stop",
        "find the {thing} and stop in front of it",
        "head for the {thing}",
        "take me to the {thing}",
        "stop at the {thing}",
    )
    frame_id = "odom"
    wheel_separation_m = WHEEL_SEPARATION_M
    wheel_radius_m = WHEEL_RADIUS_M

    def __init__(self, period_s: float = 0.01) -> None:
        """Build the room.

        Args:
            period_s: Time per `step`.
        """
        super().__init__(compile_room(), period_s)
        self._wheels = [self.model.joint(side).qposadr[0] for side in ("left", "right")]
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Put the base at the origin and four or five things where this seed has them."""
        rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self._data)
        self._present = [
            str(name) for name in rng.permutation(object_names())[: int(rng.integers(4, 6))]
        ]
        self._data.mocap_pos[:] = _OUT_OF_SIGHT
        for name, place in zip(self._present, _scatter(rng, len(self._present)), strict=True):
            height = self.object_size(name)[2] / 2
            self._data.mocap_pos[self._mocap_id(name)] = (*place, height)
        self._favourite = self._present[0]
        self._settle(SETTLE_S)
        self._first_distance = {name: self._distance(name) for name in self._present}
        self._best = dict.fromkeys(self._present, 0.0)

    def step(self) -> None:
        """Advance by one period."""
        self._advance()
        for name, first in self._first_distance.items():
            way = first - REACH_M
            done = 1.0 - max(0.0, self._distance(name) - REACH_M) / way
            self._best[name] = max(self._best[name], done)

    def wheel_positions(self) -> tuple[float, float]:
        """Return the angle of the left and the right wheel in rad, not wrapped."""
        left, right = self._data.qpos[self._wheels]
        return float(left), float(right)

    def set_wheel_velocities(self, left: float, right: float) -> None:
        """Give the wheels new speeds in rad/s."""
        self._data.ctrl[:] = (left, right)

    def base_pose(self) -> FloatArray:
        """Return where the base truly is: x m, y m, yaw rad, in the world frame."""
        x, y, _, w, qx, qy, qz = self._data.joint("base").qpos
        yaw = np.arctan2(2 * (w * qz + qx * qy), 1 - 2 * (qy**2 + qz**2))
        return np.array([x, y, yaw])

    def objects(self) -> Mapping[str, FloatArray]:
        """Return the pose of everything that stands in the room."""
        return {
            name: np.array([*self._data.mocap_pos[self._mocap_id(name)], 1.0, 0.0, 0.0, 0.0])
            for name in self._present
        }

    def object_color(self, name: str) -> tuple[float, float, float, float]:
        """Return the colour of a thing."""
        return COLORS[name.partition("_")[0]]

    def object_size(self, name: str) -> tuple[float, float, float]:
        """Return the edges of a box, or three times the diameter of a ball, in metres."""
        size = BOX_EDGE_M if name.endswith("box") else 2 * BALL_RADIUS_M
        return (size, size, size)

    def suggest_instruction(self) -> str:
        """Return an instruction about the thing that the seed chose."""
        return self.phrases[0].format(thing=self._favourite.replace("_", " "))

    def judge(self, instruction: str) -> Verdict:
        """Say whether the base stands still at the thing that the instruction names."""
        target = named_object(instruction, self._present)
        if not target:
            return Verdict(target="", success=False, progress=0.0)
        is_still = float(np.linalg.norm(self._data.joint("base").qvel[:2])) < STILL_M_S
        is_near = self._distance(target) < REACH_M
        return Verdict(target=target, success=is_still and is_near, progress=self._best[target])

    def _distance(self, name: str) -> float:
        place = self._data.mocap_pos[self._mocap_id(name)][:2]
        return float(np.linalg.norm(place - self._data.joint("base").qpos[:2]))

    def _mocap_id(self, name: str) -> int:
        return int(self.model.body(name).mocapid[0])


def _scatter(rng: np.random.Generator, count: int) -> list[FloatArray]:
    """Draw places on the floor, away from the origin and from each other; the first in sight."""
    places: list[FloatArray] = []
    while len(places) < count:
        bearing = rng.uniform(-IN_SIGHT, IN_SIGHT) if not places else rng.uniform(-np.pi, np.pi)
        distance = np.sqrt(rng.uniform(NEAREST_M**2, FARTHEST_M**2))
        place = distance * np.array([np.cos(bearing), np.sin(bearing)])
        if all(np.linalg.norm(place - other) > APART_M for other in places):
            places.append(place)
    return places
