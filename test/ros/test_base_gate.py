"""The base gate as a real process, between a fake policy and a fake base with the true types."""

import math
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from qwen_vla_msgs.msg import SafetyState
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.ros.qos import LATCHED
from ros.fake_base import PERIOD_S, FakeBase, FakeNavigator

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
START_S = 15.0
BRAKING_S = 0.4
CONTROLLER_TIMEOUT_S = 0.2


class Floor:
    """A base, its policy, its gate, and whoever watches them."""

    def __init__(self, graph, robot) -> None:
        self.graph = graph
        self.base = FakeBase(graph.node, robot, CONTROLLER_TIMEOUT_S)
        self.navigator = FakeNavigator(graph.node, robot, "gate/input/action_chunk", 0.5)
        self.states: list[SafetyState] = []
        graph.node.create_subscription(
            SafetyState, "gate/output/safety_state", self.states.append, LATCHED
        )
        self._clients = {
            name: graph.node.create_client(Trigger, f"gate/{name}") for name in ("arm", "stop")
        }
        self._robot = robot
        self.start_gate()

    def start_gate(self) -> None:
        self.gate = self.graph.start("gate", {"embodiment": str(self._robot.path)})

    @property
    def state(self) -> SafetyState:
        return self.states[-1]

    def call(self, name) -> Trigger.Response:
        client = self._clients[name]
        assert self.graph.wait_for(client.service_is_ready, START_S)
        future = client.call_async(Trigger.Request())
        assert self.graph.wait_for(future.done, 5)
        return future.result()

    def arms(self, patience_s=START_S) -> bool:
        return self.graph.wait_for(lambda: self.call("arm").success, patience_s)

    def drives(self, waypoint=(0.2, 0.0, 0.1)) -> None:
        """Be armed and under way."""
        assert self.arms(), self.gate.output
        self.navigator.waypoint = np.array(waypoint)
        assert self.graph.wait_for(lambda: self.base.twist[0] > 0.3, 5), self.gate.output

    def waits_for(self, level, cause=None, seconds=5.0) -> bool:
        return self.graph.wait_for(
            lambda: self.state.level == level and cause in (None, self.state.cause), seconds
        )


@pytest.fixture(scope="module")
def diffbot(tmp_path_factory):
    """The robot, with patience for a driver that shares a busy machine and stops by itself."""
    folder = tmp_path_factory.mktemp("robot")
    shutil.copytree(ROOT / "config" / "embodiments", folder / "config" / "embodiments")
    shutil.copytree(ROOT / "urdf", folder / "urdf")
    path = folder / "config" / "embodiments" / "diffbot_sim.yaml"
    text = path.read_text()
    assert text.count("max_age_s: 0.2 ") == 1
    text = text.replace("max_age_s: 0.2 ", "max_age_s: 0.3 ")
    text = text.replace("command:\n", f"command:\n  timeout_s: {CONTROLLER_TIMEOUT_S}\n")
    path.write_text(text)
    return load_embodiment(path)


@pytest.fixture(scope="module")
def shared_floor(shared_ros_graph, diffbot):
    return Floor(shared_ros_graph, diffbot)


@pytest.fixture
def floor(shared_floor):
    """The same floor for every test, with a gate that runs."""
    if shared_floor.gate.exit_status() is not None:
        shared_floor.start_gate()
    return shared_floor


@pytest.fixture
def driving(floor):
    floor.base.is_paused = False
    floor.navigator.waypoint = None
    floor.call("stop")
    assert floor.graph.wait_for(floor.base.rests, 3)
    floor.base.commands.clear()
    floor.drives()
    return floor


def test_nothing_is_said_to_the_controller_before_arming(floor):
    assert floor.waits_for(SafetyState.STOP, "not_armed", START_S), floor.gate.output
    floor.navigator.waypoint = np.array([0.2, 0.0, 0.0])
    assert floor.graph.wait_for(lambda: floor.state.chunks_accepted > 0, 5)
    assert floor.base.commands == []


def test_an_armed_base_drives_along_its_waypoints_within_its_envelope(driving):
    begin = driving.base.pose.copy()
    time.sleep(1.5)
    v, w = driving.base.twist
    assert v == pytest.approx(0.4, abs=0.1)
    assert w == pytest.approx(0.2, abs=0.15)
    assert np.hypot(*(driving.base.pose[:2] - begin[:2])) > 0.4
    assert driving.base.audit.violations == {}
    assert driving.base.commands[-1][1].header.frame_id == "base_link"
    assert driving.state.violations == 0


def test_a_chunk_that_leads_nowhere_brings_the_base_to_a_calm_rest(driving):
    driving.navigator.waypoint = np.zeros(3)
    assert driving.graph.wait_for(driving.base.rests, 0.6 + BRAKING_S)
    time.sleep(1.2)
    assert driving.state.level == SafetyState.OK
    driving.navigator.waypoint = np.array([0.2, 0.0, 0.0])
    assert driving.graph.wait_for(lambda: driving.base.twist[0] > 0.2, 1.5)


def test_a_policy_that_dies_ends_the_drive_by_the_age_of_its_observation(driving):
    driving.navigator.waypoint = None
    died_s = time.monotonic()
    assert driving.waits_for(SafetyState.HOLD, "policy_silent")
    assert driving.graph.wait_for(driving.base.rests, 1.0)
    assert time.monotonic() - died_s <= 1.0 + BRAKING_S + 0.15
    count = len(driving.base.commands)
    time.sleep(0.3)
    assert len(driving.base.commands) > count + 10


def test_waypoints_that_are_not_numbers_stop_the_base(driving):
    driving.navigator.waypoint = np.array([0.2, math.nan, 0.0])
    assert driving.waits_for(SafetyState.STOP, "chunks_rejected")
    assert driving.graph.wait_for(driving.base.rests, BRAKING_S + 0.2)


def test_the_stop_service_brings_the_base_to_rest(driving):
    assert driving.call("stop").success
    begin_s = time.monotonic()
    assert driving.graph.wait_for(driving.base.rests, 2)
    assert time.monotonic() - begin_s <= 2 * PERIOD_S + BRAKING_S + 0.1
    time.sleep(0.7)
    assert driving.base.rests()
    assert driving.state.cause == "stop_request"


def test_odometry_that_stops_stops_the_base(driving):
    driving.base.is_paused = True
    assert driving.waits_for(SafetyState.STOP, "odometry_stale", 1.5)
    assert driving.graph.wait_for(driving.base.rests, BRAKING_S + 0.2)


def test_an_interrupt_brings_the_base_to_rest_and_ends_well(driving):
    driving.gate.send_signal(signal.SIGINT)
    assert driving.graph.wait_for(lambda: driving.gate.exit_status() is not None, START_S)
    assert driving.gate.exit_status() == 0

    def last() -> tuple[float, float]:
        twist = driving.base.commands[-1][1].twist
        return twist.linear.x, twist.angular.z

    # What was said last may still be on its way to who listens here.
    assert driving.graph.wait_for(lambda: last() == (0.0, 0.0), 2), last()
    assert driving.base.audit.violations == {}


def test_a_stop_that_was_latched_before_the_gate_came_is_heard(ros_graph, diffbot):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    stop = ros_graph.node.create_publisher(Bool, "gate/input/stop", latched)
    stop.publish(Bool(data=True))
    floor = Floor(ros_graph, diffbot)
    assert floor.gate.wait_for_line("]: active", START_S), floor.gate.output
    refusal = "not armed: the stop input is asserted"
    assert ros_graph.wait_for(lambda: floor.call("arm").message == refusal, 5), floor.gate.output
    stop.publish(Bool(data=False))
    assert floor.arms()


def test_a_gate_for_a_robot_that_there_is_not_refuses_with_a_sentence(ros_graph):
    gate = ros_graph.start("gate", {"embodiment": "diffbot_sin"})
    assert gate.wait_for_line("Did you mean 'diffbot_sim'", START_S), gate.output
    assert "Traceback" not in gate.output
