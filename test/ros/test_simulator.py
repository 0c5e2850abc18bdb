"""The simulator as a real process: the topics, types and manners of a robot's driver."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from qwen_vla_msgs.msg import TaskStatus
from qwen_vla_msgs.srv import ResetScene
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import MarkerArray

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.ros.conversions import ns_from_stamp, planar_pose, scene_from_markers
from qwen_vla_ros.ros.images import image_from_message
from qwen_vla_ros.ros.qos import COMMAND, LATCHED, SENSOR

pytestmark = pytest.mark.ros

START_S = 20.0


class Listener:
    """Keeps what comes on some topics, with the time at which it came."""

    def __init__(self, graph, topics) -> None:
        self.graph = graph
        self.got = {topic: [] for topic in topics}
        self._subscriptions = [
            graph.node.create_subscription(kind, topic, self._keep(topic), SENSOR)
            for topic, kind in topics.items()
        ]

    def _keep(self, topic):
        return lambda message: self.got[topic].append((time.monotonic(), message))

    def newest(self, topic):
        return self.got[topic][-1][1]

    def wait_for_all(self, seconds=START_S):
        assert self.graph.wait_for(lambda: all(self.got.values()), seconds), {
            topic: len(messages) for topic, messages in self.got.items()
        }

    def usual_rate_hz(self, topic, messages):
        """The rate by the stamps' median distance: what a busy machine drops does not count."""
        self.got[topic].clear()
        assert self.graph.wait_for(lambda: len(self.got[topic]) >= messages, 20)
        stamps_ns = [ns_from_stamp(message.header.stamp) for _, message in self.got[topic]]
        return 1e9 / np.median(np.diff(stamps_ns))


@pytest.fixture(scope="module")
def arms(shared_ros_graph):
    """The simulated arms, and what they say."""
    process = shared_ros_graph.start("simulator", {"embodiment": "aloha_sim", "seed": 3})
    listener = Listener(
        shared_ros_graph,
        {
            "cam_high/image_raw": Image,
            "cam_left_wrist/image_raw": Image,
            "cam_right_wrist/image_raw": Image,
            "joint_states": JointState,
            "scene/objects": MarkerArray,
            "scene/status": TaskStatus,
        },
    )
    listener.wait_for_all()
    listener.process = process
    return listener


def positions(listener):
    message = listener.newest("joint_states")
    return dict(zip(message.name, message.position, strict=True))


def call_reset(graph, seed):
    client = graph.node.create_client(ResetScene, "simulator/reset")
    assert client.wait_for_service(5)
    future = client.call_async(ResetScene.Request(seed=seed))
    assert graph.wait_for(future.done, 5)
    return future.result()


def test_cameras_are_what_the_embodiment_file_says(arms):
    for camera in load_embodiment("aloha_sim").file.cameras:
        message = arms.newest(camera.topic)
        image = image_from_message(message)
        assert image.shape == (camera.height_px, camera.width_px, 3)
        assert image.std() > 10


def test_state_and_cameras_keep_their_rates(arms):
    # A busy machine skips moments, but what comes is in time.
    for topic, count, rate_hz in (("joint_states", 100, 50), ("cam_high/image_raw", 30, 15)):
        periods = rate_hz / arms.usual_rate_hz(topic, count)
        assert periods == pytest.approx(max(1, round(periods)), rel=0.15)


def test_joint_states_tell_position_and_velocity_of_every_joint_and_its_mimic(arms):
    message = arms.newest("joint_states")
    robot = load_embodiment("aloha_sim")
    assert set(robot.joints) < set(message.name)
    assert {"left_finger_opposite", "right_finger_opposite"} < set(message.name)
    assert len(message.position) == len(message.velocity) == len(message.name) == 16
    state = positions(arms)
    assert state["left_finger_opposite"] == pytest.approx(-state["left_finger"], abs=1e-3)


def test_one_moment_has_one_stamp(arms):
    def stamps(topic, header=lambda message: message.header):
        return {ns_from_stamp(header(message).stamp) for _, message in list(arms.got[topic])}

    def moments():
        return (
            stamps("cam_right_wrist/image_raw")
            & stamps("joint_states")
            & stamps("scene/objects", lambda message: message.markers[0].header)
        )

    assert arms.graph.wait_for(lambda: len(moments()) >= 5, 20)


def test_objects_are_named_markers_in_the_world_frame(arms):
    message = arms.newest("scene/objects")
    scene = scene_from_markers(message)
    assert set(scene) == {"red_cube", "blue_cube", "yellow_cube"}
    assert {marker.header.frame_id for marker in message.markers} == {"world"}
    assert all(pose[2] == pytest.approx(0.02, abs=0.01) for pose in scene.values())


def test_the_judge_speaks_about_the_instruction_in_force(arms):
    assert arms.newest("scene/status").target == ""
    publisher = arms.graph.node.create_publisher(String, "simulator/input/instruction", LATCHED)
    publisher.publish(String(data="hand over the red cube"))
    assert arms.graph.wait_for(lambda: arms.newest("scene/status").target == "red_cube", 5)
    status = arms.newest("scene/status")
    assert (status.seed, status.success, status.progress) == (3, False, 0.0)


def test_a_trajectory_moves_the_joints_that_it_names(arms):
    goal = positions(arms)
    output = load_embodiment("aloha_sim").file.command.outputs[0]
    goal["left_waist"] += 0.2
    publisher = arms.graph.node.create_publisher(JointTrajectory, output.topic, COMMAND)
    assert arms.graph.wait_for(lambda: publisher.get_subscription_count() > 0, 5)
    point = JointTrajectoryPoint(positions=[goal[joint] for joint in output.joints])
    point.time_from_start.nanosec = 400_000_000
    publisher.publish(JointTrajectory(joint_names=list(output.joints), points=[point]))
    assert arms.graph.wait_for(
        lambda: abs(positions(arms)["left_waist"] - goal["left_waist"]) < 0.02, 5
    )
    assert positions(arms)["right_waist"] == pytest.approx(goal["right_waist"], abs=0.02)


def test_a_bad_trajectory_is_refused_in_the_log(arms):
    output = load_embodiment("aloha_sim").file.command.outputs[0]
    publisher = arms.graph.node.create_publisher(JointTrajectory, output.topic, COMMAND)
    assert arms.graph.wait_for(lambda: publisher.get_subscription_count() > 0, 5)
    publisher.publish(JointTrajectory(joint_names=list(output.joints)))
    assert arms.process.wait_for_line("Empty trajectory received", 5)


def test_the_overview_comes_for_whoever_looks(arms):
    topic = "overview/image_raw"
    watcher = Listener(arms.graph, {topic: Image})
    watcher.wait_for_all(5)
    assert (watcher.newest(topic).width, watcher.newest(topic).height) == (640, 480)
    for subscription in watcher._subscriptions:
        arms.graph.node.destroy_subscription(subscription)


def test_a_reset_puts_the_scene_back_and_suggests_what_to_ask(arms):
    answer = call_reset(arms.graph, 8)
    assert answer.success
    assert "to the left gripper" in answer.instruction
    assert arms.graph.wait_for(lambda: arms.newest("scene/status").seed == 8, 5)
    assert arms.graph.wait_for(lambda: abs(positions(arms)["left_waist"]) < 0.02, 5)


def test_a_negative_seed_is_refused(arms):
    answer = call_reset(arms.graph, -1)
    assert not answer.success
    assert "negative" in answer.message


def test_a_base_drives_until_its_commands_stop_and_leaves_at_rest(ros_graph):
    process = ros_graph.start("simulator", {"embodiment": "diffbot_sim"})
    listener = Listener(ros_graph, {"odom": Odometry, "front/image_raw": Image})
    listener.wait_for_all()
    publisher = ros_graph.node.create_publisher(
        TwistStamped, "diff_drive_controller/cmd_vel", COMMAND
    )
    assert ros_graph.wait_for(lambda: publisher.get_subscription_count() > 0, 5)

    def drive():
        message = TwistStamped()
        message.header.stamp = ros_graph.node.get_clock().now().to_msg()
        message.header.frame_id = "base_link"
        message.twist.linear.x = 0.3
        publisher.publish(message)

    timer = ros_graph.node.create_timer(0.02, drive)

    def speed():
        return listener.newest("odom").twist.twist.linear.x

    assert ros_graph.wait_for(lambda: speed() > 0.28, 5)
    timer.cancel()
    # The controller stops by itself half a second after the last command.
    assert process.interrupt(5) == 0
    assert abs(speed()) < 0.05
    pose = planar_pose(listener.newest("odom"))
    assert pose[0] > 0.1
    assert listener.newest("odom").header.frame_id == "odom"
    assert listener.newest("odom").child_frame_id == "base_link"


def test_simulated_time_is_published_and_stamps_follow_it(ros_graph):
    ros_graph.start(
        "simulator",
        {"embodiment": "diffbot_sim", "publish_clock": True, "real_time_factor": 0.5},
    )
    listener = Listener(ros_graph, {"/clock": Clock, "odom": Odometry})
    listener.wait_for_all()
    first = ns_from_stamp(listener.newest("/clock").clock)
    time.sleep(2.0)
    passed = (ns_from_stamp(listener.newest("/clock").clock) - first) / 1e9
    assert passed == pytest.approx(1.0, abs=0.2)
    stamps = [ns_from_stamp(message.header.stamp) for _, message in listener.got["odom"]]
    assert np.all(np.diff(stamps) > 0)
    assert abs(stamps[-1] - ns_from_stamp(listener.newest("/clock").clock)) < 1e8


def test_a_factor_without_a_clock_is_refused(ros_graph):
    process = ros_graph.start("simulator", {"embodiment": "diffbot_sim", "real_time_factor": 2.0})
    assert process.wait_for_line("needs 'publish_clock'", START_S)
    assert ros_graph.wait_for(lambda: process.exit_status() == 2, 5)
