"""Scripted expert for the hand-over: picks the cube up with the right arm, gives it to the left.

It sees what only a simulator tells, the poses of the cubes, and decides from what it measures:
when the robot is held, so is the script, and when the cube is lost, it is picked up again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.kinematics import Kinematics
from qwen_vla_ros.errors import InstructionError
from qwen_vla_ros.sim.reference import Reference, share_speed
from qwen_vla_ros.sim.target import named_object
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt, rest_chunk

SIDES = ("left", "right")

GRIP_POINT_M = (0.14, 0.0, 0.0)
"""Between the fingertips, in the frame of the gripper link."""

MEET_M = np.array([0.0, 0.5, 0.25])
HOVER_M = np.array([0.0, 0.0, 0.10])
LEFT_WAITS_M = MEET_M - np.array([0.14, 0.0, 0.0])
LEFT_TAKES_M = np.array([-0.005, 0.0, 0.0])
LEFT_SHOWS_M = MEET_M + np.array([-0.08, 0.0, 0.03])
RIGHT_LEAVES_M = MEET_M + np.array([0.12, 0.0, 0.04])

SPEED_SHARE = 0.75
ACCELERATION_SHARE = 0.5
"""Of the safety envelope: the gate has nothing to clip, and cubes are not flung."""

COMMITTED_S = 0.2
"""Longer than it takes from an observation until the player has the answer to it."""

FOLLOWS, HELD = 0.75, 0.25
"""A joint that is farther from the plan has been held back, and the plan begins anew: as shares of
the jump with which a gate lets a motion begin, while the robot moves and may lag, and at rest."""

FINGER_REACH = 0.8
"""A finger is sent no farther than this share of that jump from where it is. Around a cube it is
short of its set-point anyway, so that falling behind says nothing."""

CAUTION = 0.25
"""Share of the speed until the robot is seen to follow: a robot that is still being held must not
find the plan far away when it is let go."""

AHEAD_M = 0.10
MOVED_RAD = 0.02
NEAR_M = 0.010
HELD_M = 0.035
ON_TABLE_M = 0.035
STILL_RAD, STILL_M, STILL_NS = 0.006, 0.00025, 100_000_000
OPEN, CLOSED = 0.98, 0.0
"""Not quite open, so that the fingers do not press against their stops."""

IS_OPEN, IS_CLOSED_ON_CUBE = 0.85, 0.9


class Phase(IntEnum):
    """What the script is at, in order."""

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
class Sensed:
    """What one observation says.

    Attributes:
        joints: Measured positions (J,).
        tips: Grip point of each side in the world frame, m.
        openness: Of each gripper, 0 closed to 1 open.
        cube: Position of the cube in m.
        yaw: Rotation of the cube about z in rad, within a quarter turn around 0.
        is_still: Nothing has moved for a tenth of a second.
    """

    joints: FloatArray
    tips: Mapping[str, FloatArray]
    openness: Mapping[str, float]
    cube: FloatArray
    yaw: float
    is_still: bool


@dataclass(frozen=True, kw_only=True)
class Grip:
    """Where one gripper shall be: grip point in m, orientation (3, 3), openness 0 to 1."""

    point: FloatArray
    rotation: FloatArray
    openness: float


class AlohaExpert:
    """A `Policy` for the ALOHA cell."""

    def __init__(self, embodiment: Embodiment) -> None:
        self._embodiment = embodiment
        self._kinematics = Kinematics(embodiment.robot.xml)
        limits = [embodiment.file.safety.joints[joint] for joint in embodiment.joints]
        self._speed = SPEED_SHARE * np.array([limit.velocity for limit in limits])
        self._acceleration = ACCELERATION_SHARE * np.array(
            [limit.acceleration for limit in limits]
        )
        self._start_jump = np.array([limit.start_jump for limit in limits])
        self._lower = np.array([limit.lower for limit in limits])
        self._upper = np.array([limit.upper for limit in limits])
        self._arms = {side: self._columns(side, finger=False) for side in SIDES}
        self._fingers = {side: self._columns(side, finger=True)[0] for side in SIDES}
        self._closed, self._open = (
            embodiment.joints_from_channels(np.full(len(embodiment.channels), openness))
            for openness in (CLOSED, OPEN)
        )
        self._reference = Reference(
            embodiment.dt,
            committed_steps=round(COMMITTED_S / embodiment.dt),
            horizon=embodiment.file.prompt.action_horizon,
        )
        self.reset()

    def reset(self) -> None:
        """Forget the episode so far."""
        self._reference.reset()
        self._phase = Phase.REACH
        self._is_trusted = False
        self._seen: deque[tuple[int, FloatArray]] = deque(maxlen=64)

    def infer(self, observation: Observation, prompt: Prompt) -> ActionChunk:
        """Propose the next rows.

        Raises:
            InstructionError: The instruction names no cube that is in the scene.
        """
        started = time.perf_counter()
        target = named_object(prompt.instruction, observation.scene)
        if not target:
            known = ", ".join(sorted(observation.scene)) or "nothing"
            raise InstructionError(f"the instruction names no object here. In the scene: {known}.")
        sensed = self._sense(observation, observation.scene[target])
        self._advance(sensed)
        if self._phase is Phase.SHOW and self._is_done(sensed):
            return rest_chunk(observation.stamp_ns, self._embodiment.dt, self._embodiment.channels)
        rows = self._plan(observation.stamp_ns, sensed)
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            dt=self._embodiment.dt,
            channels=self._embodiment.channels,
            actions=self._embodiment.channels_from_joints(rows),
            timings={"plan": time.perf_counter() - started},
        )

    # Sensing ---------------------------------------------------------------------------------

    def _sense(self, observation: Observation, cube: FloatArray) -> Sensed:
        joints = self._embodiment.joints_from_channels(observation.state)
        channels = dict(zip(self._embodiment.channels, observation.state, strict=True))
        return Sensed(
            joints=joints,
            tips={side: self._tip(side, joints) for side in SIDES},
            openness={side: float(channels[f"{side}_gripper"]) for side in SIDES},
            cube=cube[:3],
            yaw=_yaw_within_quarter_turn(cube[3:]),
            is_still=self._is_still(observation.stamp_ns, joints),
        )

    def _is_still(self, stamp_ns: int, joints: FloatArray) -> bool:
        """Compare with what was measured a while ago; one observation may be asked about twice."""
        earlier = [seen for at, seen in self._seen if stamp_ns - at >= STILL_NS]
        self._seen.append((stamp_ns, joints))
        if not earlier:
            return False
        allowed = np.full(joints.size, STILL_RAD)
        allowed[list(self._fingers.values())] = STILL_M
        return bool(np.all(np.abs(joints - earlier[-1]) < allowed))

    def _tip(self, side: str, joints: FloatArray) -> FloatArray:
        pose = self._kinematics.pose(self._named(joints), f"{side}_gripper_link", GRIP_POINT_M)
        return pose[:3, 3]

    def _named(self, joints: FloatArray) -> dict[str, float]:
        return dict(zip(self._embodiment.joints, joints.tolist(), strict=True))

    def _columns(self, side: str, *, finger: bool) -> list[int]:
        return [
            i
            for i, name in enumerate(self._embodiment.joints)
            if name.startswith(side) and name.endswith("finger") is finger
        ]

    # Script ----------------------------------------------------------------------------------

    def _advance(self, sensed: Sensed) -> None:
        """Go on to the next phase when this one is done, or back when the cube was lost."""
        if self._is_lost(sensed):
            self._phase = Phase.REACH
        elif self._phase is not Phase.SHOW and self._is_done(sensed):
            self._phase = Phase(self._phase + 1)

    def _is_lost(self, sensed: Sensed) -> bool:
        carried_by = "right" if self._phase <= Phase.TAKE else "left"
        away = float(np.linalg.norm(sensed.tips[carried_by] - sensed.cube))
        if self._phase is Phase.GRASP:
            return away > HELD_M
        is_low = sensed.cube[2] < 2 * ON_TABLE_M
        return self._phase >= Phase.CARRY and is_low and away > 2 * HELD_M

    def _is_done(self, sensed: Sensed) -> bool:
        grips = self._grips(sensed)
        near = {
            side: float(np.linalg.norm(sensed.tips[side] - grips[side].point)) < NEAR_M
            for side in SIDES
        }
        match self._phase:
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
                held = float(np.linalg.norm(sensed.tips["left"] - sensed.cube)) < HELD_M
                return near["left"] and held and sensed.is_still

    def _grips(self, sensed: Sensed) -> dict[str, Grip]:
        """Return where both grippers shall be in this phase."""
        phase, cube = self._phase, sensed.cube
        on_table = phase <= Phase.GRASP
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
        return {
            "left": Grip(
                point=left_point,
                rotation=_about("x", np.pi / 2),
                openness=CLOSED if phase >= Phase.TAKE else OPEN,
            ),
            "right": Grip(
                point=right_point,
                rotation=_about("z", np.pi + (sensed.yaw if on_table else 0.0))
                @ _about("y", np.deg2rad(60)),
                openness=CLOSED if right_holds else OPEN,
            ),
        }

    # Planning --------------------------------------------------------------------------------

    def _plan(self, stamp_ns: int, sensed: Sensed) -> FloatArray:
        planned = self._reference.position_at(stamp_ns)
        start = self._restart(planned, sensed)
        here = sensed.joints if planned is None else planned
        if start is not None:
            here = self._began = start
            self._is_trusted = False
        elif not sensed.is_still and np.max(np.abs(here - self._began)) > MOVED_RAD:
            self._is_trusted = True
        goal = self._goal(sensed, here)
        speed = share_speed(goal - here, self._speed, list(self._arms.values()))
        if not self._is_trusted:
            speed = CAUTION * speed
        return self._reference.plan(stamp_ns, start, goal, speed, self._acceleration)

    def _restart(self, planned: FloatArray | None, sensed: Sensed) -> FloatArray | None:
        """Return where the plan has to begin anew, or None while the robot follows it."""
        if planned is None:
            return sensed.joints
        fingers = list(self._fingers.values())
        behind = np.abs(planned - sensed.joints) / self._start_jump
        behind[fingers] = 0.0
        if behind.max() < (HELD if sensed.is_still else FOLLOWS):
            return None
        start = sensed.joints.copy()
        # A gripper that holds something is short of its set-point; it must not let go.
        start[fingers] = planned[fingers]
        return start

    def _goal(self, sensed: Sensed, here: FloatArray) -> FloatArray:
        goal = here.copy()
        names = self._embodiment.joints
        for side, grip in self._grips(sensed).items():
            target = np.eye(4)
            target[:3, :3] = grip.rotation
            target[:3, 3] = self._next_point(self._tip(side, here), grip.point)
            arm = self._arms[side]
            solution = self._kinematics.solve_ik(
                f"{side}_gripper_link",
                target,
                self._named(here),
                [names[column] for column in arm],
                offset=GRIP_POINT_M,
            )
            goal[arm] = solution.positions
            finger = self._fingers[side]
            wanted = np.interp(
                grip.openness, (CLOSED, OPEN), (self._closed[finger], self._open[finger])
            )
            reach = FINGER_REACH * self._start_jump[finger]
            near = sensed.joints[finger]
            goal[finger] = np.clip(wanted, near - reach, near + reach)
        return np.clip(goal, self._lower, self._upper)

    def _next_point(self, tip: FloatArray, point: FloatArray) -> FloatArray:
        """Return a point ahead on the straight line; joints alone would move in an arc."""
        way = point - tip
        length = float(np.linalg.norm(way))
        if self._phase is Phase.REACH or length <= AHEAD_M:
            return point
        return tip + way / length * AHEAD_M


def _yaw_within_quarter_turn(quaternion: FloatArray) -> float:
    """Return the rotation about z of a cube, which looks the same after a quarter turn."""
    w, x, y, z = quaternion
    yaw = float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
    quarter = np.pi / 2
    return yaw - quarter * round(yaw / quarter)


def _about(axis: str, angle: float) -> FloatArray:
    """Return the rotation matrix (3, 3) about an axis."""
    c, s = np.cos(angle), np.sin(angle)
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]
