"""The hand-over as a script: which phase it is in, and where both grippers shall be.

Phases end by what is measured, never by the clock: when the robot is held, so is the script; when
the cube slips, is missed or is lost, the script goes back to where it can go on from; and when
somebody else has brought the cube further, it goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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

IS_OPEN, IS_CLOSED_ON_CUBE, IS_EMPTY = 0.85, 0.9, 0.35

EXACT = (0.008, 0.10)
FAIR = (0.016, 0.20)
NEAR = (0.03, 0.3)
ROUGH = (0.06, 0.6)
"""How far from its goal, in m and rad, a gripper may be: to grip; to grip when it comes no nearer;
to go on; to be out of the way.
An arm that is never quite where it was sent shall not wait for what does not come."""

HELD_M = 0.035
"""A cube is in a gripper when it is this near to its grip point ..."""
LOST_M, LOW_M = 0.06, 0.07
"""... lost when it is this far away, and on the table, or nearly, when it is this low."""
ASIDE_M = 0.04
"""A gripper that is this far beside a cube must not go down to it."""

ALIGNED_M, FUNNEL, BACK_M = 0.008, 5.0, 0.06
"""A gripper that is beside its way to a cube comes no nearer than this: so many times what it is
off by more than `ALIGNED_M`, at most `BACK_M`. Open fingers leave a cube 16 mm on each side."""


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
        is_slow: Whether an arm has hardly moved for a tenth of a second, by side.
        is_shut: Whether its fingers have not, be it around something or not.
    """

    tips: Mapping[str, FloatArray]
    openness: Mapping[str, float]
    cube: FloatArray
    yaw: float
    is_slow: Mapping[str, bool]
    is_shut: Mapping[str, bool]


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
        self._back_m = {"left": 0.0, "right": 0.0}

    def advance(self, sensed: SensedState) -> None:
        """Go on to the next phase when this one is done, or to where the cube really is."""
        self.phase = self._true_phase(sensed)
        if self.phase is not Phase.SHOW and self._is_done(sensed):
            self.phase = Phase(self.phase + 1)
        if self.phase not in (Phase.GRASP, Phase.TAKE):
            # A gripper that closes pushes the cube a little; it must not run after it.
            self._aim = (sensed.cube, sensed.yaw)
        off = {side: sensed.tips[side][:3, 3] - sensed.cube for side in SIDES}
        aside = {
            "left": np.hypot(off["left"][1], off["left"][2]),
            "right": np.hypot(*off["right"][:2]),
        }
        for side in SIDES:
            self._back_m[side] = float(np.clip(FUNNEL * (aside[side] - ALIGNED_M), 0.0, BACK_M))

    def is_finished(self, sensed: SensedState) -> bool:
        """Say whether the left gripper shows the cube, and the right one is out of the way."""
        is_slow = all(sensed.is_slow.values())
        return self.phase is Phase.SHOW and self._is_done(sensed) and is_slow

    def grips(self) -> dict[str, Grip]:
        """Return where both grippers shall be in this phase, by side."""
        phase, (cube, yaw) = self.phase, self._aim
        right_point = {
            Phase.REACH: cube + HOVER_M,
            Phase.LOWER: cube + np.array([0.0, 0.0, self._back_m["right"]]),
            Phase.GRASP: cube,
            Phase.RETREAT: RIGHT_LEAVES_M,
            Phase.SHOW: RIGHT_LEAVES_M,
        }.get(phase, MEET_M)
        left_point = {
            Phase.MEET: cube + LEFT_TAKES_M - np.array([self._back_m["left"], 0.0, 0.0]),
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

    def _true_phase(self, sensed: SensedState) -> Phase:
        """Return the phase in force, or the one that what is measured asks for instead."""
        phase = self.phase
        away = {side: _distance(sensed.tips[side], sensed.cube) for side in SIDES}
        if phase <= Phase.LOWER:
            if sensed.cube[2] > LOW_M and _holds("left", sensed):
                return Phase.RELEASE
            if sensed.cube[2] > LOW_M and _holds("right", sensed):
                return Phase.CARRY
            aside = np.linalg.norm((sensed.tips["right"][:3, 3] - sensed.cube)[:2])
            return phase if aside < ASIDE_M else Phase.REACH
        if phase is Phase.GRASP:
            is_missed = away["right"] > HELD_M or _is_shut_on_nothing("right", sensed)
            return Phase.REACH if is_missed else phase
        if phase <= Phase.TAKE:
            if away["right"] > LOST_M:
                return Phase.RELEASE if _holds("left", sensed) else Phase.REACH
            is_missed = phase is Phase.TAKE and _is_shut_on_nothing("left", sensed)
            return Phase.MEET if is_missed else phase
        if away["left"] > LOST_M:
            return Phase.CARRY if _holds("right", sensed) else Phase.REACH
        return phase

    def _is_done(self, sensed: SensedState) -> bool:
        grips = self.grips()

        def is_at(side: str, within: tuple[float, float]) -> bool:
            return _is_at(sensed.tips[side], grips[side], within)

        def is_on_cube(side: str, offset: FloatArray) -> bool:
            # Its goal may still be short of the cube.
            there = replace(grips[side], point=sensed.cube + offset)
            within = FAIR if sensed.is_slow[side] else EXACT
            return _is_at(sensed.tips[side], there, within)

        match self.phase:
            case Phase.REACH:
                return is_at("right", NEAR) and sensed.openness["right"] > IS_OPEN
            case Phase.LOWER:
                return is_on_cube("right", np.zeros(3)) and is_at("left", ROUGH)
            case Phase.GRASP:
                return sensed.is_shut["right"] and _holds("right", sensed)
            case Phase.CARRY:
                return is_at("right", NEAR) and is_at("left", NEAR)
            case Phase.MEET:
                is_open = sensed.openness["left"] > IS_OPEN
                return is_open and is_on_cube("left", LEFT_TAKES_M)
            case Phase.TAKE:
                return sensed.is_shut["left"] and _holds("left", sensed)
            case Phase.RELEASE:
                return sensed.openness["right"] > IS_OPEN
            case Phase.RETREAT:
                return is_at("right", ROUGH)
            case Phase.SHOW:
                return is_at("left", NEAR) and is_at("right", ROUGH) and _holds("left", sensed)


def _holds(side: str, sensed: SensedState) -> bool:
    is_near = _distance(sensed.tips[side], sensed.cube) < HELD_M
    return is_near and IS_EMPTY < sensed.openness[side] < IS_CLOSED_ON_CUBE


def _is_shut_on_nothing(side: str, sensed: SensedState) -> bool:
    return sensed.is_shut[side] and sensed.openness[side] < IS_EMPTY


def _distance(pose: FloatArray, point: FloatArray) -> float:
    return float(np.linalg.norm(pose[:3, 3] - point))


def _is_at(pose: FloatArray, grip: Grip, within: tuple[float, float]) -> bool:
    """Say whether a grip point (4, 4) is where it shall be, within (m, rad)."""
    cosine = (np.trace(pose[:3, :3].T @ grip.rotation) - 1) / 2
    return _distance(pose, grip.point) < within[0] and bool(cosine > np.cos(within[1]))


def _about(axis: str, angle: float) -> FloatArray:
    """Return the rotation matrix (3, 3) about an axis."""
    c, s = np.cos(angle), np.sin(angle)
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]
