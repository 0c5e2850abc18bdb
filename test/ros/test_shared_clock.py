"""Gate, driver and controller must go by one clock: otherwise nothing is armed (D4)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from rclpy.duration import Duration
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from qwen_vla_ros.bringup import NodeSpec
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.ros.qos import COMMAND, STATE

pytestmark = pytest.mark.ros

START_S = 20.0
HOME = [0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.04] * 2


@pytest.fixture
def robot(patient_aloha):
    return load_embodiment(patient_aloha)


def start(graph, robot, *, ahead_s=0.0, environment=None, **parameters):
    """Run a gate beside a driver whose clock is ahead; returns the gate."""
    node = graph.node
    for output in robot.file.command.outputs:
        node.create_subscription(JointTrajectory, output.topic, lambda _: None, COMMAND)
    publisher = node.create_publisher(JointState, "joint_states", STATE)

    def tell():
        message = JointState(name=list(robot.joints), position=HOME, velocity=[0.0] * len(HOME))
        now = node.get_clock().now() + Duration(nanoseconds=round(ahead_s * 1e9))
        message.header.stamp = now.to_msg()
        publisher.publish(message)

    node.create_timer(0.02, tell)
    spec = NodeSpec(
        executable="gate",
        namespace="",
        parameters={"embodiment": str(robot.path), **parameters},
        environment=environment or {},
    )
    return graph.start_all([spec])["gate"]


@pytest.mark.parametrize(("ahead_s", "words"), [(3.0, "ahead of"), (-3.0, "behind")])
def test_a_driver_of_another_clock_is_told_as_that_and_not_as_silent(
    ros_graph, robot, ahead_s, words
):
    gate = start(ros_graph, robot, ahead_s=ahead_s)
    assert gate.wait_for_line(f"s {words} the gate's clock", START_S), gate.output
    assert "'joint_states' is stamped" in gate.output
    assert "synchronize the two machines" in gate.output
    assert not ros_graph.call("gate/arm").success


def test_a_gate_of_simulated_time_beside_a_driver_of_true_time_is_refused(ros_graph, robot):
    gate = start(ros_graph, robot, use_sim_time=True)
    sentence = "use_sim_time is set on one side and not on the other"
    assert gate.wait_for_line(sentence, START_S), gate.output
    assert not ros_graph.call("gate/arm").success


@pytest.mark.slow
def test_a_controller_of_another_clock_is_told_where_the_driver_is_not(
    ros_graph, robot, ros2_control
):
    topic = "left_arm_controller/controller_state"
    controller = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("controller_state.py"), topic, "0.045"],
        env={**os.environ, **ros2_control},
    )
    try:
        gate = start(ros_graph, robot, environment=ros2_control)
        said = lambda: ros_graph.call("gate/arm").message  # noqa: E731
        assert ros_graph.wait_for(lambda: "ahead of the gate's clock" in said(), START_S)
        assert f"'{topic}' is stamped 0.04" in said(), gate.output
    finally:
        controller.kill()
        controller.wait(5)
