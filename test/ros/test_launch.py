"""The launch file starts what `qwen-vla up` starts. Runs where ROS's launch is installed."""

import importlib.util
from pathlib import Path

import pytest
import yaml

# The project's own launch/ folder makes `import launch` succeed as an empty namespace package.
pytest.importorskip("launch.actions", reason="ROS's launch is not installed")
pytest.importorskip("launch_ros.actions")

from launch import LaunchContext, LaunchDescription, LaunchService
from launch.actions import DeclareLaunchArgument, ExecuteLocal
from launch_ros.actions import Node

from qwen_vla_ros.bringup import Bringup, NodeSpec
from qwen_vla_ros.restarts import MOST, REFUSED, Restarts

pytestmark = pytest.mark.ros

LAUNCH_FILE = Path(__file__).parents[2] / "launch" / "bringup.launch.py"


@pytest.fixture(scope="module")
def launch_file():
    spec = importlib.util.spec_from_file_location("bringup_launch", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def description(launch_file):
    return launch_file.generate_launch_description()


def meaning(arguments: list[str]) -> dict[str, object]:
    """What a ROS command line says, however it says it: name, namespace, parameters, remaps."""
    said = {"name": "", "namespace": "", "flags": set(), "parameters": {}, "remappings": set()}
    words = iter(word for word in arguments if word != "--ros-args")
    for flag in words:
        if flag.startswith("--disable"):
            said["flags"].add(flag)
            continue
        value = next(words)
        if flag == "--params-file":
            for content in yaml.safe_load(Path(value).read_text()).values():
                said["parameters"].update(content["ros__parameters"])
        elif flag == "-p":
            name, text = value.split(":=", 1)
            said["parameters"][name] = yaml.safe_load(text)
        elif value.startswith("__node:="):
            said["name"] = value.removeprefix("__node:=")
        elif value.startswith("__ns:="):
            said["namespace"] = value.removeprefix("__ns:=").strip("/")
        else:
            said["remappings"].add(value)
    return said


@pytest.mark.parametrize(
    "words",
    [
        {"robot": "aloha_sim", "policy": "expert"},
        {"robot": "diffbot_sim", "policy": "expert", "namespace": "cell", "use_sim_time": "true"},
    ],
)
def test_launch_and_up_start_the_same_processes(monkeypatch, description, words):
    # Everything but the start itself happens: the command line is the one that would run.
    monkeypatch.setattr(ExecuteLocal, "execute", ExecuteLocal.prepare)
    context = LaunchContext(argv=[])
    context.launch_configurations.update(words)
    actions = [action for entity in description.entities for action in entity.visit(context) or []]
    launched = {}
    for action in actions:
        if isinstance(action, Node):
            action.execute(context)
            executable, *arguments = action.process_description.final_cmd
            launched[Path(executable).name] = meaning(arguments)
    supervised = {
        spec.executable: meaning(spec.ros_arguments())
        for spec in Bringup.from_strings(words).nodes()
    }
    assert launched == supervised
    assert len(launched) == (4 if words["robot"] == "diffbot_sim" else 3)


def test_a_node_of_another_package_is_launched_from_there(launch_file):
    spec = NodeSpec(package="some_robot", executable="driver", namespace="", parameters={})
    node = launch_file._node(spec, Restarts())
    assert (node.node_package, node.node_executable) == ("some_robot", "driver")


@pytest.fixture
def mortal(monkeypatch, tmp_path):
    """Installs a package whose one node ends at once, with a status; it notes what it was told."""
    index = tmp_path / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "some_robot").touch()
    program, notes = tmp_path / "lib/some_robot/mortal", tmp_path / "notes"
    program.parent.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))

    def dies_with(status: int) -> tuple[NodeSpec, Path]:
        program.write_text(
            "#!/bin/sh\n"
            'while [ $# -gt 0 ]; do [ "$1" != --params-file ] || cat "$2"; shift; done'
            f" >> {notes}\nexit {status}\n"
        )
        program.chmod(0o755)
        spec = NodeSpec(
            package="some_robot",
            executable="mortal",
            namespace="",
            parameters={"a": 1},
            is_restarted=True,
        )
        return spec, notes

    return dies_with


@pytest.mark.parametrize(
    ("status", "restarts", "launch_status"), [(0, 0, 0), (REFUSED, 0, 1), (7, MOST, 1)]
)
def test_what_dies_is_started_again_and_what_cannot_be_fails_the_launch(
    launch_file, mortal, status, restarts, launch_status
):
    spec, notes = mortal(status)
    service = LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription([launch_file._node(spec, Restarts())]))
    assert service.run() == launch_status
    told = notes.read_text()
    assert told.count("a: 1") == 1 + restarts
    assert told.count(f"restarted_after: status {status}") == restarts


def test_every_argument_is_declared_with_its_description(description):
    declared = {
        entity.name: entity.description.split(" Valid choices")[0]
        for entity in description.entities
        if isinstance(entity, DeclareLaunchArgument)
    }
    assert declared == {option.name: option.description for option in Bringup.declared()}
