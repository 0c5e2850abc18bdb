"""Which processes a robot needs, as plain values: one description for every runner.

`launch/*.launch.py` turns these into launch actions and `qwen-vla up` into subprocesses, so that a
machine without ROS's launch runs the same graph.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.profile import find_profile
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.options import BringupOptions, PolicyOptions, Value
from qwen_vla_ros.share import share_folder

PACKAGE = "qwen_vla_ros"


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
        environment: Variables of this process alone.
        stop_order: Processes with a lower number are stopped first: what commands before what
            brakes, what brakes before what moves.
        is_restarted: Whether it is started again when it dies. A robot's driver is not: what it
            stood for is somebody else's to look after.
    """

    package: str = PACKAGE
    executable: str
    namespace: str
    parameters: Mapping[str, Value]
    remappings: tuple[tuple[str, str], ...] = ()
    logs_to_disk: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_order: int = 0
    is_restarted: bool = False

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.executable

    @property
    def enclave(self) -> str:
        """Where the node's keys are in a keystore; ROS looks there when security is enabled."""
        return f"/{self.namespace}/{self.name}" if self.namespace else f"/{self.name}"

    @property
    def ros_flags(self) -> list[str]:
        """Flags for ROS itself."""
        flags = ["--enclave", self.enclave]
        return flags if self.logs_to_disk else [*flags, "--disable-external-lib-logs"]

    def again(self, status: int) -> NodeSpec:
        """Return the process that follows on one that ended with `status`; a gate tells of it."""
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return replace(self, parameters={**self.parameters, "restarted_after": how})

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
class Bringup(BringupOptions):
    """What somebody asks for when they bring a robot up, and the processes that it takes."""

    @cached_property
    def embodiment(self) -> Embodiment:
        """The robot, loaded and checked."""
        return load_embodiment(self.robot)

    @property
    def is_simulated(self) -> bool:
        """Whether the robot is one of the processes, and all of them run on this machine."""
        return self.backend == "mujoco"

    def nodes(self) -> tuple[NodeSpec, ...]:
        """Return the processes of the graph.

        Raises:
            QwenVlaError: The options contradict each other or the robot.
        """
        self._check()
        nodes = [self._policy(), self._gate()]
        if not self.embodiment.ends:
            nodes.append(self._monitor())
        if self.is_simulated:
            nodes.append(self._simulator())
        return tuple(nodes)

    def _check(self) -> None:
        self.require_for_policy()
        find_profile(self.profile).require_tools(self.embodiment)
        if self.is_simulated and self.embodiment.file.simulation is None:
            raise QwenVlaError(
                f"{self.embodiment.path}: simulation: absent, but backend 'mujoco' needs it. "
                "Name a world there, or use backend 'hardware'."
            )
        if self.policy == "expert" and not self.is_simulated:
            raise QwenVlaError(
                "policy 'expert' reads a simulator's ground truth; it needs backend 'mujoco'."
            )
        if self.checkpoint and not Path(self.checkpoint, "config.json").is_file():
            raise QwenVlaError(
                f"checkpoint: '{self.checkpoint}' is not a checkpoint directory (no config.json). "
                "Make one with: qwen-vla init --preset nano --out DIR"
            )

    def _node(
        self,
        executable: str,
        parameters: Mapping[str, Value],
        remappings: tuple[tuple[str, str], ...],
        stop_order: int,
        **special: Any,
    ) -> NodeSpec:
        return NodeSpec(
            executable=executable,
            namespace=self.namespace.strip("/"),
            parameters={"embodiment": str(self.embodiment.path), **parameters},
            remappings=remappings,
            stop_order=stop_order,
            **special,
        )

    def _policy(self) -> NodeSpec:
        given = self.given()
        names = [each.name for each in PolicyOptions.declared() if each.name in given]
        return self._node(
            "policy",
            {
                "policy": self.policy,
                **{name: given[name] for name in names},
                "use_sim_time": self.use_sim_time,
            },
            (
                ("~/input/safety_state", "gate/output/safety_state"),
                ("~/input/task_status", "scene/status"),
                ("~/input/scene", "scene/objects"),
            ),
            stop_order=0,
            is_restarted=True,
        )

    def _gate(self) -> NodeSpec:
        return self._node(
            "gate",
            {"profile": self.profile, "use_sim_time": self.use_sim_time},
            (
                ("~/input/action_chunk", "policy/output/action_chunk"),
                ("~/input/stop", "stop"),
                ("~/input/monitor", "monitor/output/steps_in"),
            ),
            stop_order=1,
            is_restarted=True,
            logs_to_disk=False,
            # Whoever joins the graph may not make the gate wait for its shared memory.
            environment=fastdds_profile("_udp"),
        )

    def _monitor(self) -> NodeSpec:
        """Return who stands by while a base drives; it sees the gate out."""
        return self._node(
            "monitor",
            {"use_sim_time": self.use_sim_time},
            (),
            stop_order=2,
            is_restarted=True,
            logs_to_disk=False,
        )

    def _simulator(self) -> NodeSpec:
        return self._node(
            "simulator",
            {"seed": self.scene_seed, "publish_clock": self.use_sim_time},
            (("~/input/instruction", "policy/output/instruction"),),
            stop_order=3,
        )


def environment(*, one_host: bool) -> dict[str, str]:
    """Return the environment variables to add for every process; what is set already stays.

    Args:
        one_host: All processes run on this machine, as with a simulator: keep discovery and
            traffic on it. A real robot's network is its owner's to configure.
    """
    wanted = {
        # Two compute threads that wait by spinning starve everything else on few cores.
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "1",
        "RCUTILS_COLORIZED_OUTPUT": "0",
        "RCUTILS_LOGGING_BUFFERED_STREAM": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if one_host:
        wanted |= fastdds_profile("")
        wanted["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if Path(sys.prefix, "share/ament_index").is_dir():
        wanted["AMENT_PREFIX_PATH"] = sys.prefix  # ROS from wheels: nothing was sourced
    return {name: value for name, value in wanted.items() if name not in os.environ}


def fastdds_profile(suffix: str) -> dict[str, str]:
    """Return the variable that chooses one of our profiles; none where the user chose already."""
    is_old = os.environ.get("ROS_DISTRO", "jazzy") in {"humble", "jazzy"}
    variable = f"{'FASTRTPS' if is_old else 'FASTDDS'}_DEFAULT_PROFILES_FILE"
    if variable in os.environ:
        return {}
    name = f"{'jazzy' if is_old else 'kilted'}{suffix}.xml"
    return {variable: str(share_folder() / "config/fastdds" / name)}
