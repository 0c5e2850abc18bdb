"""Nodes of this package and of others run beside each other."""

import os
import sys
import time

import pytest

from qwen_vla_ros import supervisor as supervisor_module
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
    assert ("driver", str(node.ros_arguments())) in said
    assert ("driver", "ended with status 0; the others go on") in said
    assert supervisor.exits == {"driver": 0}


def test_nothing_starts_when_a_package_is_missing():
    node = NodeSpec(package="some_robot", executable="driver", namespace="", parameters={})
    with pytest.raises(QwenVlaError, match="some_robot has no 'driver' here"):
        Supervisor([node], {"AMENT_PREFIX_PATH": ""}, print)


def lives(tmp_path, monkeypatch, body, *, is_restarted=True):
    """Run a program that writes down how it was started, until its supervisor gives up."""
    monkeypatch.setattr(supervisor_module, "DELAY_S", 0.05)
    program = tmp_path / "lib/some_robot/driver"
    program.parent.mkdir(parents=True)
    log = tmp_path / "log"
    note = f"open({str(log)!r}, 'a').write(f'{{sys.argv}}\\n')"
    program.write_text(f"#!{sys.executable}\nimport os, sys\n{note}\n{body}\n")
    program.chmod(0o755)
    node = NodeSpec(
        package="some_robot",
        executable="driver",
        namespace="",
        parameters={},
        is_restarted=is_restarted,
    )
    said = []
    path = {"AMENT_PREFIX_PATH": str(tmp_path)}
    supervisor = Supervisor([node], path, lambda _, line: said.append(line))
    supervisor.start()
    deadline = time.monotonic() + 20
    while supervisor.poll() and not supervisor.is_over and time.monotonic() < deadline:
        time.sleep(0.01)
    return supervisor, said, log.read_text().splitlines()


@pytest.mark.slow
def test_a_process_that_dies_again_and_again_is_started_three_times_and_then_all_end(
    tmp_path, monkeypatch
):
    supervisor, said, starts = lives(tmp_path, monkeypatch, "os.kill(os.getpid(), 9)")
    assert supervisor.is_over
    assert not supervisor.stop()
    assert len(starts) == 4
    assert "restarted_after" not in starts[0]
    assert all('restarted_after:="signal 9"' in start for start in starts[1:])
    assert said == [
        *["ended with status -9; it is started again and moves nothing until somebody arms"] * 3,
        "ended with status -9, for the 4th time within 60 s; all come to rest",
    ]


def test_what_refuses_to_work_is_not_started_again(tmp_path, monkeypatch):
    supervisor, said, starts = lives(tmp_path, monkeypatch, "sys.exit(2)")
    assert supervisor.is_over
    assert len(starts) == 1
    assert said == ["ended with status 2; all come to rest"]


def test_a_driver_that_dies_is_not_started_again(tmp_path, monkeypatch):
    supervisor, _, starts = lives(tmp_path, monkeypatch, "sys.exit(1)", is_restarted=False)
    assert supervisor.is_over
    assert len(starts) == 1


def test_nobody_is_started_again_on_the_way_down(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor_module, "STOP_S", 5.0)
    program = tmp_path / "lib/some_robot/driver"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nimport time; print('up', flush=True); time.sleep(60)")
    program.chmod(0o755)
    node = NodeSpec(
        package="some_robot", executable="driver", namespace="", parameters={}, is_restarted=True
    )
    said = []
    path = {"AMENT_PREFIX_PATH": str(tmp_path)}
    supervisor = Supervisor([node], path, lambda _, line: said.append(line))
    supervisor.start()
    deadline = time.monotonic() + 10
    while "up" not in said and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not supervisor.stop()  # it knows no SIGINT of ours, and ends with a traceback
    assert supervisor.exits["driver"] != 0
    assert not any("started again" in line for line in said)
