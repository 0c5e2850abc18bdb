"""What is written on the topics of controllers, backend by backend."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import Twist, TwistStamped
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.schema import OutputSpec
from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.ros.outputs import JointOutput, TwistOutput
from qwen_vla_ros.safety.arm_gate import JointCommand
from qwen_vla_ros.safety.envelope import JointEnvelope

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


def make_joint_output(graph, envelope, backend):
    spec = OutputSpec(backend=backend, topic=f"some/{backend}", joints=JOINTS)
    return JointOutput(graph.node, spec, envelope, 0.02)


def test_a_trajectory_holds_its_own_joints_and_ends_at_rest(shared_ros_graph, heard, envelope):
    output = make_joint_output(shared_ros_graph, envelope, "joint_trajectory")
    velocity = np.zeros(14)
    velocity[envelope.indices(JOINTS)] = [-1.0, 0.5]
    position = np.arange(14.0) / 100
    command = JointCommand(position, velocity, position - 0.01, 0.5 * velocity)
    message = heard(output, JointTrajectory, command)
    assert tuple(message.joint_names) == JOINTS
    begin, reached, *_ = message.points
    assert begin.time_from_start.nanosec == 0
    assert list(begin.positions) == pytest.approx([0.08, -0.01])
    assert list(begin.velocities) == [-0.5, 0.25]
    assert reached.time_from_start.nanosec == 20_000_000
    assert list(reached.positions) == [0.09, 0.0]
    assert list(reached.velocities) == [-1.0, 0.5]
    assert list(message.points[-1].velocities) == [0.0, 0.0]
    # 1 rad/s at 16 rad/s^2: rest after 62.5 ms, 31 mrad further.
    assert message.points[-1].time_from_start.nanosec == 82_500_000
    assert message.points[-1].positions[0] == pytest.approx(0.09 - 1 / 32)


def test_a_forward_controller_gets_positions_only(shared_ros_graph, heard, envelope):
    output = make_joint_output(shared_ros_graph, envelope, "forward_position")
    command = JointCommand.at_rest(np.arange(14.0) / 100)
    assert list(heard(output, Float64MultiArray, command).data) == [0.09, 0.0]


@pytest.mark.parametrize(("backend", "kind"), [("twist", Twist), ("twist_stamped", TwistStamped)])
def test_a_base_gets_its_twist(shared_ros_graph, heard, backend, kind):
    spec = OutputSpec(backend=backend, topic=f"some/{backend}", frame_id="base_link")
    output = TwistOutput(shared_ros_graph.node, spec)
    message = heard(output, kind, np.array([0.3, -0.2]))
    twist = message if kind is Twist else message.twist
    assert (twist.linear.x, twist.angular.z) == (0.3, -0.2)
    if kind is TwistStamped:
        assert message.header.frame_id == "base_link"
        assert message.header.stamp.sec > 0


def test_a_topic_without_a_listener_is_refused_and_one_that_loses_it_is_a_fault(
    shared_ros_graph, envelope
):
    output = make_joint_output(shared_ros_graph, envelope, "joint_trajectory")
    with pytest.raises(NotReadyError, match="no subscriber"):
        output.require_ready()
    assert [cause.name for cause in output.faults()][-1] == "controller_gone"
