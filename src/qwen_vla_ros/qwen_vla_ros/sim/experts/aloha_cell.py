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
from qwen_vla_ros.sim.reference import plan, share_speed
from qwen_vla_ros.sim.target import named_object
from qwen_vla_ros.sim.transfer_script import CLOSED, OPEN, SIDES, Grip, SensedState, TransferScript
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt, rest_chunk

GRIP_POINT_M = (0.14, 0.0, 0.0)
"""Between the fingertips, in the frame of the gripper link."""

SPEED_SHARE = 0.75
ACCELERATION_SHARE = 0.5
"""Of the safety envelope: the gate has nothing to clip, and cubes are not flung."""

WAIT_S = 0.22
"""A robot at rest waits for the answer, too: what it missed of a start would be a jump."""

FOLLOWS = 0.75
"""A joint that is farther from what is played has been held back, and the plan begins anew: as a
share of the jump with which a gate lets a motion begin."""

FINGER_REACH = 0.8
"""A finger is sent no farther than this share of that jump from where it is. Around a cube it is
short of its set-point anyway, so that falling behind says nothing."""

CAUTION, CAUTION_NS = 0.25, 500_000_000
"""Share of the speed for a while after a start from rest: nobody knows yet how long answers take,
and a chunk that runs dry should end in a slow motion."""

AHEAD_M = 0.10
"""How far ahead on a straight line the arms are sent; joints alone would move in an arc."""

SLOW_RAD, SHUT_M, LOOK_BACK_NS = 0.02, 0.0005, 100_000_000
SEEN = 16
STAYS = 6
"""So often it says to stay, with rows as any policy has, before it says that this was all."""


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
        self._waits = round(WAIT_S / embodiment.dt)
        self.reset()

    def reset(self) -> None:
        """Forget the episode so far."""
        self._script = TransferScript()
        self._stayed = 0
        self._rested_ns = 0
        self._seen: deque[tuple[int, FloatArray]] = deque(maxlen=SEEN)

    @property
    def phase(self) -> int:
        """What it is at: a `Phase`."""
        return int(self._script.phase)

    def infer(
        self,
        observation: Observation,
        prompt: Prompt,
        committed: FloatArray | None = None,
    ) -> ActionChunk:
        """Propose the next rows: what is committed, and on from there.

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
        self._stayed = self._stayed + 1 if self._script.is_finished(sensed) else 0
        if self._stayed > STAYS:
            return rest_chunk(observation.stamp_ns, self._embodiment.dt, self._embodiment.channels)
        rows = self._plan(observation.stamp_ns, joints, committed)
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
            **self._compare(observation.stamp_ns, joints),
        )

    def _compare(self, stamp_ns: int, joints: FloatArray) -> dict[str, dict[str, bool]]:
        """Compare with what was measured a while ago; one observation may be asked about twice."""
        earlier = [seen for at, seen in self._seen if stamp_ns - at >= LOOK_BACK_NS]
        if not self._seen or self._seen[-1][0] != stamp_ns:
            self._seen.append((stamp_ns, joints))
        moved = np.abs(joints - earlier[-1]) if earlier else np.full(joints.size, np.inf)
        return {
            "is_slow": {side: bool(moved[self._arms[side]].max() < SLOW_RAD) for side in SIDES},
            "is_shut": {side: bool(moved[self._fingers[side]] < SHUT_M) for side in SIDES},
        }

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

    def _plan(self, stamp_ns: int, joints: FloatArray, committed: FloatArray | None) -> FloatArray:
        """Return the next rows (H, J)."""
        grips = self._script.grips()
        begun = self._continue(joints, committed)
        if begun is None:
            begun = self._start(joints, grips)
            self._rested_ns = stamp_ns
        here = begun[-1]
        goal = here.copy()
        for side, grip in grips.items():
            goal[self._arms[side]] = self._arm_goal(side, grip, here)
            goal[self._fingers[side]] = self._finger_goal(side, grip, joints)
        goal = np.clip(goal, self._lower, self._upper)
        speed = share_speed(goal - here, self._speed, list(self._arms.values()))
        if stamp_ns - self._rested_ns < CAUTION_NS:
            speed = CAUTION * speed
        horizon = self._embodiment.file.prompt.action_horizon
        return plan(begun, goal, speed, self._acceleration, self._embodiment.dt, horizon)

    def _continue(self, joints: FloatArray, committed: FloatArray | None) -> FloatArray | None:
        """Return the rows (d, J) that are played on, or None where the robot does not follow."""
        if committed is None:
            return None
        rows = self._embodiment.joints_from_channels(committed)
        behind = np.abs(rows[0] - joints) / self._start_jump
        behind[list(self._fingers.values())] = 0.0
        if behind.max() >= FOLLOWS:
            return None
        # The last one may lie beyond the last row of its chunk, and be held there.
        return rows[:-1] if len(rows) > 2 else rows

    def _start(self, joints: FloatArray, grips: Mapping[str, Grip]) -> FloatArray:
        """Return the rows (d, J) of a robot that waits where it is."""
        start = joints.copy()
        for side, grip in grips.items():
            if grip.openness == CLOSED:
                # Short of its set-point around a cube, it must not let go.
                start[self._fingers[side]] = self._finger_goal(side, grip, joints)
        return np.tile(start, (self._waits, 1))

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
