"""Limits as arrays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.envelope import BaseEnvelope, JointEnvelope, lead_periods

ROOT = Path(__file__).parents[3]


def valid(**changes):
    values = {
        "names": ("a", "b"),
        "lower": np.array([-1.0, -1.0]),
        "upper": np.array([1.0, 1.0]),
        "velocity": np.ones(2),
        "acceleration": np.full(2, 8.0),
        "start_jump": np.full(2, 0.2),
        "tracking": np.full(2, 0.15),
        "is_paced": np.ones(2, dtype=bool),
    }
    return JointEnvelope(**{**values, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"velocity": np.array([1.0, 0.0])},
        {"acceleration": np.array([1.0, -1.0])},
        {"tracking": np.array([0.0, 1.0])},
        {"start_jump": np.array([0.1, 0.0])},
        {"upper": np.array([1.0, np.nan])},
        {"velocity": np.array([1.0, np.inf])},
        {"lower": np.array([-1.0])},
        {"lower": np.array([-1.0, 1.0])},
    ],
)
def test_a_limit_that_limits_nothing_is_refused(changes):
    with pytest.raises(ValueError, match=r"must be|needs 2 finite"):
        valid(**changes)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_base_limit_that_limits_nothing_is_refused(value):
    with pytest.raises(ValueError, match="linear_velocity"):
        BaseEnvelope(
            linear_velocity=value,
            angular_velocity=1.0,
            linear_acceleration=1.0,
            angular_acceleration=1.0,
        )


def test_the_limits_come_from_the_embodiment_file_in_channel_order(aloha):
    robot = load_embodiment("aloha_sim")
    assert aloha.names == robot.joints
    for i, joint in enumerate(robot.joints):
        limits = robot.file.safety.joints[joint]
        for key in ("lower", "upper", "velocity", "acceleration", "start_jump", "tracking"):
            assert getattr(aloha, key)[i] == getattr(limits, key)


def test_only_grippers_are_not_paced(aloha):
    unpaced = [name for name, paced in zip(aloha.names, aloha.is_paced, strict=True) if not paced]
    assert unpaced == ["left_finger", "right_finger"]


def test_a_base_has_its_limits_from_the_embodiment_file():
    robot = load_embodiment("diffbot_sim")
    base = BaseEnvelope.from_embodiment(robot)
    assert base.velocity[0] == robot.file.safety.base.linear_velocity
    assert base.acceleration[1] == robot.file.safety.base.angular_acceleration


def changed(robot, **safety):
    file = robot.file.model_copy(update={"safety": robot.file.safety.model_copy(update=safety)})
    return replace(robot, file=file)


def test_a_joint_without_limits_is_refused():
    robot = load_embodiment("aloha_sim")
    joints = {name: j for name, j in robot.file.safety.joints.items() if name != "left_elbow"}
    with pytest.raises(EmbodimentError, match="'left_elbow' has no limits"):
        JointEnvelope.from_embodiment(changed(robot, joints=joints))


def test_a_joint_that_cannot_stop_within_a_trajectory_is_refused():
    robot = load_embodiment("aloha_sim")
    joints = dict(robot.file.safety.joints)
    joints["left_elbow"] = joints["left_elbow"].model_copy(update={"acceleration": 10.0})
    with pytest.raises(EmbodimentError, match=r"left_elbow: a stop takes 0\.240 s"):
        JointEnvelope.from_embodiment(changed(robot, joints=joints))


def test_an_arm_has_no_base_limits():
    with pytest.raises(EmbodimentError, match=r"safety\.base"):
        BaseEnvelope.from_embodiment(load_embodiment("aloha_sim"))


def test_the_check_after_the_filter_sees_each_kind_of_violation():
    envelope = valid()
    still = np.zeros(2)
    assert envelope.count_violations(still, still, np.array([0.001, 0.0]), 0.02) == 0
    assert envelope.count_violations(still, still, np.array([0.01, 0.0]), 0.02) == 1  # too sudden
    fast = np.array([2.0, 0.0])
    assert envelope.count_violations(still, fast, still + fast * 0.02, 0.02) == 1
    edge = np.array([1.0, 0.0])
    assert envelope.count_violations(edge, still, edge + np.array([1e-4, 0]), 0.02) == 1
    assert envelope.count_violations(-edge, still, -edge - np.array([1e-4, 0]), 0.02) == 1
    assert envelope.count_violations(still, still, np.array([np.nan, 0.0]), 0.02) == 1
    assert envelope.count_violations(still, still, np.zeros(3), 0.02) == 2


def test_outside_its_limits_a_joint_may_only_come_in():
    envelope = valid()
    out, still = np.array([1.2, -1.2]), np.zeros(2)
    inwards = np.array([1.199, -1.199])
    assert envelope.count_violations(out, still, inwards, 0.02) == 0
    assert envelope.count_violations(out, still, out, 0.02) == 0
    assert envelope.count_violations(out, still, 2 * out - inwards, 0.02) == 2


def test_a_base_command_is_checked_for_speed_and_change():
    base = BaseEnvelope(
        linear_velocity=1.0,
        angular_velocity=1.0,
        linear_acceleration=1.0,
        angular_acceleration=1.0,
    )
    still = np.zeros(2)
    assert base.count_violations(still, np.array([0.02, 0.02]), 0.02) == 0
    assert base.count_violations(still, np.array([0.03, 0.0]), 0.02) == 1
    assert base.count_violations(np.array([1.0, 0.0]), np.array([1.01, 0.0]), 0.02) == 1
    assert base.count_violations(still, np.array([np.nan, 0.0]), 0.02) == 1
    assert base.count_violations(still, np.zeros(3), 0.02) == 2


def test_a_joint_that_leans_on_its_stop_is_taken_as_at_its_limit(aloha):
    leaning = aloha.lower - 1e-4
    assert (aloha.settle(leaning) == aloha.lower).all()
    outside = aloha.upper + 0.1
    assert (aloha.settle(outside) == outside).all()
    inside = (aloha.lower + aloha.upper) / 2
    assert (aloha.settle(inside) == inside).all()


def test_outside_its_limits_a_joint_goes_no_further_not_even_by_a_rounding():
    envelope = valid()
    still, tiny = np.zeros(2), 5e-10
    for side in (1.0, -1.0):
        out, further = np.array([side * 1.2, 0.0]), np.array([side * tiny, 0.0])
        assert envelope.count_violations(out, still, out + further, 0.02) == 1
        assert envelope.count_violations(out, still, out - further, 0.02) == 0
        inside = np.array([side * 0.9, 0.0])
        assert envelope.count_violations(inside, still, inside + further, 0.02) == 0


def test_a_base_is_still_up_to_a_twentieth_of_its_speed():
    diffbot_base = BaseEnvelope.from_embodiment(load_embodiment("diffbot_sim"))
    limit = 0.05 * diffbot_base.velocity
    assert diffbot_base.is_still(np.zeros(2))
    assert diffbot_base.is_still(limit)
    assert diffbot_base.is_still(-limit)
    for axis in range(2):
        twist = np.zeros(2)
        twist[axis] = np.nextafter(limit[axis], np.inf)
        assert not diffbot_base.is_still(twist)
        assert not diffbot_base.is_still(-twist)


# Jerk ----------------------------------------------------------------------------------------


def with_jerk(embodiment, **jerks):
    joints = {
        name: limits.model_copy(update={"jerk": jerks.get(name)})
        for name, limits in embodiment.file.safety.joints.items()
    }
    safety = embodiment.file.safety.model_copy(update={"joints": joints})
    file = embodiment.file.model_copy(update={"safety": safety})
    return Embodiment(file=file, path=embodiment.path, robot=embodiment.robot)


@pytest.fixture(scope="module")
def slow():
    return load_embodiment(ROOT / "test" / "robots" / "embodiments" / "arm_of_six.yaml")


def test_without_a_declared_jerk_there_is_none_to_keep(slow, aloha):
    assert aloha.jerk is None
    assert JointEnvelope.from_embodiment(with_jerk(slow)).jerk is None
    assert lead_periods(with_jerk(slow)) == 2


def test_joints_without_a_jerk_have_an_infinite_one_beside_those_with(slow):
    envelope = JointEnvelope.from_embodiment(with_jerk(slow, joint_2=700.0))
    assert envelope.jerk.tolist() == [np.inf, 700.0, np.inf, np.inf, np.inf, np.inf]
    assert lead_periods(with_jerk(slow, joint_2=700.0)) == 3


def test_a_jerk_that_no_curve_keeps_is_refused_with_the_one_that_is_kept(slow):
    with pytest.raises(EmbodimentError, match=r"joint_1\.jerk: 639 is less than .* 640 \(2 \*"):
        JointEnvelope.from_embodiment(with_jerk(slow, joint_1=639.0))


def test_a_jerk_is_refused_where_bare_positions_are_told():
    path = ROOT / "test" / "robots" / "embodiments" / "arm_of_seven.yaml"
    with pytest.raises(EmbodimentError, match="'forward_position' is told positions and no curve"):
        JointEnvelope.from_embodiment(with_jerk(load_embodiment(path), joint_1=5000.0))


def test_a_stop_with_a_declared_jerk_takes_a_period_more(aloha):
    slow = load_embodiment("aloha_sim")
    assert aloha.names == slow.joints
    fast = dict.fromkeys(slow.joints, 1e6)
    JointEnvelope.from_embodiment(with_jerk(slow, **fast))
    joints = {
        name: limits.model_copy(update={"acceleration": limits.velocity / 0.155})
        for name, limits in slow.file.safety.joints.items()
    }
    safety = slow.file.safety.model_copy(update={"joints": joints})
    softer = Embodiment(
        file=slow.file.model_copy(update={"safety": safety}), path=slow.path, robot=slow.robot
    )
    JointEnvelope.from_embodiment(softer)
    with pytest.raises(EmbodimentError, match=r"a stop takes 0\.215 s .* \+ 3 / command\.rate_hz"):
        JointEnvelope.from_embodiment(with_jerk(softer, **fast))
