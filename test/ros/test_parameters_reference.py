"""An option is declared once, and the reference says what is declared."""

import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "parameters_reference.py"


def test_the_reference_is_what_the_script_writes():
    spec = importlib.util.spec_from_file_location("parameters_reference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run python scripts/parameters_reference.py"


def test_whatever_sets_up_the_model_is_an_option():
    from qwen_vla_ros.options import PolicyOptions
    from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy

    settings = set(inspect.signature(QwenVlaPolicy.load).parameters)
    settings -= {"checkpoint_dir", "embodiment"}
    assert len(settings) > 5
    assert settings <= {option.name for option in PolicyOptions.declared()}


PROBE = """
import json, runpy, sys
from unittest.mock import MagicMock

import rclpy
from rclpy.node import Node
from typer.testing import CliRunner

launch = {name: MagicMock() for name in (
    "launch", "launch.actions", "launch.events", "launch.events.process",
    "launch.substitutions", "launch_ros", "launch_ros.actions")}
sys.modules.update(launch)

from qwen_vla_ros.cli.main import app
from qwen_vla_ros.nodes.policy import Parameters
from qwen_vla_ros.ros.parameters import declare

rclpy.init(args=["--ros-args", "-p", "embodiment:=any", "-p", "zest:=7"])
node = Node("probe")
declare(node, Parameters)
runpy.run_path("launch/bringup.launch.py")["generate_launch_description"]()
declared = launch["launch.actions"].DeclareLaunchArgument.call_args_list
found = {command: CliRunner().invoke(app, [command, "--help"]).output
         for command in ("up", "serve", "bench")}
found["node"] = node.describe_parameter("zest").description
found["launch"] = next(call.kwargs["description"] for call in declared if call.args == ("zest",))
found["page"] = runpy.run_path("scripts/parameters_reference.py")["page"]()
print("found", json.dumps(found))
"""


def test_an_option_that_is_declared_is_everywhere(tmp_path):
    package = tmp_path / "qwen_vla_ros"
    shutil.copytree(
        ROOT / "src/qwen_vla_ros/qwen_vla_ros",
        package,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    declaration = package / "options.py"
    before = declaration.read_text()
    seed = "    seed: int = option("
    assert before.count(seed) == 1
    zest = '    zest: int = option("Gusto.", default=3, bounds=(0, 9))\n'
    declaration.write_text(before.replace(seed, zest + seed))
    probe = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr
    found = json.loads(probe.stdout.rpartition("found ")[2])
    for command in ("up", "serve", "bench"):
        assert re.search(r"--zest .* Gusto. \(0 to 9\)", found[command]), found[command]
    assert found["node"] == found["launch"] == "Gusto."
    assert found["page"].count("| `zest` | int | `3` | 0 to 9 | Gusto. |") == 1
