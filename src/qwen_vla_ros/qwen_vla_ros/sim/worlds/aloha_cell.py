"""The ALOHA cell: two ViperX arms at a table with coloured cubes, one to be handed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import mujoco
import numpy as np

from qwen_vla_ros.sim.aloha_model import CUBE_EDGE_M, CUBES, compile_aloha_cell
from qwen_vla_ros.sim.target import named_object
from qwen_vla_ros.sim.transfer_judge import TransferJudge
from qwen_vla_ros.sim.world import JointWorld, Scatter, Verdict
from qwen_vla_ros.types import FloatArray

SIDES = ("left", "right")
ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
START_POSE = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.024)
"""Six joints in rad and the finger in m, both arms alike; gym-aloha's."""

AREA_M = ((0.0, 0.20), (0.36, 0.68))
"""Where cubes may lie: x and y ranges in the world frame, in reach of the right arm."""

APART_M = 0.13
"""Distance between cubes: an open gripper around one does not touch another."""

MAX_YAW = 0.25
SETTLE_S = 0.3


class World(JointWorld):
    """Two arms, three cubes. The world frame is the URDF's `world` link."""

    cameras: tuple[str, ...] = ("cam_high", "cam_left_wrist", "cam_right_wrist")
    object_names = tuple(CUBES)
    # Wider than where they lie at first: they are put down and carried elsewhere, too.
    scatter = Scatter(low=(-0.15, 0.30), high=(0.25, 0.74), apart_m=0.06)
    phrases = (
        "transfer the {thing} to the left gripper",
        "hand the {thing} over to the left gripper",
        "hand over the {thing}",
        "pass the {thing} to the left arm",
        "pick up the {thing} and give it to the left hand",
        "give the {thing} to the left gripper",
        "move the {thing} from the table into the left gripper",
        "let the left arm take the {thing}",
    )
    frame_id = "world"

    def __init__(self, period_s: float = 0.01) -> None:
        """Build the cell.

        Args:
            period_s: Time per `step`; the rate of a real controller manager is about 100 Hz.
        """
        super().__init__(compile_aloha_cell(), period_s)
        self.joints = tuple(
            f"{side}_{joint}"
            for side in SIDES
            for joint in (*ARM_JOINTS, "finger", "finger_opposite")
        )
        joints = [self.model.joint(_model_name(name)) for name in self.joints]
        self._positions = np.array([joint.qposadr[0] for joint in joints])
        self._velocities = np.array([joint.dofadr[0] for joint in joints])
        actuated = {int(self.model.actuator(i).trnid[0]): i for i in range(self.model.nu)}
        self._actuators = {
            name: actuated[joint.id] for name, joint in zip(self.joints, joints, strict=True)
        }
        self._judge = TransferJudge(self.model, tuple(CUBES))
        self._favourite = ""
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Put the arms at their start pose and the cubes where this seed has them."""
        rng = np.random.default_rng(seed)
        data = self._data
        mujoco.mj_resetData(self.model, data)
        start = np.tile((*START_POSE, -START_POSE[-1]), len(SIDES))
        data.qpos[self._positions] = start
        data.ctrl[[self._actuators[name] for name in self.joints]] = start
        for name, pose in zip(CUBES, _scatter(rng, len(CUBES)), strict=True):
            data.joint(name).qpos[:] = pose
        self._favourite = str(rng.choice(list(CUBES)))
        self._settle(SETTLE_S)
        self._judge.reset()

    def step(self) -> None:
        """Advance by one period."""
        self._advance()
        self._judge.watch(self._data, self.period_s)

    def position_index(self, joint: str) -> int:
        """Return where the position of a joint stands in a snapshot."""
        return int(self._positions[self.joints.index(joint)])

    def positions(self) -> FloatArray:
        """Return the measured position of every joint (rad; fingers in m)."""
        return np.array(self._data.qpos[self._positions])

    def velocities(self) -> FloatArray:
        """Return the measured velocity of every joint (rad/s; fingers in m/s)."""
        return np.array(self._data.qvel[self._velocities])

    def set_targets(self, joints: Sequence[str], positions: FloatArray) -> None:
        """Give servos new set-points (rad; fingers in m).

        A mimic finger follows its twin and need not be named. A servo register cannot hold a
        value that is not finite: such a joint keeps the set-point that it has.
        """
        for name, position in zip(joints, positions, strict=True):
            if not np.isfinite(position):
                continue
            self._data.ctrl[self._actuators[name]] = position
            if name.endswith("_finger"):
                self._data.ctrl[self._actuators[f"{name}_opposite"]] = -position

    def objects(self) -> Mapping[str, FloatArray]:
        """Return the pose of every cube."""
        return {name: np.array(self._data.joint(name).qpos) for name in CUBES}

    def object_color(self, name: str) -> tuple[float, float, float, float]:
        """Return the colour of a cube."""
        return CUBES[name]

    def object_size(self, name: str) -> tuple[float, float, float]:  # noqa: ARG002
        """Return the edges of a cube in metres."""
        return (CUBE_EDGE_M, CUBE_EDGE_M, CUBE_EDGE_M)

    def suggest_instruction(self) -> str:
        """Return an instruction about the cube that the seed chose."""
        return self.phrases[0].format(thing=self._favourite.replace("_", " "))

    def judge(self, instruction: str) -> Verdict:
        """Say whether the cube that the instruction names is in the left gripper alone."""
        return self._judge.verdict(named_object(instruction, CUBES))


def _scatter(rng: np.random.Generator, count: int) -> list[FloatArray]:
    """Draw poses on the table, each `APART_M` from the others."""
    (x_low, x_high), (y_low, y_high) = AREA_M
    while True:
        places = rng.uniform((x_low, y_low), (x_high, y_high), (count, 2))
        if min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) >= APART_M:
            break
    poses = []
    for place in places:
        half = rng.uniform(-MAX_YAW, MAX_YAW) / 2
        poses.append(np.array([*place, CUBE_EDGE_M / 2, np.cos(half), 0, 0, np.sin(half)]))
    return poses


def _model_name(joint: str) -> str:
    """Return gym-aloha's name of a joint of ours."""
    side, _, name = joint.partition("_")
    fingers = {"finger": "left_finger", "finger_opposite": "right_finger"}
    return f"vx300s_{side}/{fingers.get(name, name)}"
