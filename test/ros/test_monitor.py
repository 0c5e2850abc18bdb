"""What moves a base after its gate is lost (F1, F2): processes, killed and stopped for real."""

import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from qwen_vla_msgs.msg import SafetyState
from rclpy.node import Node
from rclpy.parameter import Parameter

from qwen_vla_ros.bringup import Bringup
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.ros.qos import LATCHED
from ros.fake_base import FakeBase, FakeNavigator

pytestmark = pytest.mark.ros

START_S = 20.0
DRIVER_TIMEOUT_S = 0.5
"""As ros2_controllers' diff_drive_controller has it by default."""
MOST_S = 0.3


class Floor:
    """A driver and a policy of the test's, and the processes of the bringup that it wants."""

    def __init__(self, graph, names, timeout_s=None):
        self.graph = graph
        robot = load_embodiment("diffbot_sim")
        self.node = Node("diff_drive_controller", context=graph.node.context)
        if timeout_s is not None:
            self.node.declare_parameter("cmd_vel_timeout", timeout_s)
        graph.add_node(self.node)
        self.driver = FakeBase(self.node, robot, DRIVER_TIMEOUT_S)
        self.navigator = FakeNavigator(self.node, robot, "policy/output/action_chunk", 0.25)
        self.states = []
        graph.node.create_subscription(
            SafetyState, "gate/output/safety_state", self.states.append, LATCHED
        )
        nodes = Bringup(robot="diffbot_sim", policy="expert").nodes()
        self.processes = graph.start_all([node for node in nodes if node.name in names])
        self.gate = self.processes["gate"]

    @property
    def state(self):
        return self.states[-1]

    def drives(self):
        """Be armed, and drive at half a metre per second."""
        armed = self.graph.wait_for(lambda: self.graph.call("gate/arm").success, START_S)
        assert armed, self.gate.output
        self.navigator.waypoint = np.array([0.25, 0.0, 0.0])
        under_way = self.graph.wait_for(lambda: self.driver.twist[0] > 0.49, 5)
        assert under_way, self.gate.output


@pytest.fixture
def floor(ros_graph):
    return Floor(ros_graph, ("gate", "monitor"), DRIVER_TIMEOUT_S)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_nothing_moves_300_ms_after_its_gate_is_lost(floor, number):
    floor.drives()
    floor.gate.send_signal(number)
    lost_s = time.monotonic()
    time.sleep(1.5)
    assert floor.driver.moved_s - lost_s <= MOST_S
    assert floor.processes["monitor"].wait_for_line("the gate fell silent", 1)


def test_a_gate_that_was_stopped_and_goes_on_moves_nothing(floor):
    floor.drives()
    floor.gate.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    place = floor.driver.pose.copy()
    floor.gate.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    assert (floor.driver.pose == place).all()
    assert floor.state.level == SafetyState.STOP
    floor.navigator.waypoint = None
    floor.drives()


def test_a_base_drives_undisturbed_while_somebody_stands_by(floor):
    floor.drives()
    time.sleep(3)
    assert floor.state.level == SafetyState.OK, floor.state
    assert floor.driver.twist[0] > 0.4
    assert "fell silent" not in floor.processes["monitor"].output


def test_a_base_is_stopped_when_its_monitor_is_lost(floor):
    floor.drives()
    floor.processes["monitor"].send_signal(signal.SIGKILL)
    assert floor.graph.wait_for(lambda: floor.state.cause == "monitor_gone", 1.5), floor.state
    assert "stops by itself only 0.5 s after the last command" in floor.state.detail
    assert floor.graph.wait_for(floor.driver.rests, 1)


def test_without_a_monitor_a_slow_driver_is_refused_and_a_quick_one_is_not(ros_graph):
    slow = Floor(ros_graph, ("gate",), DRIVER_TIMEOUT_S)
    sentence = "stops by itself only 0.5 s after the last command (cmd_vel_timeout of /diff_drive"
    assert slow.gate.wait_for_line(sentence, START_S), slow.gate.output
    assert not ros_graph.call("gate/arm").success
    slow.node.set_parameters([Parameter("cmd_vel_timeout", value=0.2)])
    slow.drives()


def test_a_driver_that_says_nothing_needs_a_monitor(ros_graph):
    floor = Floor(ros_graph, ("gate",))
    sentence = "Start the monitor, or declare command.timeout_s in the robot's file."
    assert floor.gate.wait_for_line(sentence, START_S), floor.gate.output
    assert not ros_graph.call("gate/arm").success


def test_a_monitor_for_joints_refuses_with_a_sentence(ros_graph):
    monitor = ros_graph.start("monitor", {"embodiment": "aloha_sim"})
    sentence = "aloha_sim needs none; without its gate every message ends at rest."
    assert monitor.wait_for_line(sentence, START_S), monitor.output
    assert "Traceback" not in monitor.output
