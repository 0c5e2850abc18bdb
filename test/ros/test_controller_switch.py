"""A robot that moves on although it is stopped: its controllers are deactivated (W12, G6)."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from qwen_vla_msgs.msg import SafetyState
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from qwen_vla_ros.bringup import NodeSpec
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.ros.qos import COMMAND, LATCHED, STATE

pytestmark = pytest.mark.ros

START_S = 20.0
HOME = [0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.04] * 2


@pytest.fixture
def robot(patient_aloha):
    text = patient_aloha.read_text()
    assert text.count("\ncommand:\n") == 1
    manager = "\ncommand:\n  controller_manager: controller_manager\n"
    patient_aloha.write_text(text.replace("\ncommand:\n", manager))
    return load_embodiment(patient_aloha)


@pytest.fixture
def manager(ros_graph, ros2_control):  # noqa: ARG001
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("controller_manager.py")],
        env={**os.environ, **ros2_control},
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait(5)


class Arms:
    """Joints with a controller each arm, which begin to creep when told."""

    def __init__(self, graph, robot):
        self.graph, self.robot = graph, robot
        self.speed, self.turn = 0.0, 0.0
        self.states = []
        for output in robot.file.command.outputs:
            controller = Node(output.topic.split("/")[0], context=graph.node.context)
            controller.create_subscription(JointTrajectory, output.topic, lambda _: None, COMMAND)
            graph.add_node(controller)
        node = graph.node
        self._joints = node.create_publisher(JointState, "joint_states", STATE)
        safety = "gate/output/safety_state"
        node.create_subscription(SafetyState, safety, self.states.append, LATCHED)
        node.create_timer(0.02, self._step)

    def _step(self):
        self.turn += 0.02 * self.speed
        message = JointState(name=list(self.robot.joints))
        message.position = [self.turn, *HOME[1:]]
        message.velocity = [self.speed, *[0.0] * (len(HOME) - 1)]
        message.header.stamp = self.graph.node.get_clock().now().to_msg()
        self._joints.publish(message)


def start_gate(graph, robot, environment):
    parameters = {"embodiment": str(robot.path)}
    spec = NodeSpec(
        executable="gate", namespace="", parameters=parameters, environment=environment
    )
    return graph.start_all([spec])["gate"]


@pytest.mark.slow
def test_the_controllers_of_a_robot_that_moves_on_are_deactivated_once(
    ros_graph, robot, ros2_control, manager
):
    arms = Arms(ros_graph, robot)
    gate = start_gate(ros_graph, robot, ros2_control)
    assert ros_graph.wait_for(lambda: ros_graph.call("gate/arm").success, START_S), gate.output
    # A gate that has commanded nothing yet has nothing to bring to rest.
    assert ros_graph.wait_for(lambda: arms.states[-1].ticks > 0, 5), gate.output
    assert ros_graph.call("gate/stop").success
    arms.speed = 0.3  # a goal that somebody has sent to the controller's own action
    moving_on = ros_graph.wait_for(lambda: arms.states[-1].cause == "still_moving", 3)
    assert moving_on, arms.states[-1]
    assert "also somebody asked for a stop" in arms.states[-1].detail
    assert gate.wait_for_line("the controllers are deactivated", 3), gate.output
    arms.speed = 0.0
    time.sleep(1.0)
    assert manager.poll() is None
    manager.kill()
    # Fast DDS prints there too.
    asked = [line for line in manager.stdout if line.startswith("deactivate")]
    assert asked == ["deactivate left_arm_controller right_arm_controller\n"]


@pytest.mark.slow
def test_a_manager_that_is_not_there_is_missed_before_anything_moves(
    ros_graph, robot, ros2_control
):
    Arms(ros_graph, robot)
    gate = start_gate(ros_graph, robot, ros2_control)
    sentence = "'/controller_manager/switch_controller' does not answer"
    assert gate.wait_for_line(sentence, START_S), gate.output
    assert not ros_graph.call("gate/arm").success


def test_without_ros2_controls_messages_the_file_is_refused_with_a_sentence(ros_graph, robot):
    try:
        import controller_manager_msgs  # noqa: F401
    except ImportError:
        gate = start_gate(ros_graph, robot, {})
        sentence = "command.controller_manager: needs controller_manager_msgs, which is not inst"
        assert gate.wait_for_line(sentence, START_S), gate.output
        assert "Traceback" not in gate.output
    else:
        pytest.skip("they are installed here")
