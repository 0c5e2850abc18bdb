"""What holds for every backend, by its being there; no ROS is needed for it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from qwen_vla_ros.embodiment.backend import (
    BACKENDS,
    JointTrajectory,
    StampedTwist,
    TrajectoryPoint,
    load_backend,
)
from qwen_vla_ros.embodiment.schema import OutputSpec
from qwen_vla_ros.plugins import plugin_names

JOINTS = ("elbow", "wrist")
POINTS = (
    TrajectoryPoint(time_from_start_ns=0, positions=(0.0, 0.5), velocities=(0.1, 0.2)),
    TrajectoryPoint(time_from_start_ns=20_000_000, positions=(0.1, 0.6), velocities=(0.3, 0.4)),
    TrajectoryPoint(time_from_start_ns=1_500_000_000, positions=(0.2, 0.7), velocities=(0.0, 0.0)),
)
TRAJECTORY = JointTrajectory(start_ns=0, joints=JOINTS, points=POINTS)
TWIST = StampedTwist(linear=0.3, angular=-0.2, stamp_ns=5_000_000_007)


def written(name, command):
    """The message of a command, and what it says when it is read."""
    backend = load_backend(name)
    output = OutputSpec(backend=name, topic="some/topic", joints=JOINTS, frame_id="base_link")
    message = backend.write(lambda _, **fields: SimpleNamespace(**fields), command, output)
    return message, backend.read(message, output)


def all_that_move(what):
    return [name for name in plugin_names(BACKENDS) if load_backend(name).moves == what]


@pytest.mark.parametrize("name", all_that_move("base"))
def test_a_base_moves_as_it_is_told(name):
    _, read = written(name, TWIST)
    assert (read.linear, read.angular) == (TWIST.linear, TWIST.angular)


@pytest.mark.parametrize("name", all_that_move("joints"))
def test_joints_go_where_they_are_told_and_timed_ones_come_to_rest(name):
    _, read = written(name, TRAJECTORY)
    assert read.joints == JOINTS
    if load_backend(name).is_timed:
        assert read == TRAJECTORY
    else:
        assert read.points[0].positions == POINTS[1].positions


def test_a_stamp_and_a_frame_are_kept_where_the_message_has_them():
    message, read = written("twist_stamped", TWIST)
    assert read == TWIST
    assert message.header.frame_id == "base_link"
    assert written("twist", TWIST)[1].stamp_ns == 0


@pytest.mark.parametrize("name", all_that_move("joints"))
def test_joints_need_nobody_who_ends_their_motion_and_say_why(name):
    assert load_backend(name).ends


@pytest.mark.parametrize("name", all_that_move("base"))
def test_a_base_needs_somebody(name):
    assert load_backend(name).ends == ""


def test_a_backend_for_joints_without_an_end_of_its_own_is_refused():
    with pytest.raises(ValueError, match="must say what ends a motion"):
        replace(load_backend("forward_position"), ends="")
