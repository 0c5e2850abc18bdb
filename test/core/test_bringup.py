from pathlib import Path

import pytest
import yaml

from qwen_vla_ros.bringup import Bringup, NodeSpec, environment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError


def said(**changes: str) -> Bringup:
    return Bringup.from_strings({"robot": "aloha_sim", "policy": "expert", **changes})


def test_a_simulated_robot_gets_policy_gate_and_simulator():
    nodes = Bringup(robot="aloha_sim", policy="expert").nodes()
    assert [node.executable for node in nodes] == ["policy", "gate", "simulator"]


def test_a_base_gets_a_monitor_too():
    nodes = said(robot="diffbot_sim").nodes()
    assert [node.executable for node in nodes] == ["policy", "gate", "monitor", "simulator"]


def test_the_gate_hears_the_monitor():
    _, gate, monitor, _ = said(robot="diffbot_sim").nodes()
    assert dict(gate.remappings)["~/input/monitor"] == f"{monitor.name}/output/steps_in"


def test_hardware_gets_no_simulator(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    bringup = Bringup(robot="aloha_sim", backend="hardware", checkpoint=str(tmp_path))
    assert [node.executable for node in bringup.nodes()] == ["policy", "gate"]


def test_every_setting_of_the_model_reaches_its_node(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    bringup = said(policy="qwen_vla", checkpoint=str(tmp_path), temperature="0.6", threads="2")
    parameters = bringup.nodes()[0].parameters
    assert (parameters["temperature"], parameters["threads"]) == (0.6, 2)


@pytest.mark.parametrize("name", ["temperature", "threads", "steps", "deadline_s"])
def test_a_word_that_is_no_number_is_refused_by_name(name):
    with pytest.raises(QwenVlaError, match=f"{name}: 'many' is not a"):
        said(**{name: "many"})


def test_what_commands_stops_before_what_brakes_before_what_moves():
    nodes = Bringup(robot="diffbot_sim", policy="expert").nodes()
    assert sorted(nodes, key=lambda node: node.stop_order) == list(nodes)
    assert len({node.stop_order for node in nodes}) == 4


def test_the_policy_cannot_reach_a_controller():
    policy = Bringup(robot="aloha_sim", policy="expert").nodes()[0]
    outputs = load_embodiment("aloha_sim").file.command.outputs
    commands = {output.topic for output in outputs}
    assert not commands & {target for _, target in policy.remappings}


def test_arguments_are_written_as_ros_reads_them():
    gate = Bringup(robot="aloha_sim", policy="expert", namespace="cell_1").nodes()[1]
    arguments = " ".join(gate.ros_arguments())
    assert "-r __node:=gate -r __ns:=/cell_1" in arguments
    assert f'-p embodiment:="{load_embodiment("aloha_sim").path}"' in arguments
    assert "-p use_sim_time:=false" in arguments
    assert "-r ~/input/action_chunk:=policy/output/action_chunk" in arguments


def test_a_text_reaches_ros_whole():
    text = '<joint name="é" />\n'
    node = NodeSpec(executable="talker", namespace="", parameters={"robot": text, "seed": -1})
    *_, said, _, seed = node.ros_arguments()
    assert yaml.safe_load(said.removeprefix("robot:=")) == text
    assert seed == "seed:=-1"


def test_a_remote_policy_is_told_where_its_server_is_and_nothing_secret(tmp_path):
    token = tmp_path / "token"
    policy, *_ = said(
        policy="remote",
        server="ws://127.0.0.1:8000",
        server_token_file=str(token),
        deadline_s="0.2",
    ).nodes()
    assert policy.parameters["server"] == "ws://127.0.0.1:8000"
    assert policy.parameters["server_token_file"] == str(token)
    assert policy.parameters["deadline_s"] == 0.2
    assert "server_ca_file" not in policy.parameters
    assert not {"checkpoint", "device"} & policy.parameters.keys()


def test_simulated_time_is_published_by_the_simulator_and_used_by_the_others():
    nodes = said(use_sim_time="true").nodes()
    assert [node.parameters.get("use_sim_time") for node in nodes] == [True, True, None]
    assert nodes[2].parameters["publish_clock"] is True


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"policy": "exprt"}, "Did you mean 'expert'"),
        ({"backend": "mujocoo"}, "Did you mean 'mujoco'"),
        ({"backend": "hardware"}, "it needs backend 'mujoco'"),
        ({"policy": "qwen_vla", "checkpoint": "/nowhere"}, "is not a checkpoint directory"),
        ({"scene_seed": "five"}, "'five' is not a whole number"),
        ({"policy": "remote"}, "server: policy 'remote' needs one"),
        ({"policy": "replay"}, "recording: policy 'replay' needs one"),
        ({"server": "ws://127.0.0.1:8000"}, "server: is for policy 'remote'; the policy is 'exp"),
        ({"policy": "mock", "fault": "hang"}, "fault: unknown 'hang'. Known: nan, none, slow"),
        ({"steps": "0"}, "steps: 0 is out of bounds. Allowed: 1 to 100."),
        ({"server_protocol": "openpy"}, "Did you mean 'openpi'"),
        ({"deadline_s": "soon"}, "'soon' is not a number"),
        ({"robot": "aloha_sym"}, "aloha_sim"),
    ],
)
def test_contradictory_wishes_are_refused_with_a_sentence(changes, sentence):
    with pytest.raises(QwenVlaError, match=sentence):
        said(**changes).nodes()


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in environment(one_host=True)


def test_a_real_robots_network_is_left_to_its_owner(monkeypatch):
    for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE" in environment(one_host=True)
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE" not in environment(one_host=False)
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" not in environment(one_host=False)


def test_the_gate_alone_is_kept_from_shared_memory_unless_somebody_chose(monkeypatch):
    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(variable, raising=False)
    nodes = {node.name: node for node in Bringup(robot="aloha_sim", policy="expert").nodes()}
    (profile,) = nodes.pop("gate").environment.values()
    content = Path(profile).read_text()
    assert "UDPv4" in content
    assert "<type>SHM" not in content
    assert all(not node.environment for node in nodes.values())
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/mine.xml")
    gate = Bringup(robot="aloha_sim", policy="expert").nodes()[1]
    assert gate.environment == {}
