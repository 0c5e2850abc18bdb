"""What is written on the topics of controllers, and what is heard there, backend by backend."""

import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import Twist, TwistStamped
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from qwen_vla_ros.embodiment import backends
from qwen_vla_ros.embodiment.backend import BACKENDS, StampedTwist
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.schema import OutputSpec
from qwen_vla_ros.errors import NotReadyError, QwenVlaError
from qwen_vla_ros.evaluation.command_audit import CommandAudit
from qwen_vla_ros.ros.commands import Output, listen
from qwen_vla_ros.ros.conversions import message_class
from qwen_vla_ros.safety.arm_gate import JointCommand, State
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.sim.robot import make_robot

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def heard(shared_ros_graph):
    """Publish on an output until it is heard; returns the message."""

    def hear(output, kind, command):
        messages = []
        node = shared_ros_graph.node
        subscription = node.create_subscription(kind, output.spec.topic, messages.append, 1)
        assert shared_ros_graph.wait_for(lambda: output.publisher.get_subscription_count(), 5)
        output.publish(command)
        assert shared_ros_graph.wait_for(lambda: messages, 5)
        node.destroy_subscription(subscription)
        return messages[0]

    return hear


@pytest.fixture(scope="module")
def envelope():
    return JointEnvelope.from_embodiment(load_embodiment("aloha_sim"))


JOINTS = ("right_elbow", "left_waist")


def make_joint_output(graph, backend):
    return Output(graph.node, OutputSpec(backend=backend, topic=f"some/{backend}", joints=JOINTS))


def test_a_trajectory_holds_its_own_joints_and_ends_at_rest(shared_ros_graph, heard, envelope):
    output = make_joint_output(shared_ros_graph, "joint_trajectory")
    velocity = np.zeros(14)
    velocity[envelope.indices(JOINTS)] = [-1.0, 0.5]
    position = np.arange(14.0) / 100
    moving, rest = State(position, velocity), State(position, np.zeros(14))
    command = JointCommand(50_000_000_051, (moving, moving, rest))
    message = heard(output, JointTrajectory, command.trajectory(JOINTS, envelope, 0.02))
    assert tuple(message.joint_names) == JOINTS
    # The grid's time, so that the time of delivery is no part of the motion.
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_000_000_001, 20_000_000)
    first, _, last = message.points
    assert [point.time_from_start.nanosec for point in message.points] == [0, 2 * 10**7, 4 * 10**7]
    # The curve is half a period behind the command, at its speed.
    assert list(first.positions) == pytest.approx([0.09 + 0.01, 0.0 - 0.005])
    assert list(first.velocities) == [-1.0, 0.5]
    assert list(last.positions) == [0.09, 0.0]
    assert list(last.velocities) == [0.0, 0.0]


def test_a_forward_controller_gets_positions_only(shared_ros_graph, heard, envelope):
    output = make_joint_output(shared_ros_graph, "forward_position")
    command = JointCommand.at_rest(np.arange(14.0) / 100, 50)
    trajectory = command.trajectory(JOINTS, envelope, 0.02)
    assert list(heard(output, Float64MultiArray, trajectory).data) == [0.09, 0.0]


@pytest.mark.parametrize(("backend", "kind"), [("twist", Twist), ("twist_stamped", TwistStamped)])
def test_a_base_gets_its_twist(shared_ros_graph, heard, backend, kind):
    spec = OutputSpec(backend=backend, topic=f"some/{backend}", frame_id="base_link")
    output = Output(shared_ros_graph.node, spec)
    message = heard(output, kind, StampedTwist(linear=0.3, angular=-0.2, stamp_ns=5_000_000_007))
    twist = message if kind is Twist else message.twist
    assert (twist.linear.x, twist.angular.z) == (0.3, -0.2)
    if kind is TwistStamped:
        assert message.header.frame_id == "base_link"
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 7)


def test_a_topic_without_a_listener_is_refused_and_one_that_loses_it_is_a_fault(shared_ros_graph):
    output = make_joint_output(shared_ros_graph, "joint_trajectory")
    with pytest.raises(NotReadyError, match="no subscriber"):
        output.require_ready()
    assert [cause.name for cause in output.faults()][-1] == "controller_gone"


def test_a_message_whose_package_is_missing_is_named():
    with pytest.raises(QwenVlaError, match="install interbotix_xs_msgs"):
        message_class("interbotix_xs_msgs/msg/JointGroupCommand")


THROW_AWAY = """
from qwen_vla_ros.embodiment.backend import Backend, JointTrajectory, TrajectoryPoint

TYPE = "sensor_msgs/msg/JointState"


def write(new, command, output):
    return new(TYPE, name=output.joints, position=command.points[1].positions)


def read(message, output):
    point = TrajectoryPoint(time_from_start_ns=0, positions=tuple(message.position))
    return JointTrajectory(start_ns=0, joints=tuple(message.name), points=(point,))


BACKEND = Backend(moves="joints", type=TYPE, write=write, read=read, ends="it is thrown away")
"""


@pytest.fixture
def throw_away(tmp_path, monkeypatch):
    """The ALOHA arms, one of which is commanded through a backend that is one new file."""
    (tmp_path / "throw_away.py").write_text(THROW_AWAY)
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    aloha = load_embodiment("aloha_sim")
    text = aloha.path.read_text().replace("backend: joint_trajectory", "backend: throw_away", 1)
    (tmp_path / "aloha_sim.yaml").write_text(text)
    yield load_embodiment(str(tmp_path / "aloha_sim.yaml"))
    del sys.modules[f"{BACKENDS}.throw_away"]


def test_a_backend_is_one_file(shared_ros_graph, throw_away: Embodiment, envelope):
    spec = throw_away.file.command.outputs[0]
    assert spec.backend == "throw_away"
    robot, audit, refusals = make_robot(throw_away), CommandAudit(throw_away), []
    output = Output(shared_ros_graph.node, spec)
    listen(shared_ros_graph.node, spec, audit.on_command)
    listen(
        shared_ros_graph.node,
        spec,
        lambda command: refusals.append(robot.accept(spec.topic, command, 1)),
    )
    assert shared_ros_graph.wait_for(lambda: output.publisher.get_subscription_count() == 2, 5)
    goal = robot.measured(envelope.names)
    goal[envelope.names.index("left_waist")] += 0.1
    output.publish(JointCommand.at_rest(goal, 0).trajectory(spec.joints, envelope, 0.02))
    assert shared_ros_graph.wait_for(lambda: refusals and audit.commands, 5)
    assert refusals == [""]
    assert audit.total_violations == 0
    for k in range(100):
        robot.step(k * 10_000_000)
    assert robot.measured(("left_waist",))[0] == pytest.approx(0.1, abs=0.02)
