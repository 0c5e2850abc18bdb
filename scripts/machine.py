"""What this machine offers: a Python, a ROS 2 installation, the libraries of the system."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages import SetupError, call

VERSIONS = ("3.11", "3.12")

COMPILERS = ("gcc", "g++")
RENDERERS = ("libosmesa6", "libegl1", "libgl1-mesa-dri", "libgl1", "libglx-mesa0")
"""MuJoCo draws off-screen with these; without them the simulator has no cameras."""

PROBE = """
import importlib.util, json, pathlib, sys, sysconfig
try:
    import rclpy  # another Python's would be found, but not imported
except ImportError:
    rclpy = None
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "path": getattr(sys, "_base_executable", sys.executable),
    "headers": pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file(),
    "pip": importlib.util.find_spec("ensurepip") is not None,
    "rclpy": rclpy is not None,
}))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter: whether it can compile extensions, make environments, and see rclpy."""

    version: str
    path: Path
    headers: bool
    pip: bool
    rclpy: bool


@dataclass(frozen=True)
class Machine:
    """What the workspace is built on; `ros_distro` is empty where no ROS 2 is sourced."""

    python: Python
    ros_distro: str


def find_machine(venv: Path) -> Machine:
    """Look for a ROS 2 installation and for the Python to build on.

    Raises:
        SetupError: There is no Python that can be used, or ROS 2 is sourced only in part.
    """
    distro = os.environ.get("ROS_DISTRO", "")
    seen = set()
    for python in find_pythons(venv):
        seen.add(python.version)
        if python.version in VERSIONS and (python.rclpy or not distro):
            return Machine(python, distro)
    versions = " or ".join(VERSIONS)
    if distro:
        raise SetupError(
            f"ROS_DISTRO is '{distro}', but no Python {versions} here imports rclpy. Source "
            f"/opt/ros/{distro}/setup.bash, or unset ROS_DISTRO to work without a ROS 2 "
            "installation."
        )
    raise SetupError(
        f"needs Python {versions} and found {', '.join(sorted(seen)) or 'none'}. Install "
        "python3.11 or python3.12, or say where it is: make setup PYTHON=<path>."
    )


def find_pythons(venv: Path) -> Iterator[Python]:
    """Interpreters that start, the preferred one first."""
    for candidate in candidates(venv):
        path = shutil.which(candidate)
        if path is None:
            continue
        # A pyenv shim exists for every version that pyenv knows, but starts only the chosen ones.
        env = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
        probe = subprocess.run(
            [path, "-c", PROBE], capture_output=True, text=True, check=False, env=env
        )
        if probe.returncode == 0:
            facts = json.loads(probe.stdout)
            yield Python(**(facts | {"path": Path(facts["path"]).resolve()}))


def candidates(venv: Path) -> Iterator[str]:
    """Where a Python may be: what was asked for, what `.venv` was made with, what is on PATH."""
    asked = os.environ.get("PYTHON")
    if asked:
        yield asked
        return
    settings = venv / "pyvenv.cfg"
    if settings.is_file():
        for line in settings.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "executable":
                yield value.strip()
    yield from ("python3", "python3.12", "python3.11", "/usr/bin/python3")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in reversed(VERSIONS):
        yield from (str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python")))


def install_packages(machine: Machine) -> None:
    """Install what is missing with apt where we may; otherwise say what to install.

    Raises:
        SetupError: Something is missing without which nothing can be built.
    """
    needed = [name for name in COMPILERS if shutil.which(name) is None]
    if not machine.python.headers:
        needed.append(f"python{machine.python.version}-dev")
    if not machine.python.pip:
        needed.append(f"python{machine.python.version}-venv")
    wanted = needed + [name for name in RENDERERS if not is_installed(name)]
    if not wanted:
        return
    become_root = administrator()
    if become_root is None:
        sentence = f"please run: sudo apt-get install {' '.join(wanted)}"
        if needed:
            raise SetupError(f"some system packages are missing; {sentence}")
        print(f"      the simulator cannot draw yet; {sentence}", file=sys.stderr, flush=True)
        return
    print(f"      apt-get install {' '.join(wanted)}", flush=True)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    call(*become_root, "apt-get", "update", env=env)
    call(*become_root, "apt-get", "install", "-y", "--no-install-recommends", *wanted, env=env)


def is_installed(package: str) -> bool:
    """Whether dpkg knows the package as installed; true where there is no dpkg to ask."""
    if shutil.which("dpkg-query") is None:
        return True
    command = ["dpkg-query", "-W", "-f", "${Status}", package]
    status = subprocess.run(command, capture_output=True, text=True, check=False)
    return status.stdout.endswith(" installed")


def administrator() -> tuple[str, ...] | None:
    """The words to put before apt-get, or None where it cannot be used."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return ()
    if shutil.which("sudo") and not subprocess.run(["sudo", "-n", "true"], check=False).returncode:
        return ("sudo", "-n")
    return None
