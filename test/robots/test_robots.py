"""One test over every robot: a new embodiment file is covered by being there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.safety.robot_gate import RobotGate

ROOT = Path(__file__).parents[2]
INSTRUCTIONS = {"manipulation": "hand over the red cube", "navigation": "go to the blue ball"}


@pytest.fixture(
    params=sorted((ROOT / "config" / "embodiments").glob("*.yaml")), ids=lambda p: p.stem
)
def robot(request: pytest.FixtureRequest) -> Embodiment:
    return load_embodiment(request.param)


def test_a_robot_has_the_name_of_its_file(robot: Embodiment):
    assert robot.name == robot.path.stem
    assert load_embodiment(robot.name).hash == robot.hash


def test_its_limits_are_those_of_the_urdf_or_tighter(robot: Embodiment):
    assert set(robot.file.safety.joints) == set(robot.joints)
    for name, limits in robot.file.safety.joints.items():
        joint = robot.robot.joints[name]
        assert joint.lower <= limits.lower < limits.upper <= joint.upper
        assert limits.velocity <= joint.velocity


def test_its_joints_can_stop_within_200_ms(robot: Embodiment):
    period = 1 / robot.file.command.rate_hz
    for limits in robot.file.safety.joints.values():
        assert limits.velocity / limits.acceleration + period <= 0.2


def test_its_prompt_is_the_golden_one(robot: Embodiment):
    golden = ROOT / "test" / "golden" / f"{robot.name}.txt"
    instruction = INSTRUCTIONS[robot.file.prompt.task]
    assert f"{build_prompt(robot, instruction).text}\n" == golden.read_text(encoding="utf-8")


def test_its_example_has_the_declared_shapes(robot: Embodiment):
    example = robot.make_example()
    assert set(example.images) == {camera.name for camera in robot.file.cameras}
    for camera in robot.file.cameras:
        image = example.images[camera.name]
        assert image.shape == (camera.height_px, camera.width_px, 3)
        assert image.dtype == np.uint8
    assert example.state.shape == (len(robot.channels),)
    assert np.all(np.isfinite(example.state))


def test_its_channels_and_joints_are_one_to_one(robot: Embodiment):
    chunk = np.random.default_rng(0).normal(size=(16, len(robot.channels)))
    joints = robot.joints_from_channels(chunk)
    assert joints.shape == (16, len(robot.joints))
    back = robot.channels_from_joints(joints)
    expected = np.zeros_like(chunk) if robot.has_base else chunk
    np.testing.assert_allclose(back, expected, atol=1e-12)


def test_every_golden_prompt_belongs_to_a_robot():
    robots = {path.stem for path in (ROOT / "config" / "embodiments").glob("*.yaml")}
    assert {path.stem for path in (ROOT / "test" / "golden").glob("*.txt")} == robots


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "embodiments").glob("*.yaml")))
def test_a_robot_that_is_only_there_to_be_attacked_has_all_that_a_gate_needs(path: Path):
    robot = load_embodiment(path)
    assert robot.name == path.stem
    RobotGate(robot)
