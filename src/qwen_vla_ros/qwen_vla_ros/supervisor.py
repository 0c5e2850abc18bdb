"""Runs a graph as subprocesses where ROS's launch is not installed: starts, watches, stops."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from qwen_vla_ros.bringup import PACKAGE, NodeSpec
from qwen_vla_ros.errors import QwenVlaError

STOP_S = 2.2
"""Patience with one stage of the way down; a node brings its robot to rest within 2 s."""


PR_SET_PDEATHSIG = 1


class Supervisor:
    """A set of node processes that live and end together."""

    def __init__(
        self,
        nodes: Sequence[NodeSpec],
        environment: Mapping[str, str],
        say: Callable[[str, str], None],
    ) -> None:
        """Prepare `nodes`; `say(name, line)` receives every line that they print.

        Raises:
            QwenVlaError: A node's package is not installed.
        """
        self._nodes = tuple(nodes)
        self._environment = {**os.environ, **environment}
        self._programs = [self._program(node) for node in self._nodes]
        self._say = say
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._exits: dict[str, int] = {}

    @property
    def exits(self) -> Mapping[str, int]:
        """Exit status of every process that has ended; negative is a signal."""
        return self._exits

    def start(self) -> None:
        """Start every process, in a process group of its own each.

        Ctrl-C in a terminal reaches a whole group at once; the way down has an order.
        """
        for node, program in zip(self._nodes, self._programs, strict=True):
            process = subprocess.Popen(
                [*program, *node.ros_arguments()],
                env={**self._environment, **node.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=_stop_with_parent,
            )
            self._running[node.name] = process
            assert process.stdout is not None
            threading.Thread(
                target=self._relay, args=(node.name, process.stdout), daemon=True
            ).start()

    def process_id(self, name: str) -> int:
        """Return the process id of a running node."""
        return self._running[name].pid

    def poll(self) -> bool:
        """Note who has ended; returns whether anything still runs."""
        for name, process in list(self._running.items()):
            status = process.poll()
            if status is not None:
                del self._running[name]
                self._exits[name] = status
        return bool(self._running)

    def stop(self) -> bool:
        """Stop producers first, then gates, then the robot; returns whether all ended well."""
        for order in sorted({node.stop_order for node in self._nodes}):
            names = [node.name for node in self._nodes if node.stop_order == order]
            self._stop_some([name for name in names if name in self._running])
        return all(status == 0 for status in self._exits.values())

    def _program(self, node: NodeSpec) -> list[str]:
        """Return what starts a node; ours need no installation."""
        if node.package == PACKAGE:
            return [sys.executable, "-m", f"{PACKAGE}.nodes.{node.executable}"]
        for prefix in self._environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
            program = Path(prefix, "lib", node.package, node.executable)
            if program.is_file():
                return [str(program)]
        raise QwenVlaError(
            f"{node.package} has no '{node.executable}' here. Is its workspace sourced?"
        )

    def _stop_some(self, names: Sequence[str]) -> None:
        for name in names:
            self._running[name].send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_S
        while any(name in self._running for name in names):
            self.poll()
            if time.monotonic() > deadline:
                for name in set(names) & set(self._running):
                    self._say(name, f"did not end within {STOP_S} s of SIGINT: killed")
                    self._running[name].kill()
                    self._running[name].wait()
            time.sleep(0.01)

    def _relay(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            self._say(name, line.rstrip("\n"))


def _stop_with_parent() -> None:
    """Ask the kernel for a SIGINT when the supervisor dies: nobody else would stop the robot."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
