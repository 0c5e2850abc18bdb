"""The rooms keep to their contracts, and every contract notices when it is broken."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

LINT = Path(sys.executable).with_name("lint-imports")


@dataclass(frozen=True)
class Breach:
    """One line that may not stand in one module, and the contract that must say so."""

    contract: str
    module: str
    line: str


LAYERS = "Rooms import downwards only; rooms on one floor are strangers"
NO_ROS = "Nothing below ros/ knows ROS"
TORCH = "Tensors stay in model/, checkpoint/, policy/ and training/"
SAFETY = "A safety process reaches neither torch nor policy/, not even indirectly"
NODES = "Nodes never import nodes"
MUJOCO = "MuJoCo stays in sim/"
POLICY = "The policy process, scripted experts included, never reaches into the simulator"

BREACHES = (
    Breach(LAYERS, "embodiment/load.py", "import qwen_vla_ros.model.config"),
    Breach(LAYERS, "types.py", "import qwen_vla_ros.embodiment.schema"),
    Breach(LAYERS, "execution/replan.py", "import qwen_vla_ros.safety.envelope"),
    Breach(LAYERS, "observation/buffer.py", "import qwen_vla_ros.prompt.build"),
    Breach(LAYERS, "execution/replan.py", "import qwen_vla_ros.serving.remote_policy"),
    Breach(LAYERS, "sim/world.py", "import qwen_vla_ros.ros.qos"),
    Breach(LAYERS, "bringup.py", "import qwen_vla_ros.cli.main"),
    Breach(LAYERS, "nodes/policy.py", "import qwen_vla_ros.cli.main"),
    Breach(LAYERS, "new_room.py", ""),
    Breach(NO_ROS, "embodiment/load.py", "import rclpy"),
    Breach(NO_ROS, "serving/server.py", "import rclpy"),
    Breach(NO_ROS, "safety/envelope.py", "from sensor_msgs.msg import JointState"),
    Breach(NO_ROS, "bringup.py", "from ament_index_python import get_package_share_directory"),
    Breach(TORCH, "ros/images.py", "import torch"),
    Breach(TORCH, "observation/buffer.py", "def later():\n    import transformers"),
    Breach(TORCH, "serving/mock.py", "import torch"),
    Breach(SAFETY, "nodes/gate.py", "import torch"),
    Breach(SAFETY, "nodes/gate.py", "import qwen_vla_ros.serving.connection"),
    Breach(SAFETY, "nodes/gate.py", "import qwen_vla_ros.load_policy"),
    Breach(SAFETY, "ros/parameters.py", "import qwen_vla_ros.model.config"),
    Breach(NODES, "nodes/policy.py", "import qwen_vla_ros.nodes.gate"),
    Breach(MUJOCO, "evaluation/interval.py", "import mujoco"),
    Breach(POLICY, "sim/experts/room.py", "import qwen_vla_ros.sim.offscreen"),
)


def broken_contracts(tree: Path) -> set[str]:
    """Lint a tree that holds pyproject.toml and the package; return the contracts it breaks."""
    env = os.environ | {"PYTHONPATH": str(tree)}
    command = [str(LINT), "--no-cache", "--no-logo"]
    run = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
    assert "Contracts: " in run.stdout, run.stdout + run.stderr
    return set(re.findall(r"^(.+) BROKEN", run.stdout, flags=re.MULTILINE))


@pytest.fixture
def tree(tmp_path: Path, root: Path) -> Path:
    shutil.copy(root / "pyproject.toml", tmp_path)
    ignore = shutil.ignore_patterns("__pycache__")
    package = root / "src" / "qwen_vla_ros" / "qwen_vla_ros"
    shutil.copytree(package, tmp_path / "qwen_vla_ros", ignore=ignore)
    return tmp_path


def test_the_tree_keeps_every_contract(tree):
    assert broken_contracts(tree) == set()


@pytest.mark.slow
@pytest.mark.parametrize("breach", BREACHES, ids=lambda b: f"{b.module}: {b.line or 'exists'}")
def test_a_breach_is_noticed(tree, breach):
    module = tree / "qwen_vla_ros" / breach.module
    assert module.is_file() or not breach.line
    before = module.read_text(encoding="utf-8") if module.is_file() else ""
    module.write_text(f"{before}\n\n{breach.line}\n", encoding="utf-8")
    assert breach.contract in broken_contracts(tree)


def test_every_contract_is_broken_once(root):
    names = re.findall(r'^name = "(.+)"$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    assert {breach.contract for breach in BREACHES} == set(names)
