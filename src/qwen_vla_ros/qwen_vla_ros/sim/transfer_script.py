"""The hand-over as a script: which phase it is in, and where both grippers shall be.

Phases end by what is measured, never by the clock: when the robot is held, so is the script, and
when the cube is lost, the script goes back and picks it up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from qwen_vla_ros.types import FloatArray

SIDES = ("left", "right")

MEET_M = np.array([0.0, 0.5, 0.25])
HOVER_M = np.array([0.0, 0.0, 0.10])
LEFT_WAITS_M = MEET_M - np.array([0.14, 0.0, 0.0])
LEFT_TAKES_M = np.array([-0.005, 0.0, 0.0])
LEFT_SHOWS_M = MEET_M + np.array([-0.08, 0.0, 0.03])
RIGHT_LEAVES_M = MEET_M + np.array([0.12, 0.0, 0.04])
RIGHT_PITCH = np.deg2rad(60)
"""Steep enough to reach between cubes, flat enough to leave the left gripper its side of one."""

OPEN, CLOSED = 0.98, 0.0
"""Not quite open, so that the fingers do not press against their stops."""

IS_OPEN, IS_CLOSED_ON_CUBE = 0.85, 0.9

NEAR_M, NEAR_RAD = 0.010, 0.10
HELD_M = 0.035
"""A cube is not in a gripper when it is farther than this from its grip point ..."""
LOST_M, LOW_M = 0.07, 0.07
"""... and surely lost when it is this far away, and this low."""


class Phase(IntEnum):
    """What the script is at, in order: the right arm picks up, both meet, the left one takes."""

    REACH = 0
    LOWER = 1
    GRASP = 2
    CARRY = 3
    MEET = 4
    TAKE = 5
    RELEASE = 6
    RETREAT = 7
    SHOW = 8


@dataclass(frozen=True, kw_only=True)
class SensedState:
    """What one observation says.

    Attributes:
        tips: Pose (4, 4) of each side's grip point in the world frame.
        openness: Of each gripper, 0 closed to 1 open.
        cube: Position of the cube in m.
        yaw: Rotation of the cube about z in rad, within a quarter turn around 0.
        is_still: Nothing has moved for a tenth of a second.
    """

    tips: Mapping[str, FloatArray]
    openness: Mapping[str, float]
    cube: FloatArray
    yaw: float
    is_still: bool


@dataclass(frozen=True, kw_only=True)
class Grip:
    """Where one gripper shall be.

    Attributes:
        point: Grip point in the world frame, m.
        rotation: Orientation (3, 3) of the gripper link.
        openness: 0 closed to 1 open.
        is_straight: Whether the way there matters, and not just its end.
    """

    point: FloatArray
    rotation: FloatArray
    openness: float
    is_straight: bool


class TransferScript:
    """The phase, and how it goes on."""

    def __init__(self) -> None:
        self.phase = Phase.REACH
        self._aim: tuple[FloatArray, float] = (np.zeros(3), 0.0)

    def advance(self, sensed: SensedState) -> None:
        """Go on to the next phase when this one is done, or back when the cube was lost."""
        if self._is_lost(sensed):
            self.phase = Phase.REACH
        elif self.phase is not Phase.SHOW and self._is_done(sensed):
            self.phase = Phase(self.phase + 1)
        if self.phase not in (Phase.GRASP, Phase.TAKE):
            # A gripper that closes pushes the cube a little; it must not run after it.
            self._aim = (sensed.cube, sensed.yaw)

    def is_finished(self, sensed: SensedState) -> bool:
        """Say whether the left gripper shows the cube, and nothing moves any more."""
        return self.phase is Phase.SHOW and self._is_done(sensed)

    def grips(self) -> dict[str, Grip]:
        """Return where both grippers shall be in this phase, by side."""
        phase, (cube, yaw) = self.phase, self._aim
        right_point = {
            Phase.REACH: cube + HOVER_M,
            Phase.LOWER: cube,
            Phase.GRASP: cube,
            Phase.RETREAT: RIGHT_LEAVES_M,
            Phase.SHOW: RIGHT_LEAVES_M,
        }.get(phase, MEET_M)
        left_point = {
            Phase.MEET: cube + LEFT_TAKES_M,
            Phase.TAKE: cube + LEFT_TAKES_M,
            Phase.RELEASE: MEET_M + LEFT_TAKES_M,
            Phase.RETREAT: MEET_M + LEFT_TAKES_M,
            Phase.SHOW: LEFT_SHOWS_M,
        }.get(phase, LEFT_WAITS_M)
        right_holds = Phase.GRASP <= phase <= Phase.TAKE
        turn = np.pi + (yaw if phase <= Phase.GRASP else 0.0)
        is_straight = phase is not Phase.REACH
        return {
            "left": Grip(
                point=left_point,
                rotation=_about("x", np.pi / 2),
                openness=CLOSED if phase >= Phase.TAKE else OPEN,
                is_straight=is_straight,
            ),
            "right": Grip(
                point=right_point,
                rotation=_about("z", turn) @ _about("y", RIGHT_PITCH),
                openness=CLOSED if right_holds else OPEN,
                is_straight=is_straight,
            ),
        }

    def _is_lost(self, sensed: SensedState) -> bool:
        carried_by = "right" if self.phase <= Phase.TAKE else "left"
        away = _distance(sensed.tips[carried_by], sensed.cube)
        if self.phase is Phase.GRASP:
            return away > HELD_M
        is_low = sensed.cube[2] < LOW_M
        return self.phase >= Phase.CARRY and is_low and away > LOST_M

    def _is_done(self, sensed: SensedState) -> bool:
        near = {side: _is_at(sensed.tips[side], grip) for side, grip in self.grips().items()}
        match self.phase:
            case Phase.REACH | Phase.RELEASE:
                return near["right"] and sensed.openness["right"] > IS_OPEN
            case Phase.LOWER | Phase.CARRY | Phase.RETREAT:
                return near["right"] and near["left"]
            case Phase.GRASP:
                return sensed.is_still and sensed.openness["right"] < IS_CLOSED_ON_CUBE
            case Phase.MEET:
                return near["left"] and sensed.openness["left"] > IS_OPEN and sensed.is_still
            case Phase.TAKE:
                return sensed.is_still and sensed.openness["left"] < IS_CLOSED_ON_CUBE
            case Phase.SHOW:
                is_held = _distance(sensed.tips["left"], sensed.cube) < HELD_M
                return near["left"] and is_held and sensed.is_still


def _distance(pose: FloatArray, point: FloatArray) -> float:
    return float(np.linalg.norm(pose[:3, 3] - point))


def _is_at(pose: FloatArray, grip: Grip) -> bool:
    """Say whether a grip point (4, 4) is where it shall be, and turned as it shall be."""
    cosine = (np.trace(pose[:3, :3].T @ grip.rotation) - 1) / 2
    return _distance(pose, grip.point) < NEAR_M and bool(cosine > np.cos(NEAR_RAD))


def _about(axis: str, angle: float) -> FloatArray:
    """Return the rotation matrix (3, 3) about an axis."""
    c, s = np.cos(angle), np.sin(angle)
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]
