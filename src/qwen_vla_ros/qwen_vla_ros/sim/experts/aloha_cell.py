"""Scripted expert for the hand-over: follows `TransferScript` with both arms.

It sees what only a simulator tells: the poses of the cubes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.kinematics import Kinematics
from qwen_vla_ros.errors import InstructionError
from qwen_vla_ros.sim.reference import Reference, share_speed
from qwen_vla_ros.sim.target import named_object
from qwen_vla_ros.sim.transfer_script import CLOSED, OPEN, SIDES, Grip, SensedState, TransferScript
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt, rest_chunk

GRIP_POINT_M = (0.14, 0.0, 0.0)
"""Between the fingertips, in the frame of the gripper link."""

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
"""How far ahead on a straight line the arms are sent; joints alone would move in an arc."""

MOVED_RAD = 0.02
STILL_RAD, STILL_M, STILL_NS = 0.006, 0.00025, 100_000_000
SEEN = 16


class Expert:
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
        self._script = TransferScript()
        self._is_trusted = False
        self._began: FloatArray = np.zeros(len(self._embodiment.joints))
        self._seen: deque[tuple[int, FloatArray]] = deque(maxlen=SEEN)

    def infer(
        self,
        observation: Observation,
        prompt: Prompt,
        committed: FloatArray | None = None,
    ) -> ActionChunk:
        """Propose the next rows.

        Raises:
            InstructionError: The instruction names no cube that is in the scene.
        """
        started = time.perf_counter()
        target = named_object(prompt.instruction, observation.scene)
        if not target:
            known = ", ".join(sorted(observation.scene)) or "nothing"
            raise InstructionError(f"the instruction names no object here. In the scene: {known}.")
        joints = self._embodiment.joints_from_channels(observation.state)
        sensed = self._sense(observation, joints, observation.scene[target])
        self._script.advance(sensed)
        if self._script.is_finished(sensed):
            return rest_chunk(observation.stamp_ns, self._embodiment.dt, self._embodiment.channels)
        played = None if committed is None else self._embodiment.joints_from_channels(committed)
        rows = self._plan(observation.stamp_ns, joints, sensed, played)
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            dt=self._embodiment.dt,
            channels=self._embodiment.channels,
            actions=self._embodiment.channels_from_joints(rows),
            timings={"plan": time.perf_counter() - started},
        )

    # Sensing ---------------------------------------------------------------------------------

    def _sense(
        self, observation: Observation, joints: FloatArray, cube: FloatArray
    ) -> SensedState:
        channels = dict(zip(self._embodiment.channels, observation.state, strict=True))
        return SensedState(
            tips={side: self._tip(side, joints) for side in SIDES},
            openness={side: float(channels[f"{side}_gripper"]) for side in SIDES},
            cube=cube[:3],
            yaw=_yaw_within_quarter_turn(cube[3:]),
            is_still=self._is_still(observation.stamp_ns, joints),
        )

    def _is_still(self, stamp_ns: int, joints: FloatArray) -> bool:
        """Compare with what was measured a while ago; one observation may be asked about twice."""
        earlier = [seen for at, seen in self._seen if stamp_ns - at >= STILL_NS]
        if not self._seen or self._seen[-1][0] != stamp_ns:
            self._seen.append((stamp_ns, joints))
        if not earlier:
            return False
        allowed = np.full(joints.size, STILL_RAD)
        allowed[list(self._fingers.values())] = STILL_M
        return bool(np.all(np.abs(joints - earlier[-1]) < allowed))

    def _tip(self, side: str, joints: FloatArray) -> FloatArray:
        return self._kinematics.pose(self._named(joints), f"{side}_gripper_link", GRIP_POINT_M)

    def _named(self, joints: FloatArray) -> dict[str, float]:
        return dict(zip(self._embodiment.joints, joints.tolist(), strict=True))

    def _columns(self, side: str, *, finger: bool) -> list[int]:
        return [
            i
            for i, name in enumerate(self._embodiment.joints)
            if name.startswith(side) and name.endswith("finger") is finger
        ]

    # Planning --------------------------------------------------------------------------------

    def _plan(
        self,
        stamp_ns: int,
        joints: FloatArray,
        sensed: SensedState,
        played: FloatArray | None,
    ) -> FloatArray:
        """Return the next rows (H, J); `played` (d, J) is what is played of the last ones."""
        grips = self._script.grips()
        planned = self._reference.position_at(stamp_ns) if played is None else played[0]
        start = self._restart(planned, joints, grips, is_still=sensed.is_still)
        if start is not None:
            here = self._began = start
            self._is_trusted = False
        else:
            here = joints if planned is None else planned
            moved = np.max(np.abs(here - self._began))
            self._is_trusted |= bool(moved > MOVED_RAD) and not sensed.is_still
        goal = here.copy()
        for side, grip in grips.items():
            goal[self._arms[side]] = self._arm_goal(side, grip, here)
            goal[self._fingers[side]] = self._finger_goal(side, grip, joints)
        goal = np.clip(goal, self._lower, self._upper)
        speed = share_speed(goal - here, self._speed, list(self._arms.values()))
        if not self._is_trusted:
            speed = CAUTION * speed
        return self._reference.plan(stamp_ns, start, goal, speed, self._acceleration, played)

    def _restart(
        self,
        planned: FloatArray | None,
        joints: FloatArray,
        grips: Mapping[str, Grip],
        *,
        is_still: bool,
    ) -> FloatArray | None:
        """Return where the plan has to begin anew, or None while the robot follows it."""
        if planned is not None:
            behind = np.abs(planned - joints) / self._start_jump
            behind[list(self._fingers.values())] = 0.0
            if behind.max() < (HELD if is_still else FOLLOWS):
                return None
        start = joints.copy()
        for side, grip in grips.items():
            finger = self._fingers[side]
            if planned is not None:
                start[finger] = planned[finger]
            elif grip.openness == CLOSED:
                # Short of its set-point around a cube, it must not let go.
                start[finger] = self._finger_goal(side, grip, joints)
        return start

    def _arm_goal(self, side: str, grip: Grip, here: FloatArray) -> FloatArray:
        """Return joint positions (6,) that bring the grip point where it shall be next."""
        arm = self._arms[side]
        target = np.eye(4)
        target[:3, :3] = grip.rotation
        target[:3, 3] = grip.point
        if grip.is_straight:
            tip = self._tip(side, here)[:3, 3]
            way = grip.point - tip
            target[:3, 3] = tip + way / max(1.0, float(np.linalg.norm(way)) / AHEAD_M)
        return self._kinematics.solve_ik(
            f"{side}_gripper_link",
            target,
            self._named(here),
            [self._embodiment.joints[column] for column in arm],
            offset=GRIP_POINT_M,
        ).positions

    def _finger_goal(self, side: str, grip: Grip, joints: FloatArray) -> float:
        """Return where a finger is sent (m)."""
        finger = self._fingers[side]
        closed, opened = self._closed[finger], self._open[finger]
        wanted = closed + (opened - closed) * (grip.openness - CLOSED) / (OPEN - CLOSED)
        reach = FINGER_REACH * self._start_jump[finger]
        return float(np.clip(wanted, joints[finger] - reach, joints[finger] + reach))


def _yaw_within_quarter_turn(quaternion: FloatArray) -> float:
    """Return the rotation about z of a cube, which looks the same after a quarter turn."""
    w, x, y, z = quaternion
    yaw = float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
    quarter = np.pi / 2
    return yaw - quarter * round(yaw / quarter)
