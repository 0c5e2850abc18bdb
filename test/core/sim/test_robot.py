"""A robot is built from its file, or refused with a sentence."""

import sys

import numpy as np
import pytest

from qwen_vla_ros.embodiment.backend import JointTrajectory, TrajectoryPoint
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import SimulationSpec
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.sim import experts, worlds
from qwen_vla_ros.sim.expert import load_expert
from qwen_vla_ros.sim.robot import make_robot

NOW = 1_000_000_000


def changed(embodiment, **sections):
    file = embodiment.file.model_copy(update=sections)
    return Embodiment(file=file, path=embodiment.path, robot=embodiment.robot)


def with_output(embodiment, **changes):
    first, *others = embodiment.file.command.outputs
    outputs = (first.model_copy(update=changes), *others)
    return changed(
        embodiment, command=embodiment.file.command.model_copy(update={"outputs": outputs})
    )


def test_a_robot_that_is_not_simulated_is_refused(aloha):
    with pytest.raises(QwenVlaError, match="no 'simulation' section"):
        make_robot(changed(aloha, simulation=None))


def test_an_unknown_camera_is_refused_with_the_known_ones(aloha):
    cameras = (aloha.file.cameras[0].model_copy(update={"name": "cam_hihg"}),)
    with pytest.raises(QwenVlaError, match=r"no camera 'cam_hihg'\. Did you mean 'cam_high'"):
        make_robot(changed(aloha, cameras=cameras))


def test_an_unknown_joint_is_refused_with_the_nearest_one(aloha):
    with pytest.raises(QwenVlaError, match="Did you mean 'left_elbow'"):
        make_robot(with_output(aloha, joints=("left_elbov",)))


def test_a_backend_without_controller_is_refused(aloha, diffbot):
    with pytest.raises(QwenVlaError, match="'twist' \\(left_arm_controller/joint_trajectory\\)"):
        make_robot(with_output(aloha, backend="twist"))
    with pytest.raises(QwenVlaError, match="joint_trajectory"):
        make_robot(with_output(diffbot, backend="joint_trajectory"))


def test_a_world_and_its_expert_are_one_file_each(aloha, tmp_path, monkeypatch):
    known = "from qwen_vla_ros.sim.{kind}.aloha_cell import {name}\n"
    for package, name in ((worlds, "World"), (experts, "Expert")):
        folder = tmp_path / name
        folder.mkdir()
        kind = package.__name__.rsplit(".", 1)[-1]
        (folder / "another.py").write_text(known.format(kind=kind, name=name))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, f"{package.__name__}.another", raising=False)
    elsewhere = changed(aloha, simulation=SimulationSpec(world="another"))
    assert make_robot(elsewhere).world.joints
    assert load_expert(elsewhere)


def test_an_arm_does_not_fit_a_world_of_wheels(aloha):
    with pytest.raises(QwenVlaError, match="room has no"):
        make_robot(changed(aloha, simulation=SimulationSpec(world="room")))


def test_each_output_has_a_controller_of_its_own(arms, aloha):
    arms.reset(0)
    left = aloha.file.command.outputs[0].topic
    before = arms.measured(aloha.joints)
    here = arms.measured(arms.controllers[left].joints)
    goal = here + np.where(np.arange(7) == 0, 0.3, 0.0)
    point = TrajectoryPoint(time_from_start_ns=500_000_000, positions=tuple(goal))
    reason = arms.controllers[left].accept(
        JointTrajectory(start_ns=0, joints=arms.controllers[left].joints, points=(point,)), NOW
    )
    assert reason == ""
    for k in range(150):
        arms.step(NOW + k * 10_000_000)
    moved = arms.measured(aloha.joints) - before
    assert moved[0] == pytest.approx(0.3, abs=0.02)
    assert np.abs(moved[1:]).max() < 0.02


def test_forward_positions_reach_the_joints(aloha):
    robot = make_robot(with_output(aloha, backend="forward_position"))
    controller = robot.controllers[aloha.file.command.outputs[0].topic]
    goal = robot.measured(controller.joints)
    goal[0] += 0.2
    point = TrajectoryPoint(time_from_start_ns=0, positions=tuple(goal))
    command = JointTrajectory(start_ns=0, joints=controller.joints, points=(point,))
    assert controller.accept(command, NOW) == ""
    for k in range(150):
        robot.step(NOW + k * 10_000_000)
    assert robot.measured(controller.joints)[0] == pytest.approx(goal[0], abs=0.02)


def test_arms_are_at_rest_until_they_move(arms, aloha):
    arms.reset(0)
    for k in range(20):
        arms.step(NOW + k * 10_000_000)
    assert arms.is_at_rest()
    joints = arms.controllers[aloha.file.command.outputs[0].topic].joints
    arms.world.set_targets(joints, arms.measured(joints) + 0.2)
    for _ in range(5):
        arms.world.step()
    assert not arms.is_at_rest()


def test_a_base_is_at_rest_until_it_moves(base):
    base.reset(0)
    assert base.is_at_rest()
    for k in range(50):
        now = NOW + k * 10_000_000
        base.controller.accept(now, 0.3, 0.0, now)
        base.step(now)
    assert not base.is_at_rest()


def test_a_reset_ends_every_motion(base):
    base.controller.accept(NOW, 0.3, 0.0, NOW)
    base.step(NOW)
    base.reset(3)
    for k in range(50):
        base.step(NOW + k * 10_000_000)
    assert base.is_at_rest()
    assert base.world.base_pose() == pytest.approx([0, 0, 0], abs=0.01)
