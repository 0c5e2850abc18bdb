"""A ROS graph of its own for every test: real processes, and one node to look at them with."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qwen_vla_msgs.msg import ActionChunk, SafetyState
    from rclpy.action.client import ClientGoalHandle
    from rclpy.node import Node
    from sensor_msgs.msg import JointState
    from std_srvs.srv import Trigger

    from qwen_vla_ros.bringup import Bringup, NodeSpec


PERIOD_S = 0.005
STALL_S = 0.05
"""A sleep of 5 ms that takes so much longer was kept from waking: 2.5 periods of a gate."""
STOLEN_SHARE = 0.05
"""Share of all processor time that the host may give to others before it counts."""


class Pulse(threading.Thread):
    """Sleeps 5 ms at a time and notes how late it wakes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._worst_s = 0.0
        self._begin = self._ticks()

    def restart(self) -> None:
        """Begin to watch anew."""
        self._worst_s = 0.0
        self._begin = self._ticks()

    def disturbance(self) -> str:
        """Say what kept this machine from keeping time since `restart`; empty for nothing."""
        if self._worst_s > STALL_S:
            return f"a sleep of {PERIOD_S * 1e3:g} ms took {self._worst_s * 1e3:.0f} ms longer"
        stolen, total = (now - then for now, then in zip(self._ticks(), self._begin, strict=True))
        if total and stolen / total > STOLEN_SHARE:
            return f"the host took {stolen / total:.0%} of the processors away"
        return ""

    def run(self) -> None:
        while True:
            begin = time.monotonic()
            time.sleep(PERIOD_S)
            self._worst_s = max(self._worst_s, time.monotonic() - begin - PERIOD_S)

    @staticmethod
    def _ticks() -> tuple[int, int]:
        """Return processor ticks that were stolen, and all of them."""
        fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return fields[7], sum(fields)


_PULSE = Pulse()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Repeat a failed test if the machine stood still meanwhile, and only then."""
    for item in items:
        if item.get_closest_marker("ros"):
            item.add_marker(
                pytest.mark.flaky(reruns=2, condition=lambda: bool(_PULSE.disturbance()))
            )


def pytest_runtest_setup() -> None:
    """Watch the machine from the beginning of every test."""
    if not _PULSE.is_alive():
        _PULSE.start()
    _PULSE.restart()


class NodeProcess:
    """One node of the stack as a process; its output is kept."""

    def __init__(
        self, executable: str, arguments: list[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"qwen_vla_ros.nodes.{executable}", *arguments],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """Everything that was printed so far."""
        return "\n".join(self._lines)

    def wait_for_line(self, part: str, seconds: float) -> bool:
        """Wait until a line that holds `part` was printed."""
        deadline = time.monotonic() + seconds
        while part not in self.output:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def interrupt(self, seconds: float) -> int:
        """Send SIGINT and return the exit status."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(seconds)

    def send_signal(self, number: int) -> None:
        """Send any signal."""
        self._process.send_signal(number)

    def shared_memory(self) -> set[Path]:
        """Return the segments of the transport that the process has in use."""
        try:
            lines = Path(f"/proc/{self._process.pid}/maps").read_text().splitlines()
        except OSError:
            return set()  # it has ended
        names = {line.split(maxsplit=5)[5] for line in lines if "/dev/shm/" in line}
        return {Path(name) for name in names if "/fastrtps_" in name}

    def exit_status(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self._process.poll()

    def close(self) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait(5)
        self._reader.join(2)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.rstrip("\n"))


class RosGraph:
    """One ROS domain: a node of the test, spun in the background, and processes beside it."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
        from rclpy.node import Node

        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = Node("witness", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._nodes: list[Node] = []
        self._processes: list[NodeProcess] = []
        self._closing = False

        def spin() -> None:
            while not self._closing:
                try:
                    self._executor.spin_once(timeout_sec=0.05)
                except ExternalShutdownException:
                    return

        self._thread = threading.Thread(target=spin, daemon=True)
        self._thread.start()

    def start(
        self,
        executable: str,
        parameters: Mapping[str, object],
        remappings: Mapping[str, str] | None = None,
    ) -> NodeProcess:
        """Start one node of the stack."""
        arguments = ["--ros-args"]
        for name, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else value
            quoted = f'"{text}"' if isinstance(value, str) else text
            arguments += ["-p", f"{name}:={quoted}"]
        for source, target in (remappings or {}).items():
            arguments += ["-r", f"{source}:={target}"]
        process = NodeProcess(executable, arguments)
        self._processes.append(process)
        return process

    def bring_up(self, bringup: Bringup) -> dict[str, NodeProcess]:
        """Start a whole robot; returns its processes by name."""
        return self.start_all(bringup.nodes())

    def start_all(self, specs: Iterable[NodeSpec]) -> dict[str, NodeProcess]:
        """Start some nodes; returns their processes by name."""
        processes = {
            spec.name: NodeProcess(spec.executable, spec.ros_arguments(), spec.environment)
            for spec in specs
        }
        self._processes += processes.values()
        return processes

    def add_node(self, node: Node) -> None:
        """Spin a node of the test's beside the witness."""
        self._executor.add_node(node)
        self._nodes.append(node)

    def observe_arms(self, patience_s: float = 5.0) -> ArmsObserver:
        """Return who watches two simulated arms; `patience_s` is for goals to be answered."""
        return ArmsObserver(self, patience_s)

    def call(self, name: str) -> Trigger.Response:
        """Call a Trigger service, waiting for it to be there."""
        from std_srvs.srv import Trigger

        client = self.node.create_client(Trigger, name)
        assert self.wait_for(client.service_is_ready, 10)
        future = client.call_async(Trigger.Request())
        assert self.wait_for(future.done, 5)
        return future.result()

    def change_state(self, node: str, transition: str) -> bool:
        """Ask a node for a transition of its lifecycle; returns whether it was made."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        client = self.node.create_client(ChangeState, f"{node}/change_state")
        assert self.wait_for(client.service_is_ready, 10)
        asked = ChangeState.Request(transition=Transition(label=transition))
        future = client.call_async(asked)
        assert self.wait_for(future.done, 5)
        return bool(future.result().success)

    def wait_for(self, claim: Callable[[], object], seconds: float) -> bool:
        """Wait until a claim holds; it may fail for lack of data meanwhile."""
        deadline = time.monotonic() + seconds
        while not _holds(claim):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """End the processes first, then the node."""
        # Whoever is killed leaves its segments behind; what is left fills the memory in the end.
        segments = set().union(*(process.shared_memory() for process in self._processes))
        for process in self._processes:
            process.close()
        for segment in segments:
            segment.unlink(missing_ok=True)
        self._closing = True
        self._thread.join(2)
        self._executor.shutdown()
        for node in (*self._nodes, self.node):
            node.destroy_node()
        self._context.try_shutdown()


class ArmsObserver:
    """Notes how fast the arms move, how far the last chunk reached, and what the gate says."""

    STILL = 0.05
    """rad/s; a simulated servo that holds trembles below this."""

    def __init__(self, graph: RosGraph, patience_s: float) -> None:
        from qwen_vla_msgs.action import ExecuteInstruction
        from qwen_vla_msgs.msg import ActionChunk, SafetyState
        from rclpy.action import ActionClient
        from sensor_msgs.msg import JointState

        from qwen_vla_ros.ros.qos import COMMAND, LATCHED, SENSOR

        self.graph = graph
        self._patience_s = patience_s
        self._goal_type = ExecuteInstruction.Goal
        self.speeds: list[tuple[float, float]] = []
        self.chunk_end_s = 0.0
        self.chunks = 0
        self.safety: SafetyState | None = None
        node, chunks = graph.node, "policy/output/action_chunk"
        safety = "gate/output/safety_state"
        node.create_subscription(JointState, "joint_states", self._on_joints, SENSOR)
        node.create_subscription(ActionChunk, chunks, self._on_chunk, COMMAND)
        node.create_subscription(SafetyState, safety, self._on_safety, LATCHED)
        self.action = ActionClient(node, ExecuteInstruction, "execute_instruction")

    def send_goal(self, instruction: str, seconds: float) -> ClientGoalHandle:
        """Have an instruction accepted."""
        goal = self._goal_type(instruction=instruction, time_limit_s=seconds)
        sent = self.action.send_goal_async(goal)
        assert self.graph.wait_for(sent.done, self._patience_s)
        assert sent.result().accepted
        return sent.result()

    def is_moving(self, speed: float) -> bool:
        """Say whether a joint was faster than `speed` (rad/s) when last seen."""
        return self.speeds[-1][1] > speed

    def last_motion_s(self, since_s: float = 0.0) -> float:
        """When the arms were last seen moving after a time; that time if they were not."""
        moved = (now_s for now_s, speed in self.speeds if speed > self.STILL and now_s > since_s)
        return max(moved, default=since_s)

    def now_s(self) -> float:
        """ROS time in seconds."""
        return self.graph.node.get_clock().now().nanoseconds * 1e-9

    def _on_joints(self, message: JointState) -> None:
        self.speeds.append((self.now_s(), float(max(map(abs, message.velocity)))))

    def _on_chunk(self, message: ActionChunk) -> None:
        stamp = message.header.stamp
        rows = len(message.actions) // len(message.channels)
        self.chunk_end_s = stamp.sec + stamp.nanosec * 1e-9 + rows * message.dt
        self.chunks += rows > 0  # the end of an episode is no answer

    def _on_safety(self, message: SafetyState) -> None:
        self.safety = message


def _holds(claim: Callable[[], object]) -> bool:
    try:
        return bool(claim())
    except (IndexError, StopIteration):
        return False


# A process that was killed stays in its domain's graph until its lease ends, 20 s later: the
# next test must not meet the ghost.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_OWN = range(1 + WORKER, 101, WORKERS)  # no two workers meet on a domain
_DOMAINS = itertools.cycle(random.sample(_OWN, len(_OWN)))


@pytest.fixture
def ros_graph() -> Iterator[RosGraph]:
    """A ROS domain for one test."""
    with _open_graph() as graph:
        yield graph


@pytest.fixture(scope="module")
def shared_ros_graph() -> Iterator[RosGraph]:
    """A ROS domain for the tests of one file, where a process is slow to start."""
    with _open_graph() as graph:
        yield graph


@pytest.fixture(scope="session")
def open_ros_graph() -> Callable[[], AbstractContextManager[RosGraph]]:
    """Opens ROS domains, for who keeps one as long as it is sound."""
    return _open_graph


@pytest.fixture
def patient_aloha(tmp_path: Path) -> Path:
    """Return the file of an ALOHA whose driver may be late, to be changed."""
    root = Path(__file__).parents[2]
    for part in ("config/embodiments", "urdf"):
        shutil.copytree(root / part, tmp_path / part)
    path = tmp_path / "config" / "embodiments" / "aloha_sim.yaml"
    path.write_text(path.read_text().replace("max_age_s: 0.2 ", "max_age_s: 0.4 "))
    return path


INTERFACES = Path(__file__).parents[1] / "interfaces"


@pytest.fixture(scope="session")
def ros2_control(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a process that knows ros2_control's messages, built for it."""
    if shutil.which("cmake") is None or shutil.which("ninja") is None:
        pytest.skip("no cmake or ninja here")
    folder = tmp_path_factory.getbasetemp()
    if WORKERS > 1:
        folder = folder.parent  # of all workers: whoever is first builds
    install, prefix = folder / "install", os.environ.get("AMENT_PREFIX_PATH", sys.prefix)
    with (folder / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not install.exists():
            _build_interfaces(folder, install, prefix)
    (packages,) = install.glob("lib/python3*/site-packages")
    return {
        "PYTHONPATH": f"{packages}:{os.environ.get('PYTHONPATH', '')}",
        "LD_LIBRARY_PATH": f"{install / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        "AMENT_PREFIX_PATH": f"{install}:{prefix}",
    }


def _build_interfaces(folder: Path, install: Path, prefix: str) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    clean["CMAKE_PREFIX_PATH"] = prefix
    paths = [f"-DCMAKE_INSTALL_PREFIX={install}", f"-DPython3_EXECUTABLE={sys.executable}"]
    for source in INTERFACES.iterdir():
        build = str(folder / source.name)
        for step in (
            ["-G", "Ninja", "-S", str(source), "-B", build, "-DBUILD_TESTING=OFF", *paths],
            ["--build", build],
            ["--install", build],
        ):
            done = subprocess.run(
                ["cmake", *step], env=clean, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@contextmanager
def _open_graph() -> Iterator[RosGraph]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(next(_DOMAINS)))
        graph = RosGraph()
        try:
            yield graph
        finally:
            graph.close()
