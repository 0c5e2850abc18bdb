"""The stand-in passes everything on, as ros2_controllers' forward_command_controller does."""

import numpy as np
import pytest

from qwen_vla_ros.embodiment.backend import JointTrajectory, TrajectoryPoint
from qwen_vla_ros.sim.forward_command_controller import ForwardCommandController

HERE, STILL = np.array([0.1, 0.2]), np.zeros(2)


def to(*positions):
    point = TrajectoryPoint(time_from_start_ns=0, positions=positions)
    return JointTrajectory(start_ns=0, joints=("shoulder", "elbow"), points=(point,))


@pytest.fixture
def controller():
    return ForwardCommandController(("shoulder", "elbow"))


def test_before_any_command_the_joints_are_held_where_they_were_measured_first(controller):
    controller.update(0, HERE, STILL)
    assert controller.update(0, HERE + 1, STILL) == pytest.approx(HERE)


def test_a_command_goes_through_as_it_is_and_stays(controller):
    assert controller.accept(to(9.0, -9.0), 0) == ""
    assert controller.update(0, HERE, STILL) == pytest.approx([9.0, -9.0])
    assert controller.update(10**12, HERE, STILL) == pytest.approx([9.0, -9.0])


def test_a_command_of_the_wrong_size_is_refused(controller):
    controller.accept(to(1.0, 2.0), 0)
    assert "(3) does not match number of interfaces (2)" in controller.accept(to(1.0, 2.0, 3.0), 0)
    assert controller.update(0, HERE, STILL) == pytest.approx([1.0, 2.0])
