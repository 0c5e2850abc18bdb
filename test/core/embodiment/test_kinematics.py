from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from qwen_vla_ros.embodiment.kinematics import Kinematics
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.types import FloatArray

ALOHA = Kinematics(load_embodiment("aloha_sim").robot.xml)
DIFFBOT = Kinematics(load_embodiment("diffbot_sim").robot.xml)
ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
SIDES = ("left", "right")
LINKS = ("shoulder", "upper_arm", "upper_forearm", "lower_forearm", "wrist", "gripper", "finger")
MJCF_NAMES = {"finger": "left_finger", "finger_opposite": "right_finger"}
TOOL = (0.14, 0.0, 0.0)


def arm_of(side: str) -> list[str]:
    return [f"{side}_{joint}" for joint in ARM]


def random_positions(rng: np.random.Generator) -> FloatArray:
    return rng.uniform(ALOHA.lower, ALOHA.upper)


@pytest.mark.slow
def test_every_link_is_where_gym_aloha_has_it_in_1000_random_poses():
    mujoco = pytest.importorskip("mujoco")
    gym_aloha = importlib.util.find_spec("gym_aloha")
    if gym_aloha is None:
        pytest.skip("gym_aloha is not installed")
    scene = Path(gym_aloha.origin).parent / "assets" / "bimanual_viperx_transfer_cube.xml"
    model = mujoco.MjModel.from_xml_path(str(scene))
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(1000):
        positions = dict(zip(ALOHA.joints, random_positions(rng), strict=True))
        for side in SIDES:
            for joint in ARM:
                address = model.joint(f"vx300s_{side}/{joint}").qposadr[0]
                data.qpos[address] = positions[f"{side}_{joint}"]
            for joint, sign in (("left_finger", 1), ("right_finger", -1)):
                address = model.joint(f"vx300s_{side}/{joint}").qposadr[0]
                data.qpos[address] = sign * positions[f"{side}_finger"]
        mujoco.mj_kinematics(model, data)
        for side in SIDES:
            for link in (*LINKS, "finger_opposite"):
                body = data.body(f"vx300s_{side}/{MJCF_NAMES.get(link, link)}_link")
                pose = ALOHA.pose(positions, f"{side}_{link}_link")
                worst = max(
                    worst,
                    np.max(np.abs(pose[:3, 3] - body.xpos)),
                    np.max(np.abs(pose[:3, :3] - body.xmat.reshape(3, 3))),
                )
    assert worst < 1e-6


def test_the_urdf_has_the_position_limits_of_gym_aloha():
    mujoco = pytest.importorskip("mujoco")
    gym_aloha = importlib.util.find_spec("gym_aloha")
    if gym_aloha is None:
        pytest.skip("gym_aloha is not installed")
    scene = Path(gym_aloha.origin).parent / "assets" / "bimanual_viperx_transfer_cube.xml"
    model = mujoco.MjModel.from_xml_path(str(scene))
    for name, lower, upper in zip(ALOHA.joints, ALOHA.lower, ALOHA.upper, strict=True):
        side, joint = name.split("_", 1)
        theirs = model.joint(f"vx300s_{side}/{MJCF_NAMES.get(joint, joint)}").range
        np.testing.assert_array_equal([lower, upper], theirs)


def test_joints_that_mimic_follow_and_are_not_asked_for():
    assert "left_finger_opposite" not in ALOHA.joints
    positions = dict.fromkeys(ALOHA.joints, 0.0) | {"left_finger": 0.05}
    gripper = ALOHA.pose(positions, "left_gripper_link")
    there = ALOHA.pose(positions, "left_finger_opposite_link")
    np.testing.assert_allclose((np.linalg.inv(gripper) @ there)[:3, 3], [0.0687, -0.05, 0])


@pytest.mark.parametrize("frame", ["left_gripper_link", "right_finger_opposite_link"])
def test_the_jacobian_is_the_derivative_of_the_pose(frame: str):
    positions = random_positions(np.random.default_rng(1))
    jacobian = ALOHA.jacobian(positions, frame, TOOL)
    step = 1e-6
    for column in range(len(ALOHA.joints)):
        ahead, behind = positions.copy(), positions.copy()
        ahead[column] += step
        behind[column] -= step
        a, b = ALOHA.pose(ahead, frame, TOOL), ALOHA.pose(behind, frame, TOOL)
        spin = (a[:3, :3] - b[:3, :3]) / (2 * step) @ ALOHA.pose(positions, frame)[:3, :3].T
        expected = [*(a[:3, 3] - b[:3, 3]) / (2 * step), spin[2, 1], spin[0, 2], spin[1, 0]]
        np.testing.assert_allclose(jacobian[:, column], expected, atol=1e-8)


@pytest.mark.parametrize("side", SIDES)
def test_ik_reaches_what_is_near(side: str):
    rng = np.random.default_rng(2)
    columns = [ALOHA.joints.index(joint) for joint in arm_of(side)]
    reached = 0
    for _ in range(100):
        goal = random_positions(rng)
        target = ALOHA.pose(goal, f"{side}_gripper_link", TOOL)
        start = goal.copy()
        start[columns] += rng.uniform(-0.3, 0.3, 6)
        found = ALOHA.solve_ik(f"{side}_gripper_link", target, start, arm_of(side), offset=TOOL)
        assert np.all(found.positions >= ALOHA.lower[columns])
        assert np.all(found.positions <= ALOHA.upper[columns])
        if found.converged:
            reached += 1
            moved = start.copy()
            moved[columns] = found.positions
            there = ALOHA.pose(moved, f"{side}_gripper_link", TOOL)
            np.testing.assert_allclose(there, target, atol=2e-3)
            np.testing.assert_allclose(there[:3, 3], target[:3, 3], atol=1.01e-4)
    assert reached >= 97


def test_ik_out_of_reach_comes_back_close_and_says_so():
    start = dict.fromkeys(ALOHA.joints, 0.0) | {"left_finger": 0.03, "right_finger": 0.03}
    target = np.eye(4)
    target[:3, 3] = [5.0, 0.5, 0.3]
    found = ALOHA.solve_ik("left_gripper_link", target, start, arm_of("left"))
    assert not found.converged
    assert np.all(np.isfinite(found.positions))
    assert found.position_error < np.linalg.norm([5.0 + 0.469, 0, 0.3])


def test_ik_stops_searching_when_the_joint_is_pressed_against_its_limit():
    start = dict.fromkeys(ALOHA.joints, 0.0) | {"left_waist": 3.0}
    target = ALOHA.pose(start | {"left_waist": 3.3}, "left_gripper_link")
    found = ALOHA.solve_ik("left_gripper_link", target, start, ["left_waist"])
    assert not found.converged
    assert found.positions[0] == 3.14158
    assert found.iterations < 5


def test_ik_moves_only_the_joints_it_may_move():
    start = random_positions(np.random.default_rng(3))
    target = ALOHA.pose(start, "left_gripper_link")
    found = ALOHA.solve_ik("left_gripper_link", target, start, ["left_waist", "left_elbow"])
    assert found.converged
    assert found.iterations == 0
    assert found.positions.shape == (2,)


def test_continuous_joints_turn_without_end():
    assert np.all(np.isinf(DIFFBOT.lower))
    once = DIFFBOT.pose({"left_wheel": 0.3, "right_wheel": 0.0}, "left_wheel_link")
    again = DIFFBOT.pose({"left_wheel": 0.3 + 4 * np.pi, "right_wheel": 0.0}, "left_wheel_link")
    np.testing.assert_allclose(once, again, atol=1e-12)
    np.testing.assert_allclose(once[:3, 3], [0, 0.16, 0.05], atol=1e-12)


def test_the_base_camera_looks_ahead_and_slightly_down():
    optical = DIFFBOT.pose([0.0, 0.0], "front_optical_frame")
    np.testing.assert_allclose(optical[:3, 3], [0.17, 0, 0.26], atol=1e-12)
    direction = np.array([1, 0, -0.15]) / np.hypot(1, 0.15)
    np.testing.assert_allclose(optical[:3, 2], direction, atol=1e-12)
    np.testing.assert_allclose(optical[:3, 0], [0, -1, 0], atol=1e-12)


def test_wrong_names_and_shapes_name_the_right_ones():
    with pytest.raises(ValueError, match=r"unknown frame 'hand'; known: .*left_gripper_link"):
        ALOHA.pose(np.zeros(14), "hand")
    with pytest.raises(ValueError, match=r"14 positions are needed, not shape \(3,\)"):
        ALOHA.pose(np.zeros(3), "world")
    with pytest.raises(ValueError, match="max_iterations must be at least 1"):
        ALOHA.solve_ik("world", np.eye(4), np.zeros(14), ["left_waist"], max_iterations=0)
    with pytest.raises(ValueError, match="unknown joint 'wrist'; known: left_waist"):
        ALOHA.solve_ik("left_gripper_link", np.eye(4), np.zeros(14), ["wrist"])
