"""A rclpy session of a command: environment first, then the graph."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from qwen_vla_ros.bringup import environment


@contextmanager
def rclpy_session(*, one_host: bool, enclave: str = "/") -> Iterator[None]:
    """Initialise rclpy with the environment that the nodes have; ends it afterwards.

    Ctrl-C stays a KeyboardInterrupt, so that a command can cancel what it began. Where ROS's
    security is enabled, the keys are those of `enclave`.
    """
    os.environ.update(environment(one_host=one_host))
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from qwen_vla_ros.ros.secure_start import explained_security

    with explained_security():
        rclpy.init(
            args=["--ros-args", "--enclave", enclave],
            signal_handler_options=SignalHandlerOptions.NO,
        )
    try:
        yield
    finally:
        rclpy.try_shutdown()
