"""Nodes of this package and of others run beside each other."""

import os
import sys
import time

import pytest

from qwen_vla_ros.bringup import NodeSpec
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.supervisor import Supervisor


def test_a_node_of_another_package_is_run_from_where_it_is_installed(tmp_path):
    program = tmp_path / "lib/some_robot/driver"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nimport sys; print(sys.argv[1:])\n")
    program.chmod(0o755)
    node = NodeSpec(
        package="some_robot", executable="driver", namespace="cell", parameters={"port": "a"}
    )
    said = []
    path = f"{tmp_path / 'other'}{os.pathsep}{tmp_path}"
    supervisor = Supervisor([node], {"AMENT_PREFIX_PATH": path}, lambda *line: said.append(line))
    supervisor.start()
    deadline = time.monotonic() + 10
    while (supervisor.poll() or not said) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said == [("driver", str(node.ros_arguments()))]
    assert supervisor.exits == {"driver": 0}


def test_nothing_starts_when_a_package_is_missing():
    node = NodeSpec(package="some_robot", executable="driver", namespace="", parameters={})
    with pytest.raises(QwenVlaError, match="some_robot has no 'driver' here"):
        Supervisor([node], {"AMENT_PREFIX_PATH": ""}, print)
