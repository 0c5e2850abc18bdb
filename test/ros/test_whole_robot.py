"""Policy, gate and simulator together, as real processes: what happens when one is lost."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from qwen_vla_msgs.action import ExecuteInstruction
from qwen_vla_msgs.msg import ActionChunk, SafetyState
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState

from qwen_vla_ros.bringup import Bringup
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.ros.qos import COMMAND, LATCHED, SENSOR

pytestmark = pytest.mark.ros

MOVING = 0.3
STILL = 0.05
"""rad/s; a simulated servo that holds trembles below this."""


class Observer:
    """Notes when the arms move, what was asked of them, and what the gate says."""

    def __init__(self, graph) -> None:
        self.graph = graph
        self.speeds: list[tuple[float, float]] = []
        self.chunk_end_s = 0.0
        self.safety: SafetyState | None = None
        node = graph.node
        node.create_subscription(JointState, "joint_states", self._on_joints, SENSOR)
        node.create_subscription(
            ActionChunk, "policy/output/action_chunk", self._on_chunk, COMMAND
        )
        node.create_subscription(
            SafetyState, "arm_gate/output/safety_state", self._on_safety, LATCHED
        )
        self.action = ActionClient(node, ExecuteInstruction, "execute_instruction")

    def now_s(self) -> float:
        return self.graph.node.get_clock().now().nanoseconds * 1e-9

    def _on_joints(self, message: JointState) -> None:
        self.speeds.append((self.now_s(), float(np.abs(message.velocity).max())))

    def _on_chunk(self, message: ActionChunk) -> None:
        stamp = message.header.stamp
        rows = len(message.actions) // len(message.channels)
        self.chunk_end_s = stamp.sec + stamp.nanosec * 1e-9 + rows * message.dt

    def _on_safety(self, message: SafetyState) -> None:
        self.safety = message

    def last_motion_s(self) -> float:
        """When the arms were last seen moving."""
        return max((time_s for time_s, speed in self.speeds if speed > STILL), default=0.0)


@pytest.fixture
def moving_arms(ros_graph):
    """A simulated ALOHA in the middle of a hand-over, its processes, and an observer."""
    robot = load_embodiment("aloha_sim")
    processes = ros_graph.bring_up(Bringup(robot=robot, policy="expert"))
    observer = Observer(ros_graph)
    assert ros_graph.wait_for(observer.action.server_is_ready, 40)
    assert processes["policy"].wait_for_line("[policy]: active", 40)
    assert ros_graph.wait_for(lambda: ros_graph.call("arm_gate/arm").success, 20)
    goal = ExecuteInstruction.Goal(instruction="hand over the red cube", time_limit_s=30.0)
    sent = observer.action.send_goal_async(goal)
    assert ros_graph.wait_for(sent.done, 5)
    assert sent.result().accepted
    assert ros_graph.wait_for(lambda: observer.speeds[-1][1] > MOVING, 10)
    time.sleep(0.5)
    return processes, observer


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_arms_rest_within_300_ms_of_the_chunks_end_when_the_policy_is_lost(
    ros_graph, moving_arms, number
):
    processes, observer = moving_arms
    processes["policy"].send_signal(number)
    assert ros_graph.wait_for(lambda: observer.safety.cause == "policy_silent", 3)
    time.sleep(1.0)
    assert observer.speeds[-1][0] > observer.chunk_end_s + 0.8  # somebody still measures
    assert observer.last_motion_s() - observer.chunk_end_s < 0.3
    assert observer.safety.level == SafetyState.HOLD
    assert observer.safety.violations == 0


def test_arms_rest_within_200_ms_when_the_gate_itself_is_killed(moving_arms):
    processes, observer = moving_arms
    processes["arm_gate"].send_signal(signal.SIGKILL)
    killed_s = observer.now_s()
    time.sleep(1.0)
    # 200 ms of commanded motion, and what the simulated servos lag behind it.
    assert observer.last_motion_s() - killed_s < 0.35


def test_a_stop_rests_the_arms_and_only_an_arming_ends_it(ros_graph, moving_arms):
    _, observer = moving_arms
    stopped_s = observer.now_s()
    assert ros_graph.call("arm_gate/stop").success
    assert ros_graph.wait_for(lambda: observer.safety.cause == "stop_request", 1)
    time.sleep(1.2)
    assert observer.last_motion_s() - stopped_s < 0.5
    assert not observer.safety.armed
    assert ros_graph.call("arm_gate/arm").success


def test_up_does_what_it_is_told_and_ctrl_c_brings_all_down_with_zero(ros_graph):  # noqa: ARG001
    command = [sys.executable, "-m", "qwen_vla_ros.cli.main"]
    up = subprocess.Popen(
        [*command, "up", "--robot", "diffbot_sim", "--policy", "expert", "--scene-seed", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        do = subprocess.run(
            [*command, "do", "go to the blue box", "--robot", "diffbot_sim", "--arm"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert do.returncode == 0, do.stdout + do.stderr
        assert "succeeded" in do.stdout
        begin = time.monotonic()
        up.send_signal(signal.SIGINT)
        output, _ = up.communicate(timeout=10)
        assert up.returncode == 0, output
        assert time.monotonic() - begin < 5
        assert "all down" in output
        assert "Traceback" not in output
    finally:
        up.kill()
