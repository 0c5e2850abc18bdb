"""Stop inputs that a robot's file names: an emergency stop's state, and a button to be held."""

import shutil
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from qwen_vla_msgs.msg import SafetyState
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.ros.qos import COMMAND, LATCHED, STATE
from qwen_vla_ros.ros.stop_inputs import _reader, _require_field

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
START_S = 20.0
STOPS = """\
  stops:
    - name: estop
      topic: cell/estop_state
      type: std_msgs/msg/Bool
      field: data
      runs_when: false
      rate_hz: 20
      max_age_s: 0.5
    - name: deadman
      topic: joy
      type: sensor_msgs/msg/Joy
      field: buttons.4
      runs_when: 1
      rate_hz: 20
      max_age_s: 0.5
"""
HELD = [0, 0, 0, 0, 1]


class Cell:
    """Arms at rest, an emergency stop and a joystick, and the gate of the arms."""

    def __init__(self, graph, robot):
        self.graph, self.robot = graph, robot
        self.is_pressed, self.buttons = False, HELD
        self.speaks = {"estop": False, "deadman": False}
        self.states = []
        node = graph.node
        self._joints = node.create_publisher(JointState, "joint_states", STATE)
        self._joy = None
        for output in robot.file.command.outputs:
            node.create_subscription(JointTrajectory, output.topic, lambda _: None, COMMAND)
        safety = "gate/output/safety_state"
        node.create_subscription(SafetyState, safety, self.states.append, LATCHED)
        node.create_timer(0.02, self._step)
        self.gate = graph.start("gate", {"embodiment": str(robot.path)})

    def plug_in(self):
        self._estop = self.graph.node.create_publisher(Bool, "cell/estop_state", STATE)
        self._joy = self.graph.node.create_publisher(Joy, "joy", STATE)
        self.speaks = {"estop": True, "deadman": True}

    def arm(self, seconds=10.0):
        deadline = time.monotonic() + seconds
        answer = self.graph.call("gate/arm")
        while not answer.success and time.monotonic() < deadline:
            time.sleep(0.1)
            answer = self.graph.call("gate/arm")
        return answer.message

    def waits_for(self, cause, level=SafetyState.STOP):
        return self.graph.wait_for(
            lambda: (self.states[-1].cause, self.states[-1].level) == (cause, level), 5
        )

    def _step(self):
        stamp = self.graph.node.get_clock().now().to_msg()
        home = [0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.04] * 2
        message = JointState(
            name=list(self.robot.joints), position=home, velocity=[0.0] * len(home)
        )
        message.header.stamp = stamp
        self._joints.publish(message)
        if self.speaks["estop"]:
            self._estop.publish(Bool(data=self.is_pressed))
        if self.speaks["deadman"]:
            self._joy.publish(Joy(buttons=self.buttons))


@pytest.fixture
def robot(tmp_path):
    for part in ("config/embodiments", "urdf"):
        shutil.copytree(ROOT / part, tmp_path / part)
    path = tmp_path / "config" / "embodiments" / "aloha_sim.yaml"
    text = path.read_text()
    last = "max_observation_age_s: 0.5\n"
    assert text.count(last) == 1
    # Patience for a driver that shares a busy machine with this test.
    text = text.replace("max_age_s: 0.2 ", "max_age_s: 0.4 ")
    path.write_text(text.replace(last, f"{last}{STOPS}"))
    return load_embodiment(path)


def test_a_robot_with_stops_moves_only_while_each_lets_it(ros_graph, robot):
    cell = Cell(ros_graph, robot)
    absent = "topic '/cell/estop_state' has no publisher. Expected std_msgs/msg/Bool"
    assert cell.gate.wait_for_line(absent, START_S), cell.gate.output
    cell.plug_in()
    assert cell.arm(START_S) == "armed", cell.gate.output

    cell.is_pressed = True
    assert cell.waits_for("stop_input:estop")
    assert cell.arm(1.5) == "not armed: the stop input 'estop' is asserted"
    cell.is_pressed = False
    assert cell.arm() == "armed"

    cell.buttons = [0] * 5
    assert cell.waits_for("stop_input:deadman")
    cell.buttons = HELD
    time.sleep(1.5)
    assert cell.waits_for("stop_input:deadman"), "a press alone must not let it move again"
    assert cell.arm() == "armed"

    cell.buttons = [1]  # another joystick, with fewer buttons
    assert cell.waits_for("stop_input:deadman")
    cell.buttons = HELD
    assert cell.arm() == "armed"

    cell.speaks["estop"] = False
    assert cell.waits_for("stop_input_lost:estop")
    assert cell.arm(1.5) == "not armed: the stop input 'estop' is silent"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"type": "no_such_msgs/msg/Mode"}, "no_such_msgs/msg/Mode is not here: install"),
        ({"field": "dato"}, "field: 'std_msgs/msg/Bool' has no 'dato'. Did you mean 'data'?"),
        ({"field": "data.x"}, "field: 'boolean' has no 'x'."),
        ({"field": "data.0"}, "field: 'boolean' has no places to count."),
        ({"runs_when": 2}, "runs_when: 2 is never what 'data' says. Allowed: true, false."),
        (
            {"type": "sensor_msgs/msg/Joy", "field": "axes.1"},
            "field: 'axes.1' is a float; a boolean or a whole number is needed.",
        ),
        (
            {"type": "sensor_msgs/msg/Joy", "field": "buttons"},
            "'buttons' is a sequence<int32>; a boolean",
        ),
    ],
)
def test_a_field_that_the_message_does_not_have_is_refused(robot, change, sentence):
    spec = robot.file.safety.stops[0].model_copy(update=change)
    with pytest.raises(QwenVlaError) as refusal:
        _require_field(spec, "robot.yaml: safety.stops[0]")
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("std_msgs/msg/Bool", "data"),
        ("sensor_msgs/msg/Joy", "header.stamp.sec"),
        ("geometry_msgs/msg/PoseWithCovarianceStamped", "header.stamp.nanosec"),
        ("qwen_vla_msgs/msg/SafetyState", "level"),
    ],
)
def test_a_field_may_lie_anywhere_in_a_message(robot, kind, field):
    spec = robot.file.safety.stops[1].model_copy(update={"type": kind, "field": field})
    if kind == "std_msgs/msg/Bool":
        spec = spec.model_copy(update={"runs_when": True})
    _require_field(spec, "robot.yaml")


def test_only_the_one_value_lets_a_robot_run(robot):
    stop = robot.file.safety.stops[0].model_copy(update={"field": "level", "runs_when": 1})
    assert [_reader(stop)(SafetyState(level=level)) for level in (0, 1, 2)] == [True, False, True]
