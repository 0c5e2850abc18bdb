"""The cell: the same scene for the same seed, arms that go where they are told."""

import importlib.util
from itertools import combinations

import numpy as np
import pytest

from qwen_vla_ros.embodiment.kinematics import Kinematics
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.sim.aloha_model import CUBE_EDGE_M, compile_aloha_cell
from qwen_vla_ros.sim.target import named_object
from qwen_vla_ros.sim.worlds.aloha_cell import APART_M, ARM_JOINTS, START_POSE


@pytest.fixture
def cell(arms):
    arms.world.reset(0)
    return arms.world


def settle(cell, seconds=2.0):
    for _ in range(round(seconds / cell.period_s)):
        cell.step()


def test_a_seed_fixes_the_scene(cell):
    cell.reset(7)
    first, words = cell.objects(), cell.suggest_instruction()
    cell.reset(8)
    assert any(not np.allclose(first[name], pose) for name, pose in cell.objects().items())
    cell.reset(7)
    assert cell.suggest_instruction() == words
    for name, pose in cell.objects().items():
        assert np.array_equal(pose, first[name])


@pytest.mark.slow
def test_cubes_lie_on_the_table_and_apart(cell):
    for seed in range(20):
        cell.reset(seed)
        places = [pose[:3] for pose in cell.objects().values()]
        assert len(places) == 3
        assert all(place[2] == pytest.approx(CUBE_EDGE_M / 2, abs=1e-3) for place in places)
        assert all(np.linalg.norm(a - b) > APART_M - 1e-3 for a, b in combinations(places, 2))


@pytest.mark.slow
def test_every_cube_is_asked_for_by_some_seed(cell):
    asked = set()
    for seed in range(20):
        cell.reset(seed)
        asked.add(named_object(cell.suggest_instruction(), cell.objects()))
    assert asked == set(cell.objects())


def test_the_arms_start_at_rest_in_their_start_pose(cell):
    measured = dict(zip(cell.joints, cell.positions(), strict=True))
    for side in ("left", "right"):
        pose = [measured[f"{side}_{joint}"] for joint in (*ARM_JOINTS, "finger")]
        assert pose == pytest.approx(START_POSE, abs=0.01)
    assert np.abs(cell.velocities()).max() < 0.01


def test_joints_go_where_they_are_sent(cell):
    cell.set_targets(("left_elbow", "right_waist"), np.array([0.8, 0.4]))
    settle(cell)
    measured = dict(zip(cell.joints, cell.positions(), strict=True))
    assert measured["left_elbow"] == pytest.approx(0.8, abs=0.02)
    assert measured["right_waist"] == pytest.approx(0.4, abs=0.02)


def test_a_finger_takes_its_mimic_along(cell):
    cell.set_targets(("left_finger",), np.array([0.05]))
    settle(cell)
    measured = dict(zip(cell.joints, cell.positions(), strict=True))
    assert measured["left_finger"] == pytest.approx(0.05, abs=0.003)
    assert measured["left_finger_opposite"] == pytest.approx(-0.05, abs=0.003)


def test_a_servo_keeps_its_set_point_when_sent_no_number(cell):
    before = cell.positions()
    cell.set_targets(("left_elbow", "left_waist"), np.array([np.nan, np.inf]))
    settle(cell, 0.5)
    assert cell.positions() == pytest.approx(before, abs=0.01)


def test_the_simulated_arm_and_the_urdf_are_the_same_arm(cell, aloha):
    kinematics = Kinematics(aloha.robot.xml)
    cell.set_targets(
        ("left_waist", "left_elbow", "left_wrist_angle", "left_wrist_rotate"),
        np.array([0.4, 0.9, 0.3, -0.5]),
    )
    settle(cell)
    measured = dict(zip(cell.joints, cell.positions(), strict=True))
    pose = kinematics.pose(
        {name: measured[name] for name in kinematics.joints}, "left_gripper_link"
    )
    body = cell._data.body("vx300s_left/gripper_link")
    assert pose[:3, 3] == pytest.approx(body.xpos, abs=1e-4)
    assert pose[:3, :3] == pytest.approx(body.xmat.reshape(3, 3), abs=1e-4)


def test_an_unknown_target_is_never_a_success(cell):
    verdict = cell.judge("transfer the purple cube")
    assert (verdict.target, verdict.success) == ("", False)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(QwenVlaError, match="pip install --no-deps gym-aloha"):
        compile_aloha_cell()
