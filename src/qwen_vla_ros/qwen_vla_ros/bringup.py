"""Which processes a robot needs, as plain values: one description for every runner.

`launch/*.launch.py` turns these into launch actions and `qwen-vla up` into subprocesses, so that a
machine without ROS's launch runs the same graph.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qwen_vla_ros.arguments import BACKENDS, POLICIES
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError, suggest
from qwen_vla_ros.serving.address import PROTOCOLS
from qwen_vla_ros.share import share_folder

PACKAGE = "qwen_vla_ros"
Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """One node: one process.

    Attributes:
        package: Where the executable is from: this one, or any other that is installed.
        executable: Entry point in the package; also the node's name.
        namespace: Where its relative names live; "" is the root.
        parameters: Values by parameter name.
        remappings: (from, to) pairs.
        logs_to_disk: Whether ROS writes the node's log to a file, and may wait for the disk.
        stop_order: Processes with a lower number are stopped first: what commands before what
            brakes, what brakes before what moves.
    """

    package: str = PACKAGE
    executable: str
    namespace: str
    parameters: Mapping[str, Value]
    remappings: tuple[tuple[str, str], ...] = ()
    logs_to_disk: bool = True
    stop_order: int = 0

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.executable

    @property
    def ros_flags(self) -> list[str]:
        """Flags for ROS itself."""
        return [] if self.logs_to_disk else ["--disable-external-lib-logs"]

    def ros_arguments(self) -> list[str]:
        """Return the command line after the executable."""
        arguments = ["--ros-args", *self.ros_flags, "-r", f"__node:={self.name}"]
        if self.namespace:
            arguments += ["-r", f"__ns:=/{self.namespace}"]
        for name, value in self.parameters.items():
            # A value is YAML there, and whatever is JSON is YAML.
            arguments += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]
        for source, target in self.remappings:
            arguments += ["-r", f"{source}:={target}"]
        return arguments


@dataclass(frozen=True, kw_only=True)
class Bringup:
    """What somebody asks for when they bring a robot up.

    Attributes:
        robot: The embodiment, loaded and checked.
        policy: One of `POLICIES`.
        checkpoint: Directory of the model, for policy `qwen_vla`.
        backend: One of `BACKENDS`: `mujoco` starts a simulated robot, `hardware` expects the
            robot's own driver to run.
        device: Where the model runs.
        adapter: Directory of a LoRA adapter to merge into the model; empty for none.
        precision: One of `PRECISIONS`.
        continuation: One of `CONTINUATIONS`.
        steps: Steps of the flow from noise to actions.
        temperature: Spread of the model's noise.
        threads: CPU threads of the model.
        use_sim_time: Whether time comes from /clock.
        namespace: Prefix of every relative name.
        scene_seed: Seed of the simulated scene.
        seed: Seed of the model's noise, negative for none.
        server: Address of the policy server, for policy `remote`.
        server_protocol: One of `PROTOCOLS`.
        server_token_file: File with the server's token; empty for none.
        server_ca_file: Certificates that a wss server's must lead to; empty for the system's.
        deadline_s: Longest wait for an answer of the server.
    """

    robot: Embodiment
    policy: str = "qwen_vla"
    checkpoint: str = ""
    backend: str = "mujoco"
    device: str = "cpu"
    adapter: str = ""
    precision: str = "auto"
    continuation: str = "auto"
    steps: int = 4
    temperature: float = 1.0
    threads: int = 1
    use_sim_time: bool = False
    namespace: str = ""
    scene_seed: int = 0
    seed: int = -1
    server: str = ""
    server_protocol: str = "qwen_vla"
    server_token_file: str = ""
    server_ca_file: str = ""
    deadline_s: float = 0.3

    def nodes(self) -> tuple[NodeSpec, ...]:
        """Return the processes of the graph.

        Raises:
            QwenVlaError: The wishes contradict each other or the robot.
        """
        self._check()
        nodes = (self._policy(), self._gate())
        return (*nodes, self._simulator()) if self.backend == "mujoco" else nodes

    @property
    def gate(self) -> str:
        """Name of the gate that this robot needs."""
        return gate_of(self.robot)

    def _check(self) -> None:
        if self.policy not in POLICIES:
            raise QwenVlaError(
                f"policy: unknown '{self.policy}'." + suggest(self.policy, POLICIES)
            )
        if self.backend not in BACKENDS:
            raise QwenVlaError(
                f"backend: unknown '{self.backend}'." + suggest(self.backend, BACKENDS)
            )
        if self.server_protocol not in PROTOCOLS:
            raise QwenVlaError(
                f"server_protocol: unknown '{self.server_protocol}'."
                + suggest(self.server_protocol, PROTOCOLS)
            )
        if (self.policy == "remote") != bool(self.server):
            raise QwenVlaError(
                "server: policy 'remote' and the address of a server go together, such as "
                "ws://127.0.0.1:8000. Start one with: qwen-vla serve --robot R --checkpoint DIR"
            )
        if self.backend == "mujoco" and self.robot.file.simulation is None:
            raise QwenVlaError(
                f"{self.robot.path}: simulation: absent, but backend 'mujoco' needs it. "
                "Name a world there, or use backend 'hardware'."
            )
        if self.policy == "expert" and self.backend != "mujoco":
            raise QwenVlaError(
                "policy 'expert' reads a simulator's ground truth; it needs backend 'mujoco'."
            )
        if self.policy == "qwen_vla" and not Path(self.checkpoint, "config.json").is_file():
            raise QwenVlaError(
                f"checkpoint: '{self.checkpoint}' is not a checkpoint directory (no config.json). "
                "Make one with: qwen-vla init --preset nano --out DIR"
            )

    def _policy(self) -> NodeSpec:
        model: dict[str, Value] = {}
        if self.policy == "qwen_vla":
            model = {
                "checkpoint": str(Path(self.checkpoint).resolve()),
                "device": self.device,
                "precision": self.precision,
                "continuation": self.continuation,
                "steps": self.steps,
                "temperature": self.temperature,
                "threads": self.threads,
            }
            if self.adapter:
                model["adapter"] = str(Path(self.adapter).resolve())
        elif self.policy == "remote":
            files = {
                "server_token_file": self.server_token_file,
                "server_ca_file": self.server_ca_file,
            }
            model = {
                "server": self.server,
                "server_protocol": self.server_protocol,
                "deadline_s": self.deadline_s,
                **{name: str(Path(path).resolve()) for name, path in files.items() if path},
            }
        return NodeSpec(
            executable="policy",
            namespace=self.namespace,
            parameters={
                "embodiment": str(self.robot.path),
                "policy": self.policy,
                **model,
                "seed": self.seed,
                "use_sim_time": self.use_sim_time,
            },
            remappings=(
                ("~/input/safety_state", f"{self.gate}/output/safety_state"),
                ("~/input/task_status", "scene/status"),
                ("~/input/scene", "scene/objects"),
            ),
            stop_order=0,
        )

    def _gate(self) -> NodeSpec:
        return NodeSpec(
            executable=self.gate,
            namespace=self.namespace,
            parameters={"embodiment": str(self.robot.path), "use_sim_time": self.use_sim_time},
            remappings=(
                ("~/input/action_chunk", "policy/output/action_chunk"),
                ("~/input/stop", "stop"),
            ),
            logs_to_disk=False,
            stop_order=1,
        )

    def _simulator(self) -> NodeSpec:
        return NodeSpec(
            executable="simulator",
            namespace=self.namespace,
            parameters={
                "embodiment": str(self.robot.path),
                "seed": self.scene_seed,
                "publish_clock": self.use_sim_time,
            },
            remappings=(("~/input/instruction", "policy/output/instruction"),),
            stop_order=2,
        )


def gate_of(robot: Embodiment) -> str:
    """Return the name of the gate that a robot needs."""
    return "base_gate" if robot.has_base else "arm_gate"


def bringup_from_words(words: Mapping[str, str]) -> Bringup:
    """Return the bringup that a person's words ask for; one word for every `ARGUMENTS` entry.

    Raises:
        QwenVlaError: A word is not what is allowed, or the embodiment file is wrong.
    """
    numbers = {name: _whole(words, name) for name in ("scene_seed", "seed", "steps", "threads")}
    return Bringup(
        robot=load_embodiment(words["robot"]),
        policy=words["policy"],
        checkpoint=words["checkpoint"],
        backend=words["backend"],
        device=words["device"],
        adapter=words["adapter"],
        precision=words["precision"],
        continuation=words["continuation"],
        use_sim_time=words["use_sim_time"] == "true",
        namespace=words["namespace"].strip("/"),
        server=words["server"],
        server_protocol=words["server_protocol"],
        server_token_file=words["server_token_file"],
        server_ca_file=words["server_ca_file"],
        deadline_s=_number(words, "deadline_s"),
        temperature=_number(words, "temperature"),
        **numbers,
    )


def _whole(words: Mapping[str, str], name: str) -> int:
    try:
        return int(words[name])
    except ValueError as error:
        raise QwenVlaError(f"{name}: '{words[name]}' is not a whole number.") from error


def _number(words: Mapping[str, str], name: str) -> float:
    try:
        return float(words[name])
    except ValueError as error:
        raise QwenVlaError(f"{name}: '{words[name]}' is not a number.") from error


def environment(*, one_host: bool) -> dict[str, str]:
    """Return the environment variables to add for every process; what is set already stays.

    Args:
        one_host: All processes run on this machine, as with a simulator: keep discovery and
            traffic on it. A real robot's network is its owner's to configure.
    """
    distro = os.environ.get("ROS_DISTRO", "jazzy")
    wanted = {
        # Two compute threads that wait by spinning starve everything else on few cores.
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "1",
        "RCUTILS_COLORIZED_OUTPUT": "0",
        "RCUTILS_LOGGING_BUFFERED_STREAM": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if one_host:
        variable = "FASTRTPS" if distro in {"humble", "jazzy"} else "FASTDDS"
        name = "jazzy" if distro in {"humble", "jazzy"} else "kilted"
        wanted[f"{variable}_DEFAULT_PROFILES_FILE"] = str(
            share_folder() / f"config/fastdds/{name}.xml"
        )
        wanted["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if Path(sys.prefix, "share/ament_index").is_dir():
        wanted["AMENT_PREFIX_PATH"] = sys.prefix  # ROS from wheels: nothing was sourced
    return {name: value for name, value in wanted.items() if name not in os.environ}
