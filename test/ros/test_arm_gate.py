"""The arm gate as a real process, between a fake policy and a fake driver with the true types."""

import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from qwen_vla_msgs.msg import ActionChunk as ActionChunkMessage
from qwen_vla_msgs.msg import SafetyState
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from qwen_vla_ros.embodiment.backend import load_backend
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.evaluation.command_audit import CommandAudit
from qwen_vla_ros.ros.conversions import chunk_to_message
from qwen_vla_ros.ros.qos import COMMAND, LATCHED, STATE
from qwen_vla_ros.types import ActionChunk

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
START_S = 15.0
BRAKING_S = 0.125
PERIOD_S = 0.02
WAIST = "left_waist"
HOME = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.04] * 2)


class FakeArms:
    """Two arms whose joint_trajectory_controllers do as told; and their joint states."""

    def __init__(self, graph, robot) -> None:
        self.node = graph.node
        self.robot = robot
        self.position = dict(zip(robot.joints, HOME, strict=True))
        self.velocity = dict.fromkeys(robot.joints, 0.0)
        self.is_paused = False
        self.audit = CommandAudit(robot)
        self.commands: list[tuple[float, JointTrajectory]] = []
        self._playing: dict[str, tuple[float, list[float], JointTrajectory]] = {}
        self._stepped_s = time.monotonic()
        self._before: dict[str, float] | None = None
        self._states = self.node.create_publisher(JointState, "joint_states", STATE)
        for output in robot.file.command.outputs:
            self.node.create_subscription(
                JointTrajectory, output.topic, self._on_trajectory, COMMAND
            )
        self.node.create_timer(PERIOD_S, self._step)

    def leave(self) -> None:
        """End the driver, in order."""
        self.is_paused = True
        self.node.destroy_publisher(self._states)

    def come_back(self) -> None:
        """Start the driver again."""
        self._states = self.node.create_publisher(JointState, "joint_states", STATE)
        self.is_paused = False

    def speed(self) -> float:
        """Greatest speed of any joint as the controllers drive them now."""
        return max(abs(speed) for speed in self.velocity.values())

    def rests(self) -> bool:
        """Whether nothing moves to speak of."""
        return self.speed() < 0.002

    def last_moving_s(self) -> float:
        """When a command that moves something was last received."""
        return max(t for t, message in self.commands if any(message.points[0].velocities))

    def _on_trajectory(self, message: JointTrajectory) -> None:
        now_s = time.monotonic()
        self._advance(now_s)
        start = [self.position[joint] for joint in message.joint_names]
        self.commands.append((now_s, message))
        output = self.robot.file.command.outputs[0]
        self.audit.on_command(load_backend("joint_trajectory").read(message, output))
        self._playing[message.joint_names[0]] = (now_s, start, message)

    def _advance(self, now_s: float) -> None:
        """Be where the trajectories lead to by now."""
        for begin_s, start, message in self._playing.values():
            times = [0.0, *(_seconds(point.time_from_start) for point in message.points)]
            for i, joint in enumerate(message.joint_names):
                places = [start[i], *(point.positions[i] for point in message.points)]
                self.position[joint] = float(np.interp(now_s - begin_s, times, places))

    def _step(self) -> None:
        now_s = time.monotonic()
        before_s, self._stepped_s = self._stepped_s, now_s
        before = dict(self.position) if self._before is None else self._before
        self._advance(now_s)
        self._before = dict(self.position)
        for joint, place in self.position.items():
            self.velocity[joint] = (place - before[joint]) / (now_s - before_s)
        if self.is_paused:
            return
        message = JointState(
            name=list(self.position),
            position=list(self.position.values()),
            velocity=list(self.velocity.values()),
        )
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._states.publish(message)


class FakePolicy:
    """Proposes a slow swing of one joint, ten chunks a second, played by absolute time."""

    def __init__(self, graph, robot) -> None:
        self.node = graph.node
        self.robot = robot
        self.is_running = False
        self.poison = None
        self.disagreement = 0.0
        self.speaks_degrees = False
        self.last_end_s = 0.0
        self._sequence = 0
        self._episode = 0
        self._begin_ns = 0
        self._begin_at = 0.0
        self._publisher = self.node.create_publisher(
            ActionChunkMessage, "gate/input/action_chunk", COMMAND
        )
        self.node.create_timer(0.1, self._propose)

    def begin(self, at: float, wait_s: float = 0.0) -> None:
        """Begin an episode with the joint at some position (rad), where it waits for a while."""
        self._episode += 1
        self._begin_ns = self.now_ns() + round(wait_s * 1e9)
        self._begin_at = at
        self.poison = None
        self.disagreement = 0.0
        self.speaks_degrees = False
        self.is_running = True

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def _propose(self) -> None:
        if not self.is_running:
            return
        stamp_ns = self.now_ns()
        times = (stamp_ns - self._begin_ns) / 1e9 + np.arange(16) * self.robot.dt
        joints = np.tile(HOME, (16, 1))
        times = np.maximum(times, 0.0)
        swing = 0.4 if self._begin_at < 0 else -0.4
        joints[:, 0] = self._begin_at + swing * (1 - np.cos(2 * np.pi * times / 4))
        joints[:, 0] += self.disagreement * (-1) ** (self._sequence // 5)
        if self.speaks_degrees:
            joints = np.degrees(joints)
        actions = self.robot.channels_from_joints(joints)
        if self.poison is not None:
            actions[3, 5] = self.poison
        self._sequence += 1
        chunk = ActionChunk(
            stamp_ns=stamp_ns,
            dt=self.robot.dt,
            channels=self.robot.channels,
            actions=actions,
            sequence=self._sequence,
            episode=f"episode {self._episode}",
            embodiment=self.robot.name,
            embodiment_hash=self.robot.hash,
        )
        self._publisher.publish(chunk_to_message(chunk))
        self.last_end_s = time.monotonic() + 16 * self.robot.dt


class Operator:
    """Hears what the gate says, arms it and stops it."""

    def __init__(self, graph) -> None:
        self.graph = graph
        self.states: list[SafetyState] = []
        node = graph.node
        node.create_subscription(
            SafetyState, "gate/output/safety_state", self.states.append, LATCHED
        )
        self.stop_input = node.create_publisher(Bool, "gate/input/stop", COMMAND)
        self._arm = node.create_client(Trigger, "gate/arm")
        self._stop = node.create_client(Trigger, "gate/stop")

    @property
    def state(self) -> SafetyState:
        return self.states[-1]

    def call(self, client) -> Trigger.Response:
        assert self.graph.wait_for(client.service_is_ready, START_S)
        future = client.call_async(Trigger.Request())
        assert self.graph.wait_for(future.done, 5)
        return future.result()

    def arm(self, patience_s=START_S) -> str:
        """Arm as soon as the gate lets itself be armed; returns what it says."""
        deadline = time.monotonic() + patience_s
        while True:
            answer = self.call(self._arm)
            if answer.success or time.monotonic() > deadline:
                return answer.message
            time.sleep(0.1)

    def stop(self) -> None:
        assert self.call(self._stop).success

    def waits_for(self, level, cause=None, seconds=5.0) -> bool:
        return self.graph.wait_for(
            lambda: self.state.level == level and cause in (None, self.state.cause), seconds
        )


@pytest.fixture(scope="module")
def aloha(tmp_path_factory):
    """The robot, with patience for a driver that shares a busy machine with this test."""
    folder = tmp_path_factory.mktemp("robot")
    shutil.copytree(ROOT / "config" / "embodiments", folder / "config" / "embodiments")
    shutil.copytree(ROOT / "urdf", folder / "urdf")
    path = folder / "config" / "embodiments" / "aloha_sim.yaml"
    text = path.read_text()
    assert text.count("max_age_s: 0.2 ") == 1
    path.write_text(text.replace("max_age_s: 0.2 ", "max_age_s: 0.3 "))
    return load_embodiment(path)


@pytest.fixture(scope="module")
def shared_cell(shared_ros_graph, aloha):
    return Cell(shared_ros_graph, aloha)


@pytest.fixture
def cell(shared_cell):
    """A gate that runs, with all that it needs; the same for every test."""
    if shared_cell.gate.exit_status() is not None:
        shared_cell.start_gate()
    return shared_cell


class Cell:
    """Arms, a policy, an operator and the gate between them."""

    def __init__(self, graph, robot) -> None:
        self.graph = graph
        self.arms = FakeArms(graph, robot)
        self.policy = FakePolicy(graph, robot)
        self.operator = Operator(graph)
        self._robot = robot
        self.start_gate()

    def start_gate(self) -> None:
        self.gate = self.graph.start("gate", {"embodiment": str(self._robot.path)})

    def moves(self) -> None:
        """Be armed and in motion."""
        assert self.operator.arm() == "armed", self.gate.output
        self.policy.begin(self.arms.position[WAIST])
        assert self.graph.wait_for(lambda: self.arms.speed() > 0.2, 5), self.gate.output

    def rests(self) -> None:
        """Be stopped, with nothing pending."""
        self.policy.is_running = False
        self.arms.is_paused = False
        self.operator.stop_input.publish(Bool(data=False))
        self.operator.stop()
        assert self.graph.wait_for(self.arms.rests, 3)
        self.arms.commands.clear()


@pytest.fixture
def moving(cell):
    cell.rests()
    cell.moves()
    return cell


@pytest.fixture
def stranger(moving):
    """Another node, which nobody has asked to be there."""
    node = Node("stranger", context=moving.graph.node.context)
    yield node
    node.destroy_node()


def test_nothing_moves_and_nothing_is_said_to_a_controller_before_arming(cell):
    assert cell.operator.waits_for(SafetyState.STOP, "not_armed", START_S), cell.gate.output
    cell.policy.begin(0.0)
    assert cell.graph.wait_for(lambda: cell.operator.state.chunks_accepted > 5, 5)
    assert cell.arms.commands == []
    assert not cell.operator.state.armed


def test_an_armed_arm_moves_in_radians_and_stays_in_its_envelope(moving):
    begin = moving.arms.position[WAIST]
    time.sleep(1.0)
    assert abs(moving.arms.position[WAIST] - begin) > 0.3
    assert moving.arms.audit.commands > 80
    assert moving.arms.audit.violations == {}
    moving.operator.states.clear()
    assert moving.graph.wait_for(lambda: moving.operator.state.violations == 0, 2)
    assert moving.operator.state.level <= SafetyState.LIMITED
    for _, message in moving.arms.commands:
        assert message.header.stamp.nanosec % 20_000_000 == 0  # the grid, not the moment
        times = [_seconds(point.time_from_start) for point in message.points]
        assert times == sorted(set(times))
        assert times[-1] <= 0.2 + 1e-9
        assert not any(message.points[-1].velocities)


def test_chunks_that_disagree_are_led_over_and_leave_little_to_limit(moving):
    step = PERIOD_S * moving.arms.robot.file.safety.joints[WAIST].velocity
    moving.policy.disagreement = step  # twice that from one to the next
    time.sleep(0.3)
    before = moving.operator.state
    time.sleep(2.0)
    after = moving.operator.state
    assert after.ticks - before.ticks > 50
    # Taken as they are, these chunks would have a third of the commands limited. What is left to
    # them is for ticks that come late on a busy machine.
    assert after.ticks_limited - before.ticks_limited <= 0.1 * (after.ticks - before.ticks)
    assert moving.arms.audit.violations == {}


def test_a_policy_that_changes_to_degrees_is_not_followed_there(moving):
    begin = dict(moving.arms.position)
    moving.policy.speaks_degrees = True
    assert moving.operator.waits_for(SafetyState.STOP, "out_of_reach", 1.0)
    assert moving.graph.wait_for(moving.arms.rests, 2 * BRAKING_S + 0.2)
    went = [abs(place - begin[joint]) for joint, place in moving.arms.position.items()]
    assert max(went) < 0.5
    assert moving.arms.audit.violations == {}


def test_what_the_gate_thinks_is_on_the_diagnostics_with_its_cause(moving):
    heard = []
    subscription = moving.graph.node.create_subscription(
        DiagnosticArray, "/diagnostics", heard.append, 10
    )

    def says(level, message):
        return any(
            status.level == level and message in status.message and status.name == "/gate"
            for array in heard
            for status in array.status
        )

    assert moving.graph.wait_for(lambda: says(DiagnosticStatus.OK, "OK"), 3)
    moving.policy.is_running = False
    assert moving.graph.wait_for(lambda: says(DiagnosticStatus.WARN, "HOLD policy_silent: "), 3)
    moving.operator.stop()
    assert moving.graph.wait_for(lambda: says(DiagnosticStatus.ERROR, "STOP stop_request: "), 1)
    values = {value.key: value.value for value in heard[-1].status[0].values}
    assert values["cause"] == "stop_request"
    assert values["armed"] == "False"
    assert int(values["chunks accepted"]) > 0
    assert heard[-1].status[0].hardware_id == "aloha_sim"
    moving.graph.node.destroy_subscription(subscription)


def test_a_reject_is_told_at_once(moving):
    before = moving.operator.state.chunks_rejected
    moving.policy.poison = math.nan
    assert moving.graph.wait_for(lambda: moving.operator.state.chunks_rejected > before, 0.3)


def test_one_bad_chunk_is_rejected_and_the_motion_goes_on(moving):
    before = moving.operator.state.chunks_rejected
    moving.policy.poison = math.nan
    time.sleep(0.12)
    moving.policy.poison = None
    time.sleep(0.7)
    assert moving.operator.state.level <= SafetyState.LIMITED
    assert before < moving.operator.state.chunks_rejected <= before + 2


def test_a_policy_that_sends_nan_stops_the_arm_at_rest(moving):
    moving.policy.poison = math.nan
    assert moving.operator.waits_for(SafetyState.STOP, "chunks_rejected")
    assert "right_" in moving.operator.state.detail or "left_" in moving.operator.state.detail
    assert moving.graph.wait_for(moving.arms.rests, 2 * BRAKING_S + 0.2)
    assert moving.arms.audit.violations == {}


def test_a_policy_that_dies_ends_the_motion_soon_after_its_chunk(moving):
    moving.policy.is_running = False
    end_s = moving.policy.last_end_s
    assert moving.operator.waits_for(SafetyState.HOLD, "policy_silent")
    time.sleep(0.6)
    assert moving.arms.last_moving_s() <= end_s + 0.3
    # The gate itself goes on saying rest (W5).
    count = len(moving.arms.commands)
    time.sleep(0.3)
    assert len(moving.arms.commands) > count + 20
    # A policy that comes back far from the arm does not move it; one that begins there does.
    moving.policy.begin(moving.arms.position[WAIST] + 0.5)
    assert moving.operator.waits_for(SafetyState.HOLD, "start_jump")
    assert moving.arms.rests()
    moving.policy.begin(moving.arms.position[WAIST], wait_s=1.5)
    assert moving.graph.wait_for(lambda: moving.arms.speed() > 0.1, 4), moving.gate.output


def test_the_stop_service_brings_the_arm_to_rest(moving):
    moving.operator.stop()
    asked_s = time.monotonic()
    assert moving.operator.waits_for(SafetyState.STOP, "stop_request")
    time.sleep(0.5)
    assert moving.arms.last_moving_s() - asked_s <= 2 * PERIOD_S + BRAKING_S + 0.05
    assert moving.arms.rests()
    assert not moving.operator.state.armed


def test_the_stop_input_stops_and_its_release_moves_nothing(moving):
    moving.operator.stop_input.publish(Bool(data=True))
    asked_s = time.monotonic()
    assert moving.operator.waits_for(SafetyState.STOP, "stop_input")
    answer = moving.operator.arm(patience_s=1.5)
    assert answer == "not armed: the stop input is asserted"
    moving.operator.stop_input.publish(Bool(data=False))
    time.sleep(0.5)
    assert moving.arms.last_moving_s() - asked_s <= 2 * PERIOD_S + BRAKING_S + 0.05
    assert moving.operator.state.level == SafetyState.STOP


def test_a_press_between_releases_that_one_tick_hears_at_once_stops_the_arm(moving):
    words = [False] * 20 + [True] + [False] * 20
    for word in words:  # within a millisecond or two
        moving.operator.stop_input.publish(Bool(data=word))
    assert moving.operator.waits_for(SafetyState.STOP, "stop_input", 1)


def test_joint_states_that_stop_stop_the_arm(moving):
    moving.arms.is_paused = True
    assert moving.operator.waits_for(SafetyState.STOP, "joint_states_stale", 1.5)
    time.sleep(0.4)
    last = moving.arms.commands[-1][1].points[-1]
    assert not any(last.velocities)


def test_a_second_publisher_on_a_command_topic_stops_the_arm(moving):
    node = moving.graph.node
    intruder = node.create_publisher(JointTrajectory, "left_arm_controller/joint_trajectory", 1)
    try:
        assert moving.operator.waits_for(SafetyState.STOP, "intruder", 3)
        assert "witness" in moving.operator.state.detail
    finally:
        node.destroy_publisher(intruder)


def test_an_intruder_that_is_gone_after_100_ms_has_stopped_the_arm(moving, stranger):
    intruder = stranger.create_publisher(
        JointTrajectory, "left_arm_controller/joint_trajectory", 1
    )
    time.sleep(0.1)
    stranger.destroy_publisher(intruder)
    assert moving.operator.waits_for(SafetyState.STOP, "intruder", 0.3)
    assert "/stranger publishes" in moving.operator.state.detail


@pytest.mark.parametrize("rate_hz", [2, 20])
def test_a_second_policy_is_not_played_and_stops_the_arm_by_its_name(moving, stranger, rate_hz):
    policy = stranger.create_publisher(ActionChunkMessage, "gate/input/action_chunk", COMMAND)
    robot, home = moving.arms.robot, np.tile(HOME, (16, 1))
    accepted = moving.operator.state.chunks_accepted
    try:
        for k in range(2 * rate_hz):
            chunk = ActionChunk(
                stamp_ns=moving.policy.now_ns(),
                dt=robot.dt,
                channels=robot.channels,
                actions=robot.channels_from_joints(home) * np.nan,
                sequence=k + 1,
                episode="another one's",
                embodiment=robot.name,
                embodiment_hash=robot.hash,
            )
            policy.publish(chunk_to_message(chunk))
            if moving.operator.waits_for(SafetyState.STOP, seconds=1 / rate_hz):
                break
        assert moving.operator.state.cause == "policy_conflict"
        assert moving.operator.state.detail.startswith("/stranger sends chunks beside /witness")
        assert moving.operator.state.chunks_accepted >= accepted
    finally:
        stranger.destroy_publisher(policy)


def test_a_button_that_is_held_is_not_released_by_another_one(moving, stranger):
    second = stranger.create_publisher(Bool, "gate/input/stop", COMMAND)
    first = moving.graph.node.create_publisher(Bool, "gate/input/stop", COMMAND)
    assert moving.graph.wait_for(lambda: first.get_subscription_count() == 1, 2)
    assert moving.graph.wait_for(lambda: second.get_subscription_count() == 1, 2)
    time.sleep(0.3)
    first.publish(Bool(data=True))
    assert moving.operator.waits_for(SafetyState.STOP, "stop_input", 0.5)
    for _ in range(15):
        second.publish(Bool(data=False))
        time.sleep(0.1)
    assert moving.operator.arm(patience_s=0) == "not armed: the stop input is asserted"
    moving.graph.node.destroy_publisher(first)
    for _ in range(15):
        second.publish(Bool(data=False))
        time.sleep(0.1)
    assert "asserted by a publisher that is gone" in moving.operator.arm(patience_s=0)
    stranger.destroy_publisher(second)
    third = stranger.create_publisher(Bool, "gate/input/stop", COMMAND)
    assert moving.graph.wait_for(lambda: third.get_subscription_count() == 1, 2)
    time.sleep(0.3)
    third.publish(Bool(data=False))
    time.sleep(1.3)
    assert moving.operator.arm(patience_s=1) == "armed"
    stranger.destroy_publisher(third)


def test_a_driver_that_leaves_stops_the_arm_by_that_name(moving):
    moving.arms.leave()
    left_s = time.monotonic()
    try:
        assert moving.operator.waits_for(SafetyState.STOP, "driver_gone", 0.5)
        assert time.monotonic() - left_s < 0.5
    finally:
        moving.arms.come_back()


def test_a_second_publisher_of_joint_states_stops_the_arm(moving):
    node = moving.graph.node
    double = node.create_publisher(JointState, "joint_states", STATE)
    try:
        assert moving.operator.waits_for(SafetyState.STOP, "state_conflict", 3)
    finally:
        node.destroy_publisher(double)


def test_deactivating_brakes_and_activating_again_does_not_arm(moving):
    node = moving.graph.node
    client = node.create_client(ChangeState, "gate/change_state")

    def change(transition):
        assert moving.graph.wait_for(client.service_is_ready, 5)
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        assert moving.graph.wait_for(future.done, 5)
        return future.result().success

    assert change(Transition.TRANSITION_DEACTIVATE)
    assert moving.operator.waits_for(SafetyState.STOP, "deactivated")
    time.sleep(0.6)
    assert moving.arms.rests()
    assert "not active" in moving.operator.arm(patience_s=0.1)
    assert change(Transition.TRANSITION_ACTIVATE)
    time.sleep(0.3)
    assert moving.operator.state.level == SafetyState.STOP
    assert moving.arms.rests()


def test_an_interrupt_brings_the_arm_to_rest_and_ends_well(cell):
    cell.rests()
    cell.moves()
    assert cell.gate.interrupt(START_S) == 0
    time.sleep(0.3)
    assert cell.arms.rests()
    assert not any(cell.arms.commands[-1][1].points[0].velocities)
    assert cell.arms.audit.violations == {}


def test_a_killed_gate_leaves_a_motion_that_ends_by_itself(ros_graph, aloha):
    cell = Cell(ros_graph, aloha)
    cell.moves()
    cell.gate.send_signal(signal.SIGKILL)
    killed_s = time.monotonic()
    assert ros_graph.wait_for(cell.arms.rests, 1.0)
    assert time.monotonic() - killed_s <= 0.2 + 3 * PERIOD_S


def test_a_gate_that_nobody_listens_to_refuses_with_a_sentence(ros_graph, aloha):
    node = ros_graph.node
    states = node.create_publisher(JointState, "joint_states", STATE)
    gate = ros_graph.start("gate", {"embodiment": str(aloha.path)})
    operator = Operator(ros_graph)
    sentence = (
        "cannot activate: command topic '/left_arm_controller/joint_trajectory' has no subscriber."
    )
    assert gate.wait_for_line(sentence, START_S), gate.output
    # Nor does it say that it only waits to be armed.
    assert operator.waits_for(SafetyState.STOP, "not_active", 1)
    assert operator.state.detail.startswith("the gate is not active; cannot activate: command")
    assert "waiting to be armed" not in gate.output
    elsewhere = type(ros_graph)()  # one participant cannot have two types on a topic
    wrong = "left_arm_controller/joint_trajectory"
    elsewhere.node.create_subscription(String, wrong, lambda _: None, 1)
    assert gate.wait_for_line("expected trajectory_msgs/msg/JointTrajectory", 5), gate.output
    elsewhere.close()
    # With listeners, joint states are still missing; and with those, nothing is.
    FakeArms(ros_graph, aloha).is_paused = True
    assert gate.wait_for_line("nothing usable came on 'joint_states' yet", 5), gate.output
    node.destroy_publisher(states)


def test_with_a_second_gate_neither_lets_itself_be_armed(ros_graph, aloha):
    cell = Cell(ros_graph, aloha)
    second = ros_graph.start("gate", {"embodiment": str(aloha.path)})

    def is_known():
        return "another publisher" in cell.gate.output + second.output or (
            "a second gate publishes" in cell.operator.state.detail
        )

    # Whichever of both sees the other first; it depends on when each has discovered whom.
    assert ros_graph.wait_for(is_known, START_S), cell.gate.output + second.output
    time.sleep(1.0)
    for _ in range(4):
        answer = cell.operator.arm(patience_s=0.1)
        assert "another publisher" in answer or "a second gate publishes" in answer


def test_the_gate_process_knows_no_model_nor_simulator():
    code = (
        "import sys, qwen_vla_ros.nodes.gate\n"
        "from qwen_vla_ros.embodiment.backend import BACKENDS, load_backend\n"
        "from qwen_vla_ros.embodiment.load import load_embodiment\n"
        "from qwen_vla_ros.plugins import plugin_names\n"
        "load_embodiment('aloha_sim')\n"
        "[load_backend(name) for name in plugin_names(BACKENDS)]\n"
        "print(*sys.modules)\n"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "qwen_vla_ros.safety.gate" in loaded
    # The folders of plugins are looked into, for their names.
    for folder in ("sim.worlds", "serving.dialects"):
        loaded -= {f"qwen_vla_ros.{folder}", f"qwen_vla_ros.{folder.partition('.')[0]}"}
    rooms = ("model", "checkpoint", "policy", "training", "serving", "sim")
    heavy = {"torch", "transformers", "mujoco"}
    heavy |= {f"qwen_vla_ros.{room}" for room in rooms}
    assert {name for name in loaded if any(f"{name}.".startswith(f"{h}.") for h in heavy)} == set()


def _seconds(duration) -> float:
    return duration.sec + duration.nanosec * 1e-9
