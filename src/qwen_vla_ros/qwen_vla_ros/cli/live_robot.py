"""A whole robot for the length of a `with`: its processes, and an operator beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_vla_ros.bringup import Bringup, environment
from qwen_vla_ros.cli.session import rclpy_session
from qwen_vla_ros.supervisor import Supervisor

if TYPE_CHECKING:
    from qwen_vla_ros.ros.operator import Operator


@contextmanager
def live_robot(bringup: Bringup, log: Path) -> Iterator[tuple[Operator, Supervisor]]:
    """Start the graph of `bringup` on this machine, its output going to the file `log`.

    The processes talk on a ROS domain of their own, so that nothing else on the machine hears
    them. They are brought down in order at the end, whatever happens.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    previous = os.environ.get("ROS_DOMAIN_ID")
    os.environ["ROS_DOMAIN_ID"] = previous or str(1 + os.getpid() % 100)
    with log.open("w") as lines, rclpy_session(one_host=True):
        from qwen_vla_ros.ros.operator import Operator

        def say(name: str, line: str) -> None:
            lines.write(f"{name}: {line}\n")
            lines.flush()

        supervisor = Supervisor(bringup.nodes(), environment(one_host=True), say)
        supervisor.start()
        operator = Operator(bringup.embodiment.name, bringup.namespace)
        try:
            yield operator, supervisor
        finally:
            operator.close()
            supervisor.stop()
            if previous is None:
                del os.environ["ROS_DOMAIN_ID"]
