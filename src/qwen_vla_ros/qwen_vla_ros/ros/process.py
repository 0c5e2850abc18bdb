"""One node, one process: spins until told to stop, comes to rest, then leaves with 0."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, Protocol

import rclpy
from rclpy.executors import Executor
from rclpy.experimental import EventsExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.ros.secure_start import explained_security
from qwen_vla_ros.ros.sturdy import SturdyNode

REST_TIMEOUT_S = 2.0
"""How long a node may take to bring its robot to rest after SIGINT or SIGTERM (F10)."""

SPIN_S = 0.1


class NodeProcess(Protocol):
    """What `run` needs of a node class beyond being a Node."""

    def begin_leaving(self) -> None:
        """Start the way down."""
        ...

    def at_rest(self) -> bool:
        """Say whether the process may end."""
        ...


class StopSignal:
    """Turns SIGINT and SIGTERM into a fact that a loop can look at.

    Only while something long and harmless runs, such as loading a model, is it interrupted.
    """

    def __init__(self) -> None:
        self.is_set = False
        self.may_interrupt: Callable[[], bool] = lambda: False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.is_set = True
        if self.may_interrupt():
            raise KeyboardInterrupt


def run(node_class: type, args: list[str] | None = None) -> int:
    """Run one node until a signal, then bring it to rest.

    rclpy's own signal handlers would invalidate the context at once, and with it every
    publisher that the way down still needs; so the signals are ours.

    Args:
        node_class: A Node with `begin_leaving()` and `at_rest()`.
        args: Command line, including `--ros-args`; the process's own when absent.

    Returns:
        The exit status: 0 after an ordered stop, 2 when the node refused to be built or, left to
        start by itself, to be configured.
    """
    stop = StopSignal()
    try:
        with explained_security():
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
            executor: Executor = EventsExecutor()
            node = node_class()
    except QwenVlaError as error:
        get_logger("qwen_vla").fatal(str(error))
        rclpy.try_shutdown()
        return 2
    stop.may_interrupt = lambda: getattr(node, "is_loading", False)

    def has_failed() -> bool:
        return getattr(node, "has_failed", False)

    executor.add_node(node)
    try:
        # A spin without a time-out would not return to Python, and no signal would be seen.
        while not stop.is_set and not has_failed():
            _spin_once(executor, node, SPIN_S)
        _come_to_rest(executor, node)
    except KeyboardInterrupt:
        node.get_logger().info("interrupted while loading")
    finally:
        executor.remove_node(node)
        node.destroy_node()
        rclpy.try_shutdown()
    return 2 if has_failed() else 0


def _come_to_rest(executor: Executor, node: NodeProcess) -> None:
    node.begin_leaving()
    deadline = time.monotonic() + REST_TIMEOUT_S
    while not node.at_rest():
        if time.monotonic() > deadline:
            if isinstance(node, Node):
                node.get_logger().error(f"not at rest after {REST_TIMEOUT_S} s; leaving anyway")
            return
        _spin_once(executor, node, 0.02)


def _spin_once(executor: Executor, node: NodeProcess, seconds: float) -> None:
    """Let callbacks run; what the node itself did not catch does not end its process either."""
    try:
        executor.spin_once(timeout_sec=seconds)
    except Exception as error:
        if not isinstance(node, SturdyNode):
            raise
        node.note_broken(error)


def main_of(node_class: type) -> NoReturn:
    """Entry point of a node's executable; does not return.

    All that matters is closed by then. Taking the interpreter down as well takes seconds where a
    model was loaded, and a second Ctrl-C in that time would end the process by a signal.
    """
    status = run(node_class, sys.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
