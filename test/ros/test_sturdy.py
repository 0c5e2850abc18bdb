"""A node whose callbacks fail goes on, and says so."""

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from qwen_vla_msgs.msg import ActionChunk, SafetyState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from qwen_vla_ros.ros.qos import COMMAND, LATCHED

pytestmark = pytest.mark.ros

BREAKABLE = """
import sys
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from qwen_vla_ros.ros.lifecycle import ManagedNode
from qwen_vla_ros.ros.process import main_of

def fail(*_):
    raise {error}

class Breakable(ManagedNode):
    def __init__(self):
        super().__init__("breakable")
        self.ticks, self.broken = 0, set()
        self.create_steady_timer(0.05, self.tick)
        self.create_steady_timer(0.05, fail)
        self.create_subscription(Bool, "words", fail, 1)
        self.create_service(Trigger, "ask", fail)

    def tick(self):
        self.ticks += 1
        if self.ticks % 20 == 0:
            print("ticks", self.ticks, sorted(self.broken), flush=True)

    def on_broken(self, what):
        self.broken.add(what)
        raise OSError("and this fails too")

main_of(Breakable)
"""
BROKEN_GATE = """
from qwen_vla_ros.nodes import gate

def fail(message):
    raise KeyError("a defect of ours")

gate.{name} = fail
gate.main()
"""


class Script:
    """A script as a process."""

    def __init__(self, code, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lines_until(self, part):
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if part in line:
                return lines
        raise AssertionError("".join(lines))


@pytest.fixture
def run():
    """Run a script until the test is over."""
    scripts = []

    def start(code, *arguments):
        scripts.append(Script(code, *arguments))
        return scripts[-1]

    yield start
    for script in scripts:
        script.process.kill()
        script.process.communicate()


@pytest.mark.parametrize("error", ["ValueError('no')", "QwenVlaError('no')"])
def test_no_failing_callback_ends_a_process_or_its_other_callbacks(ros_graph, run, error):
    code = "from qwen_vla_ros.errors import QwenVlaError\n" + BREAKABLE.format(error=error)
    script = run(code, "--ros-args", "-p", "autostart:=false")
    words = ros_graph.node.create_publisher(Bool, "words", 1)
    assert ros_graph.wait_for(lambda: words.get_subscription_count() == 1, 20)
    words.publish(Bool(data=True))
    answer = ros_graph.call("ask")
    assert isinstance(answer, Trigger.Response)
    assert (answer.success, answer.message) == (False, "it failed; the log says why")
    lines = script.lines_until("ticks 60")
    assert error.split("(")[0] + ": no" in lines[-1]
    # What fails twenty times a second is not told twenty times a second.
    assert sum("a callback failed" in line for line in lines) < 12
    script.process.terminate()
    assert script.process.wait(5) == 0


@pytest.mark.parametrize("autostart", ["true", "false"])
def test_a_shutdown_from_outside_leaves_a_process_that_ends_with_zero(ros_graph, run, autostart):
    code = BREAKABLE.format(error="ValueError('no')")
    script = run(code, "--ros-args", "-p", f"autostart:={autostart}")
    client = ros_graph.node.create_client(ChangeState, "breakable/change_state")
    assert ros_graph.wait_for(client.service_is_ready, 20)
    script.lines_until("ticks 20")
    for succeeds in (True, False):
        future = client.call_async(ChangeState.Request(transition=Transition(label="shutdown")))
        assert ros_graph.wait_for(future.done, 5)
        assert future.result().success == succeeds
    script.lines_until("ticks 60")
    script.process.terminate()
    assert script.process.wait(5) == 0


def test_a_gate_with_a_broken_callback_stops_and_ticks_on(ros_graph, run):
    states = []
    ros_graph.node.create_subscription(
        SafetyState, "gate/output/safety_state", states.append, LATCHED
    )
    chunks = ros_graph.node.create_publisher(ActionChunk, "gate/input/action_chunk", COMMAND)
    script = run(
        BROKEN_GATE.format(name="chunk_from_message"),
        *("--ros-args", "-p", "embodiment:=aloha_sim"),
    )
    assert ros_graph.wait_for(lambda: states and chunks.get_subscription_count(), 20)
    script.lines_until("cannot activate")
    for _ in range(20):
        chunks.publish(ActionChunk())
    script.lines_until("a callback failed: KeyError: 'a defect of ours'")
    count = len(states)
    assert ros_graph.wait_for(lambda: len(states) > count + 5, 3)
    assert states[-1].level == SafetyState.STOP
    script.process.terminate()
    assert script.process.wait(5) == 0


@pytest.fixture
def gate_node(ros_graph):  # noqa: ARG001
    """A gate in this process, configured."""
    import rclpy

    from qwen_vla_ros.nodes.gate import GateNode

    rclpy.init(args=["--ros-args", "-p", "embodiment:=aloha_sim", "-p", "autostart:=false"])
    node = GateNode()
    node.trigger_configure()
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def test_a_callback_that_fails_while_a_gate_is_armed_is_a_stop(gate_node):
    latch = gate_node._gate.latch
    for steady_ns in (0, 1_100_000_000):
        latch.update(steady_ns, [], [])
    assert latch.arm(steady_ns, is_still=True) == ""
    assert gate_node.guarded(lambda: [][1])() is None
    assert (latch.level.name, latch.cause.name) == ("STOP", "internal")
    assert "IndexError" in latch.detail
    gate_node._tick()


def test_a_gate_is_not_cleaned_up_while_its_robot_comes_to_rest(gate_node, monkeypatch):
    from rclpy.lifecycle import TransitionCallbackReturn

    monkeypatch.setattr(gate_node, "at_rest", lambda: False)
    gate_node.on_stop()
    assert gate_node.trigger_cleanup() == TransitionCallbackReturn.FAILURE
    gate_node._tick()  # it brakes on
    monkeypatch.undo()
    assert gate_node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert list(gate_node.attributed) == []
    assert gate_node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    gate_node._tick()
