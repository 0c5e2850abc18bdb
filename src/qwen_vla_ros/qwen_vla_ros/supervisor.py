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
from qwen_vla_ros.restarts import DELAY_S, Next, Restarts

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
        self.is_over = False
        """Whether something is lost that is not started again, so that all have to end."""
        self._nodes = {node.name: node for node in nodes}
        self._environment = {**os.environ, **environment}
        self._programs = {node.name: self._program(node) for node in nodes}
        self._say = say
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._exits: dict[str, int] = {}
        self._restarts = Restarts()
        self._due_s: dict[str, float] = {}

    @property
    def exits(self) -> Mapping[str, int]:
        """Exit status of every process that has ended; negative is a signal."""
        return self._exits

    def start(self) -> None:
        """Start every process, in a process group of its own each.

        Ctrl-C in a terminal reaches a whole group at once; the way down has an order.
        """
        for name in self._nodes:
            self._start(name)

    def process_id(self, name: str) -> int:
        """Return the process id of a running node."""
        return self._running[name].pid

    def poll(self) -> bool:
        """Note who has ended, and start again who has died; returns whether anything runs."""
        for name in self._note_ends():
            status, now_s = self._exits[name], time.monotonic()
            verdict = self._restarts.judge(self._nodes[name], status, now_s)
            self._say(name, verdict.sentence)
            self.is_over |= verdict.next is Next.END
            if verdict.next is Next.AGAIN:
                self._nodes[name] = self._nodes[name].again(status)
                self._due_s[name] = now_s + DELAY_S
        for name in [name for name, due_s in self._due_s.items() if time.monotonic() > due_s]:
            del self._due_s[name]
            self._start(name)
        return bool(self._running or self._due_s)

    def stop(self) -> bool:
        """Stop producers first, then gates, then the robot; returns whether all ended well."""
        for order in sorted({node.stop_order for node in self._nodes.values()}):
            names = [name for name, node in self._nodes.items() if node.stop_order == order]
            self._stop_some([name for name in names if name in self._running])
        return all(status == 0 for status in self._exits.values())

    def _start(self, name: str) -> None:
        node = self._nodes[name]
        process = subprocess.Popen(
            [*self._programs[name], *node.ros_arguments()],
            env={**self._environment, **node.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_stop_with_parent,
        )
        self._running[name] = process
        self._exits.pop(name, None)
        threading.Thread(target=self._relay, args=(name, process.stdout), daemon=True).start()

    def _note_ends(self) -> list[str]:
        ended = {name: process.poll() for name, process in self._running.items()}
        self._exits |= {name: status for name, status in ended.items() if status is not None}
        names = [name for name, status in ended.items() if status is not None]
        for name in names:
            del self._running[name]
        return names

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
            self._note_ends()
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
