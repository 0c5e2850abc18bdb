"""The policy node as a real process, against a driver with the true topics and types."""

import time
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from qwen_vla_msgs.action import ExecuteInstruction
from qwen_vla_msgs.msg import ActionChunk, SafetyState, TaskStatus
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from qwen_vla_ros.cli.init import init
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.execution.commitment import committed_values
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.ros.conversions import chunk_from_message
from qwen_vla_ros.ros.images import image_to_message
from qwen_vla_ros.ros.qos import COMMAND, LATCHED, SENSOR, STATE

pytestmark = pytest.mark.ros

INSTRUCTION = "go to the red ball"
START_S = 60.0
"""Loading a model takes seconds, and more on a busy machine."""


class FakeDriver:
    """Publishes what a robot's driver publishes; single streams can be paused."""

    def __init__(self, graph, robot) -> None:
        self.node = graph.node
        self.robot = robot
        self.paused: set[str] = set()
        self.speed = 0.0
        self._x = 0.0
        example = robot.make_example()
        self._images = {camera.topic: example.images[camera.name] for camera in robot.file.cameras}
        self.frame_ids = {camera.topic: camera.frame_id for camera in robot.file.cameras}
        self._cameras = {
            camera.topic: self.node.create_publisher(Image, camera.topic, SENSOR)
            for camera in robot.file.cameras
        }
        self._positions = robot.joints_from_channels(example.state) if robot.joints else None
        kind = Odometry if robot.has_base else JointState
        self._state = self.node.create_publisher(kind, robot.file.state[0].topic, STATE)
        self.node.create_timer(1 / 15, self._publish_cameras)
        self.node.create_timer(1 / 50, self._publish_state)

    def now(self) -> Time:
        return self.node.get_clock().now().to_msg()

    def look_elsewhere(self) -> None:
        """Show other pictures from now on."""
        self._images = {topic: image[::-1].copy() for topic, image in self._images.items()}

    def _publish_cameras(self) -> None:
        stamp = self.now()
        for topic, publisher in self._cameras.items():
            frame_id = self.frame_ids[topic]
            if topic not in self.paused:
                publisher.publish(image_to_message(self._images[topic], stamp, frame_id))

    def _publish_state(self) -> None:
        if self.robot.has_base:
            message = Odometry()
            self._x += self.speed / 50
            message.pose.pose.position.x = self._x
            message.pose.pose.orientation.w = 1.0
        else:
            message = JointState(name=list(self.robot.joints), position=self._positions.tolist())
        message.header.stamp = self.now()
        self._state.publish(message)


class FakeGate:
    """A gate that says its state again and again, once it has said it."""

    def __init__(self, node) -> None:
        self.state: SafetyState | None = None
        self._publisher = node.create_publisher(SafetyState, "policy/input/safety_state", LATCHED)
        node.create_timer(0.2, self._repeat)

    def publish(self, state: SafetyState) -> None:
        self.state = state
        self._publisher.publish(state)

    def _repeat(self) -> None:
        if self.state is not None:
            self._publisher.publish(self.state)


class Client:
    """Watches what the policy says and sends it goals."""

    def __init__(self, graph) -> None:
        self.graph = graph
        self.chunks: list[ActionChunk] = []
        self.feedback: list[ExecuteInstruction.Feedback] = []
        self.handles: list[ClientGoalHandle] = []
        self.prompt = ""
        node = graph.node
        node.create_subscription(
            ActionChunk, "policy/output/action_chunk", self.chunks.append, COMMAND
        )
        node.create_subscription(String, "policy/output/prompt", self._on_prompt, LATCHED)
        self.judge = node.create_publisher(TaskStatus, "policy/input/task_status", SENSOR)
        self.gate = FakeGate(node)
        self.action = ActionClient(node, ExecuteInstruction, "execute_instruction")

    def _on_prompt(self, message: String) -> None:
        self.prompt = message.data

    def moving_chunks(self) -> list[ActionChunk]:
        return [chunk for chunk in self.chunks if not chunk.rest]

    def forget(self) -> None:
        """Start a test of its own: no chunks, no feedback, and goals far enough apart."""
        self.chunks.clear()
        self.feedback.clear()
        time.sleep(0.6)

    def send(self, instruction=INSTRUCTION, time_limit_s=20.0, patience_s=20.0):
        """Send a goal until it is accepted; a node that is not active yet refuses."""
        assert self.graph.wait_for(self.action.server_is_ready, START_S)
        goal = ExecuteInstruction.Goal(instruction=instruction, time_limit_s=time_limit_s)
        deadline = time.monotonic() + patience_s
        while True:
            future = self.action.send_goal_async(
                goal, feedback_callback=lambda message: self.feedback.append(message.feedback)
            )
            assert self.graph.wait_for(future.done, 5)
            if future.result().accepted:
                self.handles.append(future.result())
            if future.result().accepted or time.monotonic() > deadline:
                return future.result()
            time.sleep(0.6)

    def result_of(self, handle, seconds=10.0):
        future = handle.get_result_async()
        assert self.graph.wait_for(future.done, seconds)
        return future.result().result


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "nano"
    init("nano", folder, ["aloha_sim", "diffbot_sim"], 0)
    return folder


@pytest.fixture(scope="module")
def diffbot():
    return load_embodiment("diffbot_sim")


@pytest.fixture(scope="module")
def policy(shared_ros_graph, diffbot, checkpoint):
    return start_policy(shared_ros_graph, diffbot, checkpoint)


@pytest.fixture(scope="module")
def shared_driver(shared_ros_graph, diffbot):
    return FakeDriver(shared_ros_graph, diffbot)


@pytest.fixture(scope="module")
def shared_client(shared_ros_graph):
    return Client(shared_ros_graph)


@pytest.fixture
def driver(shared_driver):
    yield shared_driver
    shared_driver.paused.clear()
    shared_driver.speed = 0.0


@pytest.fixture
def client(shared_client, driver, policy):  # noqa: ARG001 - the driver must publish
    shared_client.forget()
    assert policy.exit_status() is None
    yield shared_client
    for handle in shared_client.handles:
        handle.cancel_goal_async()
    shared_client.handles.clear()


class Arms:
    """Two arms and a policy for them, which takes ten seconds to start."""

    def __init__(self, graph, robot, checkpoint) -> None:
        self.graph = graph
        self.robot = robot
        self.told: list[DiagnosticStatus] = []
        self.driver, self.client = FakeDriver(graph, robot), Client(graph)
        graph.node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda message: self.told.extend(message.status), 10
        )
        self._checkpoint = checkpoint
        self.start_policy()

    def start_policy(self) -> None:
        self.policy = start_policy(self.graph, self.robot, self._checkpoint)


@pytest.fixture(scope="module")
def shared_arms(open_ros_graph, checkpoint):
    with open_ros_graph() as graph:
        yield Arms(graph, load_embodiment("aloha_sim"), checkpoint)


@pytest.fixture
def arms(shared_arms):
    """The same arms for every test, before a gate that is armed."""
    if shared_arms.policy.exit_status() is not None:
        shared_arms.start_policy()
    shared_arms.client.forget()
    shared_arms.told.clear()
    shared_arms.client.gate.publish(SafetyState(level=SafetyState.OK, armed=True))
    yield shared_arms
    shared_arms.driver.paused.clear()
    for handle in shared_arms.client.handles:
        handle.cancel_goal_async()
    shared_arms.client.handles.clear()


def start_policy(graph, robot, checkpoint):
    return graph.start(
        "policy",
        {
            "embodiment": str(robot.path),
            "policy": "qwen_vla",
            "checkpoint": str(checkpoint),
            "seed": 0,
        },
    )


def test_a_camera_that_never_came_is_named_and_goals_are_refused(
    shared_client, shared_driver, policy
):
    shared_driver.paused.add("front/image_raw")
    assert policy.wait_for_line("cannot activate: 'front' never came", START_S)
    assert not shared_client.send(patience_s=0).accepted
    declared = shared_driver.frame_ids["front/image_raw"]
    shared_driver.frame_ids["front/image_raw"] = "rear"
    shared_driver.paused.clear()
    assert policy.wait_for_line(f"with frame_id 'rear' instead of '{declared}' refused", 5)
    assert not shared_client.send(patience_s=0).accepted
    shared_driver.frame_ids["front/image_raw"] = declared
    handle = shared_client.send()
    assert handle.accepted
    handle.cancel_goal_async()


def check_chunks(graph, client, robot):
    """The claims about chunks that hold for every robot."""
    begin_ns = graph.node.get_clock().now().nanoseconds
    assert client.send().accepted
    assert graph.wait_for(lambda: len(client.moving_chunks()) >= 3, 15)
    first, second = client.moving_chunks()[:2]
    assert tuple(first.channels) == robot.channels
    assert len(first.actions) == robot.file.prompt.action_horizon * len(robot.channels)
    assert np.isfinite(first.actions).all()
    assert first.embodiment_hash == robot.hash
    assert first.dt == pytest.approx(robot.dt)
    stamp_ns = first.header.stamp.sec * 10**9 + first.header.stamp.nanosec
    assert stamp_ns > begin_ns - robot.file.cameras[0].max_age_s * 1e9
    assert second.sequence == first.sequence + 1
    assert client.prompt == build_prompt(robot, INSTRUCTION).text
    assert graph.wait_for(lambda: any("backbone" in f.stages for f in client.feedback), 5)


def test_the_model_drives_a_base(shared_ros_graph, client, diffbot):
    check_chunks(shared_ros_graph, client, diffbot)


def test_a_cancel_ends_the_episode_with_a_rest_chunk(shared_ros_graph, client):
    handle = client.send()
    assert shared_ros_graph.wait_for(client.moving_chunks, 10)
    handle.cancel_goal_async()
    assert client.result_of(handle).outcome == ExecuteInstruction.Result.CANCELED
    assert shared_ros_graph.wait_for(lambda: client.chunks[-1].rest, 2)


def test_a_camera_that_stops_is_told_as_the_reason_to_hold(shared_ros_graph, client, driver):
    client.send()
    assert shared_ros_graph.wait_for(client.moving_chunks, 10)
    driver.paused.add("front/image_raw")
    assert shared_ros_graph.wait_for(lambda: "'front' is" in client.feedback[-1].hold_reason, 5)
    count = len(client.chunks)
    time.sleep(1.0)
    assert len(client.chunks) == count
    driver.paused.clear()
    assert shared_ros_graph.wait_for(lambda: len(client.chunks) > count, 5)


def test_a_camera_that_repeats_itself_while_the_robot_moves_is_told(
    shared_ros_graph, client, driver
):
    told: list[DiagnosticStatus] = []
    shared_ros_graph.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda message: told.extend(message.status), 10
    )
    client.send()
    assert shared_ros_graph.wait_for(client.moving_chunks, 10)
    time.sleep(1.0)
    assert not any("frozen" in feedback.hold_reason for feedback in client.feedback)
    driver.speed = 0.5
    frozen = "'front' is frozen"
    assert shared_ros_graph.wait_for(lambda: frozen in client.feedback[-1].hold_reason, 5)
    driver.speed = 0.0
    count = len(client.chunks)
    assert shared_ros_graph.wait_for(
        lambda: frozen in told[-1].message and told[-1].level == DiagnosticStatus.WARN, 5
    )
    assert len(client.chunks) == count
    driver.look_elsewhere()
    assert shared_ros_graph.wait_for(lambda: len(client.chunks) > count, 5)


def test_the_judges_yes_ends_the_episode_with_success(shared_ros_graph, client):
    handle = client.send()
    assert shared_ros_graph.wait_for(client.moving_chunks, 10)
    client.judge.publish(TaskStatus(instruction="another one", success=True))
    time.sleep(0.3)
    client.judge.publish(TaskStatus(instruction=INSTRUCTION, target="red_ball", success=True))
    result = client.result_of(handle)
    assert result.outcome == ExecuteInstruction.Result.SUCCEEDED
    assert "red_ball" in result.why


def test_a_latched_gate_aborts_the_goal_with_its_cause(shared_ros_graph, client):
    handle = client.send()
    assert shared_ros_graph.wait_for(client.moving_chunks, 10)
    client.gate.publish(SafetyState(level=SafetyState.STOP, cause="stop_input", detail="pressed"))
    result = client.result_of(handle)
    assert result.outcome == ExecuteInstruction.Result.ABORTED
    assert "stop_input: pressed" in result.why
    client.gate.publish(SafetyState(level=SafetyState.OK, armed=True))


def test_a_gate_that_falls_silent_ends_the_episode_within_a_second(shared_ros_graph, client):
    client.gate.publish(SafetyState(level=SafetyState.OK, armed=True))
    handle = client.send()
    assert shared_ros_graph.wait_for(client.moving_chunks, 10)
    time.sleep(0.5)
    client.gate.state = None
    silent_s = time.monotonic()
    result = client.result_of(handle)
    assert time.monotonic() - silent_s < 1.0
    assert result.outcome == ExecuteInstruction.Result.ABORTED
    assert result.why == "the gate is silent: not a word of it for 0.7 s"
    assert shared_ros_graph.wait_for(lambda: client.chunks[-1].rest, 1)
    count = len(client.chunks)
    time.sleep(0.5)
    assert len(client.chunks) == count
    client.gate.publish(SafetyState(level=SafetyState.OK, armed=True))


def test_a_newer_instruction_takes_over_with_a_new_episode(shared_ros_graph, client):
    first = client.send()
    assert shared_ros_graph.wait_for(client.moving_chunks, 10)
    old = client.chunks[-1].episode
    time.sleep(0.6)
    client.send("go to the blue box")
    assert "a newer instruction took over" in client.result_of(first).why
    assert shared_ros_graph.wait_for(lambda: client.chunks[-1].episode != old, 5)
    begun = next(i for i, chunk in enumerate(client.chunks) if chunk.episode != old)
    assert all(chunk.episode != old for chunk in client.chunks[begun:])


@pytest.mark.parametrize("instruction", ["", "   \n", "x" * 3000])
def test_an_instruction_that_says_nothing_or_too_much_is_refused(client, instruction):
    assert not client.send(instruction, patience_s=0).accepted


def test_stage_latencies_are_told_on_diagnostics_and_so_is_a_shortage(arms):
    client, told = arms.client, arms.told
    assert client.send(patience_s=START_S).accepted
    assert arms.graph.wait_for(lambda: len(client.moving_chunks()) >= 3, 15)
    assert arms.graph.wait_for(lambda: "age p50/p95 [ms]" in values_of(told[-1]), 5)
    stages = ("capture", "convert", "preprocess", "backbone", "decode", "publish", "infer", "age")
    p50, p95 = np.array(
        [values_of(told[-1])[f"{stage} p50/p95 [ms]"].split(" / ") for stage in stages], float
    ).T
    # How long a stage takes is the machine's business; a quick one is told as 0.0.
    assert (p50 >= 0).all()
    assert (p50 <= p95).all()
    # Cameras that pause for longer than a chunk lasts leave the gate with nothing to play.
    for _ in range(5):
        arms.driver.paused.update(camera.topic for camera in arms.robot.file.cameras)
        time.sleep(0.6)
        arms.driver.paused.clear()
        count = len(client.chunks)
        assert arms.graph.wait_for(lambda count=count: len(client.chunks) > count, 5)
    shortage = "chunks run dry: one plays until 320 ms"
    assert arms.graph.wait_for(lambda: told[-1].message.startswith(shortage), 5)
    assert told[-1].level == DiagnosticStatus.WARN


def values_of(status):
    return {value.key: value.value for value in status.values}


def largest_disagreements(messages):
    """How far each chunk begins from what the one before says for the same times."""
    chunks = [chunk_from_message(message) for message in messages]
    largest = []
    for old, new in pairwise(chunks):
        played = committed_values(old, new.stamp_ns, 3, 0.5)
        if played is not None:
            largest.append(np.abs(new.actions[: len(played)] - played).max())
    return largest


def test_while_the_gate_plays_a_chunk_begins_with_what_is_played_of_the_last(arms):
    client = arms.client
    assert client.send(patience_s=START_S).accepted
    assert arms.graph.wait_for(lambda: len(client.moving_chunks()) >= 14, 15)
    # What was seen before the robot moved, while the first answer was on its way, is played later
    # than its stamp says.
    played = largest_disagreements(client.moving_chunks()[5:])
    assert len(played) >= 3
    # On a busy machine an answer may come when its predecessor is over, and continue nothing.
    assert np.median(played) < 1e-5
    client.gate.publish(SafetyState(level=SafetyState.HOLD, cause="clock_paused"))
    time.sleep(0.5)
    client.chunks.clear()
    assert arms.graph.wait_for(lambda: len(client.moving_chunks()) >= 8, 15)
    held = largest_disagreements(client.moving_chunks())
    assert len(held) >= 3
    assert min(held) > 1e-2


def test_the_same_weights_move_two_arms_and_sigint_ends_the_episode(arms):
    check_chunks(arms.graph, arms.client, arms.robot)
    result = arms.client.handles[-1].get_result_async()
    assert arms.policy.interrupt(seconds=15) == 0
    assert arms.graph.wait_for(result.done, 2)
    assert result.result().result.why == "the policy was deactivated"
    assert arms.client.chunks[-1].rest


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"embodiment": "no_such_robot", "policy": "expert"}, "no_such_robot"),
        ({"policy": "expert"}, "parameter embodiment is required"),
        ({"embodiment": "diffbot_sim", "policy": "exprt"}, "Did you mean 'expert'"),
        (
            {"embodiment": "diffbot_sim", "policy": "qwen_vla"},
            "checkpoint: policy 'qwen_vla' needs one",
        ),
        (
            {"embodiment": "diffbot_sim", "policy": "qwen_vla", "checkpoint": "/nowhere"},
            "/nowhere",
        ),
    ],
)
def test_a_wrong_parameter_ends_the_process_with_one_sentence(ros_graph, parameters, sentence):
    policy = ros_graph.start("policy", parameters)
    assert policy.wait_for_line(sentence, START_S)
    assert ros_graph.wait_for(lambda: policy.exit_status() == 2, 10)
    assert "Traceback" not in policy.output
