"""A rclpy session of a command: environment first, then the graph."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from qwen_vla_ros.bringup import environment


@contextmanager
def rclpy_session(*, one_host: bool) -> Iterator[None]:
    """Initialise rclpy with the environment that the nodes have; ends it afterwards.

    Ctrl-C stays a KeyboardInterrupt, so that a command can cancel what it began.
    """
    os.environ.update(environment(one_host=one_host))
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.try_shutdown()
