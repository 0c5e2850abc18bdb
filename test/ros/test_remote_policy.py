"""The whole simulated robot, its policy on a server in another process: what if that is lost."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")

from qwen_vla_msgs.action import ExecuteInstruction
from qwen_vla_msgs.msg import SafetyState

from qwen_vla_ros.bringup import Bringup

pytestmark = pytest.mark.ros

MOVING = 0.1
"""rad/s; the mock's swing reaches 0.2."""
RECONNECT_S = 5.0
BUSY_S = 10.0
"""What a busy machine may add."""


class Server:
    """A mock server in a process of its own."""

    def __init__(self, *options: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "qwen_vla_ros.cli.main", "serve", "--policy", "mock"]
        self.process = subprocess.Popen(
            [
                *command,
                "--robot",
                "aloha_sim",
                "--motion",
                "sine",
                "--listen",
                f"openpi:{port}",
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        found = re.search(r"ws://127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        assert found
        self.port = int(found[1])

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.communicate(timeout=20)


@pytest.fixture
def swinging(ros_graph):
    """Starts a server and a robot that asks it; returns both once the arms move."""
    servers: list[Server] = []

    def start(*options: str, seconds: float = 60.0):
        server = Server(*options)
        servers.append(server)
        uri = f"ws://127.0.0.1:{server.port}"
        processes = ros_graph.bring_up(Bringup(robot="aloha_sim", policy="remote", server=uri))
        witness = ros_graph.observe_arms(BUSY_S)
        witness.policy = processes["policy"]
        assert ros_graph.wait_for(witness.action.server_is_ready, 40)
        assert processes["policy"].wait_for_line("[policy]: active", 40)
        assert ros_graph.wait_for(lambda: ros_graph.call("gate/arm").success, 20)
        goal = witness.send_goal("swing gently", seconds)
        assert ros_graph.wait_for(lambda: witness.is_moving(MOVING), 10 + BUSY_S), processes[
            "policy"
        ].output
        return server, witness, goal

    def again(port: int) -> Server:
        servers.append(Server(port=port))
        return servers[-1]

    yield start, again
    for server in servers:
        server.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_arms_rest_when_the_server_is_lost_and_go_on_when_it_is_back(ros_graph, swinging, number):
    start, again = swinging
    server, witness, _ = start()
    server.process.send_signal(number)
    assert ros_graph.wait_for(lambda: witness.safety.cause == "policy_silent", 3 + BUSY_S)
    time.sleep(1.0)
    assert witness.speeds[-1][0] > witness.chunk_end_s + 0.8  # somebody still measures
    assert witness.last_motion_s() - witness.chunk_end_s < 0.3
    assert witness.safety.level == SafetyState.HOLD
    assert witness.policy.wait_for_line("connection lost", BUSY_S)
    if number == signal.SIGKILL:
        server.process.wait(10)
        again(server.port)
    else:
        server.process.send_signal(signal.SIGCONT)
    assert ros_graph.wait_for(lambda: witness.is_moving(MOVING), RECONNECT_S + BUSY_S)
    assert witness.safety.violations == 0


def test_a_half_open_server_is_left_and_asked_again(ros_graph, swinging):
    start, _ = swinging
    _, witness, _ = start("--fault", "half_open", "--fault-after", "30", "--fault-every", "100000")
    assert witness.policy.wait_for_line("connection lost: nothing within", 20 + BUSY_S)
    at = witness.chunks
    assert ros_graph.wait_for(lambda: witness.chunks > at + 10, RECONNECT_S + BUSY_S)
    assert ros_graph.wait_for(lambda: witness.is_moving(MOVING), 5 + BUSY_S)
    assert witness.safety.armed
    assert witness.safety.violations == 0


def test_a_server_that_falls_silent_every_time_ends_the_episode_at_rest(ros_graph, swinging):
    start, _ = swinging
    _, witness, goal = start("--fault", "half_open", "--fault-after", "30")
    result = goal.get_result_async()
    assert ros_graph.wait_for(result.done, 30 + BUSY_S)
    assert result.result().result.outcome == ExecuteInstruction.Result.ABORTED
    assert "inference failed" in result.result().result.why
    ended_s = witness.now_s()
    time.sleep(1.0)
    assert witness.last_motion_s(ended_s) - ended_s < 0.5
    assert witness.safety.violations == 0


def test_a_server_that_is_back_arms_nothing(ros_graph, swinging):
    start, again = swinging
    server, witness, _ = start()
    server.process.kill()
    server.process.wait(10)
    assert ros_graph.wait_for(lambda: witness.safety.cause == "policy_silent", 3 + BUSY_S)
    assert ros_graph.call("gate/stop").success
    assert ros_graph.wait_for(lambda: witness.safety.level == SafetyState.STOP, BUSY_S)
    time.sleep(0.5)
    stopped_s, chunks = witness.now_s(), witness.chunks
    again(server.port)
    deadline_s = time.monotonic() + RECONNECT_S + BUSY_S
    while witness.chunks < chunks + 3:  # the server answers again
        assert time.monotonic() < deadline_s
        witness.send_goal("swing gently", 5.0)
        time.sleep(1.0)
    assert witness.last_motion_s(stopped_s) == stopped_s
    assert not witness.safety.armed
    assert ros_graph.wait_for(lambda: ros_graph.call("gate/arm").success, 20)
    witness.send_goal("swing gently", 20.0)
    assert ros_graph.wait_for(lambda: witness.is_moving(MOVING), BUSY_S)


def test_a_policy_that_is_there_before_its_server_waits_for_it(ros_graph):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    bringup = Bringup(robot="aloha_sim", policy="remote", server=f"ws://127.0.0.1:{port}")
    policy = ros_graph.bring_up(bringup)["policy"]
    assert policy.wait_for_line("it cannot be reached", 30)
    server = Server(port=port)
    try:
        assert policy.wait_for_line("[policy]: active", 30)
    finally:
        server.close()


def test_a_server_for_another_robot_keeps_the_policy_from_being_configured(ros_graph):
    server = Server()
    try:
        uri = f"ws://127.0.0.1:{server.port}"
        specs = Bringup(robot="diffbot_sim", policy="remote", server=uri).nodes()
        (policy,) = (spec for spec in specs if spec.name == "policy")
        process = ros_graph.start("policy", policy.parameters)
        assert process.wait_for_line("cannot configure", 30)
        assert "serves robot 'aloha_sim', this is 'diffbot_sim'" in process.output
        assert "Traceback" not in process.output
    finally:
        server.close()
