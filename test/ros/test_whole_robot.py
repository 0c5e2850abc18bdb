"""Policy, gate and simulator together, as real processes: what happens when one is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from qwen_vla_msgs.msg import SafetyState

from qwen_vla_ros.bringup import Bringup

pytestmark = pytest.mark.ros

COMMAND = (sys.executable, "-m", "qwen_vla_ros.cli.main")
MOVING = 0.3
"""rad/s; a hand-over is much faster."""


@pytest.fixture
def moving_arms(ros_graph):
    """A simulated ALOHA in the middle of a hand-over, its processes, and an observer."""
    processes = ros_graph.bring_up(Bringup(robot="aloha_sim", policy="expert"))
    observer = ros_graph.observe_arms()
    assert ros_graph.wait_for(observer.action.server_is_ready, 40)
    assert processes["policy"].wait_for_line("[policy]: active", 40)
    assert ros_graph.wait_for(lambda: ros_graph.call("gate/arm").success, 20)
    observer.send_goal("hand over the red cube", 30.0)
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
    processes["gate"].send_signal(signal.SIGKILL)
    killed_s = observer.now_s()
    time.sleep(1.0)
    # 200 ms of commanded motion, and what the simulated servos lag behind it.
    assert observer.last_motion_s() - killed_s < 0.35


def test_a_stop_rests_the_arms_and_only_an_arming_ends_it(ros_graph, moving_arms):
    _, observer = moving_arms
    stopped_s = observer.now_s()
    assert ros_graph.call("gate/stop").success
    assert ros_graph.wait_for(lambda: observer.safety.cause == "stop_request", 1)
    time.sleep(1.2)
    assert observer.last_motion_s() - stopped_s < 0.5
    assert not observer.safety.armed
    assert ros_graph.call("gate/arm").success


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_driver_that_is_lost_in_motion_stops_the_gate_in_half_a_second_by_its_name(
    ros_graph, moving_arms, number
):
    processes, observer = moving_arms
    processes["simulator"].send_signal(number)
    killed_s = time.monotonic()
    assert ros_graph.wait_for(lambda: observer.safety.level == SafetyState.STOP, 2)
    assert time.monotonic() - killed_s < 0.5
    assert observer.safety.cause in ("joint_states_stale", "driver_gone")


@pytest.mark.parametrize("victim", ["gate", "policy"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_whoever_waits_for_an_instruction_learns_within_a_second_who_was_lost(
    ros_graph, victim, number
):
    processes = ros_graph.bring_up(Bringup(robot="aloha_sim", policy="expert"))
    observer = ros_graph.observe_arms()
    assert processes["policy"].wait_for_line("[policy]: active", 40)
    do = subprocess.Popen(
        [*COMMAND, "do", "hand over the red cube", "--robot", "aloha_sim", "--arm"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert ros_graph.wait_for(lambda: observer.speeds[-1][1] > MOVING, 40)
        time.sleep(1.0)
        processes[victim].send_signal(number)
        lost_s = time.monotonic()
        line = next(line for line in do.stdout if "aborted after" in line)
        assert time.monotonic() - lost_s < 1.0
        assert do.wait(5) == 1
        assert f"the {victim} is silent: not a word of it for" in line + do.stdout.read()
        if victim == "gate":
            assert processes["policy"].wait_for_line("ended: the gate is silent", 1)
            chunks = observer.chunks
            time.sleep(0.5)
            assert observer.chunks == chunks
    finally:
        do.kill()


def test_a_mock_swings_the_arms_without_a_server_and_without_a_model(ros_graph):
    processes = ros_graph.bring_up(Bringup(robot="aloha_sim", policy="mock", motion="sine"))
    observer = ros_graph.observe_arms()
    assert ros_graph.wait_for(observer.action.server_is_ready, 40)
    assert processes["policy"].wait_for_line("[policy]: active", 40)
    assert ros_graph.wait_for(lambda: ros_graph.call("gate/arm").success, 20)
    observer.send_goal("swing gently", 30.0)
    assert ros_graph.wait_for(lambda: observer.is_moving(0.1), 15), processes["policy"].output


def test_up_does_what_it_is_told_and_ctrl_c_brings_all_down_with_zero(ros_graph):  # noqa: ARG001
    up = subprocess.Popen(
        [*COMMAND, "up", "--robot", "diffbot_sim", "--policy", "expert", "--scene-seed", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        do = subprocess.run(
            [*COMMAND, "do", "go to the blue box", "--robot", "diffbot_sim", "--arm"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert do.returncode == 0, do.stdout + do.stderr
        assert "succeeded" in do.stdout
        up.send_signal(signal.SIGINT)
        output, _ = up.communicate(timeout=10)
        assert up.returncode == 0, output
        assert "all down" in output
        assert "Traceback" not in output
    finally:
        up.kill()


def test_up_ends_with_an_error_when_its_policy_refuses_for_good(ros_graph, tmp_path):  # noqa: ARG001
    (tmp_path / "config.json").write_text("{}")
    ended = subprocess.run(
        [*COMMAND, "up", "--robot", "diffbot_sim", "--checkpoint", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout
    assert "cannot configure" in ended.stdout
    assert "policy ended with status 2; all come to rest" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_up_starts_a_dead_policy_and_a_dead_gate_again_and_nothing_is_armed(ros_graph):
    observer = ros_graph.observe_arms()
    up = subprocess.Popen(
        [*COMMAND, "up", "--robot", "aloha_sim", "--policy", "mock"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert ros_graph.wait_for(lambda: ros_graph.call("gate/arm").success, 40)
        assert ros_graph.wait_for(lambda: observer.safety.armed, 5)
        for victim in ("policy", "gate"):
            os.kill(_child(up.pid, victim), signal.SIGKILL)
        assert ros_graph.wait_for(lambda: "ended with signal 9" in observer.safety.detail, 20)
        # What was killed is not forgotten by the graph for up to 20 s.
        assert ros_graph.wait_for(lambda: observer.safety.cause == "restarted", 40), (
            observer.safety
        )
        assert "arm it to let it move" in observer.safety.detail
        assert not observer.safety.armed
        assert ros_graph.wait_for(lambda: ros_graph.call("gate/arm").success, 10)
        up.send_signal(signal.SIGINT)
        output, _ = up.communicate(timeout=15)
        assert up.returncode == 0, output
        again = "it is started again and moves nothing until somebody arms"
        assert output.count(again) == 2, output
        assert "Traceback" not in output
    finally:
        up.kill()


def test_up_ends_with_an_error_when_the_robot_itself_is_lost(ros_graph):  # noqa: ARG001
    up = subprocess.Popen(
        [*COMMAND, "up", "--robot", "diffbot_sim", "--policy", "mock"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        started = next(line for line in up.stdout if "policy [INFO]" in line and "active" in line)
        os.kill(_child(up.pid, "simulator"), signal.SIGKILL)
        output, _ = up.communicate(timeout=15)
        assert up.returncode == 1, started + output
        assert "simulator ended with status -9; all come to rest" in output
        assert "gate" in output
        assert "killed" not in output
    finally:
        up.kill()


def _child(parent: int, node: str) -> int:
    """Return the process that runs a node for its supervisor."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next(
        int(child)
        for child in children
        if f"nodes.{node}".encode() in Path(f"/proc/{child}/cmdline").read_bytes()
    )
