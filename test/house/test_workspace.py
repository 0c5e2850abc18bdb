"""The workspace builds with colcon, and a clone in somebody's ws/src says what to type."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
PREFIX = Path(sys.prefix)

needs_wheels = pytest.mark.skipif(
    not (PREFIX / "share" / "ament_cmake").is_dir(), reason="needs the ROS wheels of `make setup`"
)


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_PREFIX_PATH")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=inherited | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | env,
        capture_output=True,
        text=True,
        check=False,
    )


def copy_of(root: Path, files: list[Path], target: Path) -> Path:
    for path in files:
        copy = target / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return target


@pytest.mark.slow
@needs_wheels
def test_a_clone_in_somebodys_workspace_says_what_to_type(root, our_files, tmp_path):
    clone = copy_of(root, our_files, tmp_path / "ws" / "src" / "some_clone")
    without_ours = tmp_path / "nothing"
    listing = run("colcon", "list", "--names-only", cwd=tmp_path / "ws")
    assert listing.stdout.split() == ["qwen_vla"]
    configure = run(
        "cmake", "-G", "Ninja", "-S", clone, "-B", tmp_path / "build",
        f"-DPython3_EXECUTABLE={sys.executable}",
        cwd=tmp_path, CMAKE_PREFIX_PATH=str(PREFIX), AMENT_PREFIX_PATH=str(without_ours),
    )  # fmt: skip
    assert configure.returncode != 0
    said = " ".join(configure.stderr.split())
    assert "colcon build --base-paths src src/some_clone/src" in said


@needs_wheels
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_colcon_builds_the_three_packages(root, our_files, tmp_path):
    workspace = copy_of(root, our_files, tmp_path / "workspace")
    build = run(
        "colcon", "build", "--cmake-args", f"-DPython3_EXECUTABLE={sys.executable}", "-G", "Ninja",
        cwd=workspace, CMAKE_PREFIX_PATH=str(PREFIX), AMENT_PREFIX_PATH=str(PREFIX),
    )  # fmt: skip
    assert build.returncode == 0, build.stdout + build.stderr
    assert "3 packages finished" in build.stdout
    install = workspace / "install"
    assert (install / "qwen_vla_ros/lib/qwen_vla_ros/policy").is_file()
    shared = install / "qwen_vla/share/qwen_vla"
    assert (shared / "launch/bringup.launch.py").is_file()
    assert list((shared / "config/embodiments").glob("*.yaml"))
    script = install / "qwen_vla_ros/lib/qwen_vla_ros/policy"
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
    ask = "from qwen_vla_msgs.msg import ActionChunk; import qwen_vla_ros; print(ActionChunk)"
    sourced = f". install/setup.sh && {sys.executable} -c '{ask}'"
    assert "ActionChunk" in run("sh", "-c", sourced, cwd=workspace).stdout


@needs_wheels
def test_ros_tools_find_the_packages_and_their_programs():
    index = PREFIX / "share" / "ament_index" / "resource_index" / "packages"
    assert all((index / name).exists() for name in ("qwen_vla", "qwen_vla_msgs", "qwen_vla_ros"))
    for node in ("policy", "gate", "simulator"):
        assert os.access(PREFIX / "lib" / "qwen_vla_ros" / node, os.X_OK), node
    assert (PREFIX / "share" / "qwen_vla" / "launch" / "bringup.launch.py").is_file()
