"""The security policy of a robot's graph: nobody may do more than it does."""

import importlib.util
import os
from xml.etree import ElementTree as Xml

import pytest
from typer.testing import CliRunner

from qwen_vla_ros.bringup import Bringup, NodeSpec
from qwen_vla_ros.cli.main import app
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.security import FILES, accesses, operator_of, policy_xml, require_enclaves

ROBOTS = ("aloha_sim", "diffbot_sim")
each_robot = pytest.mark.parametrize("robot", ROBOTS)


def of(robot: str, **options) -> Bringup:
    return Bringup(robot=robot, policy=options.pop("policy", "expert"), **options)


def by_name(bringup: Bringup) -> dict:
    return {spec.name: access for spec, access in accesses(bringup)}


@each_robot
def test_only_a_gate_and_a_monitor_may_command_a_controller(robot):
    bringup = of(robot)
    commands = {f"/{output.topic}" for output in bringup.embodiment.file.command.outputs}
    who = {name for name, access in by_name(bringup).items() if commands & {*access.publishes}}
    assert who == ({"gate", "monitor"} if bringup.embodiment.has_base else {"gate"})


@each_robot
@pytest.mark.parametrize("namespace", ["", "cell/one"])
@pytest.mark.parametrize("use_sim_time", [False, True])
def test_whatever_is_heard_or_asked_somebody_says_or_answers(robot, namespace, use_sim_time):
    found = by_name(of(robot, namespace=namespace, use_sim_time=use_sim_time)).values()
    said = {name for access in found for name in access.publishes}
    heard = {name for access in found for name in access.subscribes}
    prefix = f"/{namespace}" if namespace else ""
    assert heard - said == {f"{prefix}/stop"}  # a button or a console, which is none of these
    answered = {name for access in found for name in access.replies}
    asked = {name for access in found for name in access.requests}
    assert asked - answered <= {"/*/get_parameters"}
    assert {n for a in found for n in a.calls} == {n for a in found for n in a.executes}


def test_only_an_expert_hears_the_simulators_truth():
    assert "/scene/objects" in by_name(of("aloha_sim"))["policy"].subscribes
    assert "/scene/objects" not in by_name(of("aloha_sim", policy="mock"))["policy"].subscribes


def test_a_namespace_moves_what_is_relative_and_nothing_else():
    policy = by_name(of("aloha_sim", namespace="cell"))["policy"]
    assert "/cell/cam_high/image_raw" in policy.subscribes
    assert "/cell/gate/output/safety_state" in policy.subscribes
    assert "/diagnostics" in policy.publishes
    assert policy.executes == ("/cell/execute_instruction",)


@each_robot
def test_every_process_has_an_enclave_of_its_own_and_starts_in_it(robot):
    bringup = of(robot, namespace="cell")
    root = Xml.fromstring(policy_xml(bringup))
    assert root.attrib == {"version": "0.2.0"}
    paths = [enclave.attrib["path"] for enclave in root.iterfind("enclaves/enclave")]
    assert len(set(paths)) == len(paths)
    for spec in bringup.nodes():
        arguments = spec.ros_arguments()
        assert arguments[arguments.index("--enclave") + 1] == f"/cell/{spec.name}"
        assert f"/cell/{spec.name}" in paths
    assert operator_of("cell").enclave in paths
    profile = root.find("enclaves/enclave[@path='/cell/gate']/profiles/profile")
    assert profile.attrib == {"ns": "/cell", "node": "gate"}
    assert [e.text for e in profile.iterfind("topics[@subscribe]/topic")]
    assert all(element.text.startswith("/") for element in profile.iter() if len(element) == 0)
    assert "DENY" not in policy_xml(bringup)


@pytest.mark.skipif(importlib.util.find_spec("sros2") is None, reason="sros2 is not installed")
@each_robot
def test_sros2_makes_keys_and_permissions_of_it(robot, tmp_path):
    from sros2.api._artifact_generation import generate_artifacts

    bringup = of(robot)
    policy = tmp_path / "policy.xml"
    policy.write_text(policy_xml(bringup))
    keystore = tmp_path / "keystore"
    generate_artifacts(keystore, [], [policy])
    environ = {
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_KEYSTORE": str(keystore),
        "ROS_SECURITY_STRATEGY": "Enforce",
    }
    require_enclaves(bringup.nodes(), environ)
    text = (keystore / "enclaves" / "policy" / "permissions.xml").read_text()
    assert "rt/policy/output/action_chunk" in text
    assert "<default>DENY</default>" in text


def test_a_node_that_nobody_knows_is_refused(monkeypatch):
    stranger = NodeSpec(package="some_robot", executable="driver", namespace="", parameters={})
    monkeypatch.setattr(Bringup, "nodes", lambda _: (stranger,))
    with pytest.raises(QwenVlaError, match="some_robot driver: nothing is known"):
        policy_xml(of("aloha_sim"))


def test_without_security_no_keys_are_needed():
    require_enclaves(of("aloha_sim").nodes(), {})
    require_enclaves(of("aloha_sim").nodes(), {"ROS_SECURITY_ENABLE": "false"})


def test_with_security_every_process_needs_keys(tmp_path):
    nodes = of("aloha_sim").nodes()
    environ = {"ROS_SECURITY_ENABLE": "true"}
    with pytest.raises(QwenVlaError, match="ROS_SECURITY_KEYSTORE is not set"):
        require_enclaves(nodes, environ)
    environ["ROS_SECURITY_KEYSTORE"] = str(tmp_path)
    with pytest.raises(QwenVlaError, match="would speak in the clear"):
        require_enclaves(nodes, {**environ, "ROS_SECURITY_STRATEGY": "Permissive"})
    environ["ROS_SECURITY_STRATEGY"] = "Enforce"
    for spec in nodes:
        folder = tmp_path / "enclaves" / spec.name
        folder.mkdir(parents=True)
        for name in FILES:
            (folder / name).touch()
    require_enclaves(nodes, environ)
    (tmp_path / "enclaves" / "gate" / "key.pem").unlink()
    with pytest.raises(QwenVlaError, match=r"enclaves/gate: key\.pem missing\. Make them with"):
        require_enclaves(nodes, environ)


def test_up_refuses_before_anything_is_started(monkeypatch):
    monkeypatch.setitem(os.environ, "ROS_SECURITY_ENABLE", "true")
    monkeypatch.delenv("ROS_SECURITY_KEYSTORE", raising=False)
    outcome = CliRunner().invoke(app, ["up", "--robot", "aloha_sim", "--policy", "expert"])
    assert "ROS_SECURITY_KEYSTORE is not set" in str(outcome.exception)


def test_the_command_writes_the_file_and_says_what_is_next(tmp_path):
    out = tmp_path / "keys" / "policy.xml"
    words = ["security", "--robot", "diffbot_sim", "--backend", "hardware", "--out", str(out)]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, outcome.output
    assert out.read_text() == policy_xml(of("diffbot_sim", policy="mock", backend="hardware"))
    assert "/policy, /gate, /monitor, /operator" in outcome.output
    assert f"ros2 security generate_artifacts -k KEYSTORE -p {out}" in outcome.output
    assert "driver and controllers need enclaves of their own" in outcome.output
