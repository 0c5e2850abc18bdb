"""What the security policy allows is what the nodes of a running graph do, no more and no less."""

import subprocess
import sys
from fnmatch import fnmatch

import pytest

pytest.importorskip("rclpy")

from qwen_vla_ros.bringup import Bringup
from qwen_vla_ros.security import FILES, accesses

pytestmark = pytest.mark.ros

START_S = 60.0
OF_ACTION = "/_action/"


def uses(node, spec) -> dict[str, set[str]]:
    """What the graph tells of a node, by the words of an `Access`."""
    asked = {
        "publishes": node.get_publisher_names_and_types_by_node,
        "subscribes": node.get_subscriber_names_and_types_by_node,
        "replies": node.get_service_names_and_types_by_node,
        "requests": node.get_client_names_and_types_by_node,
    }
    where = (spec.name, f"/{spec.namespace}")
    found = {kind: {name for name, _ in ask(*where)} for kind, ask in asked.items()}
    carried = {name.split(OF_ACTION)[0] for name in found["replies"] if OF_ACTION in name}
    wanted = {name.split(OF_ACTION)[0] for name in found["requests"] if OF_ACTION in name}
    plain = {
        kind: {name for name in names if OF_ACTION not in name} for kind, names in found.items()
    }
    return {**plain, "executes": carried, "calls": wanted}


def differences(node, bringup) -> dict[str, object]:
    """Return what is done and not allowed, or allowed and not done, by node and word."""
    found: dict[str, object] = {}
    there = node.get_node_names_and_namespaces()
    for spec, access in accesses(bringup):
        if (spec.name, f"/{spec.namespace}") not in there:
            found[spec.name] = "is not there"
            continue
        for kind, done in uses(node, spec).items():
            allowed = set(getattr(access, kind))
            beyond = {n for n in done if not any(fnmatch(n, rule) for rule in allowed)}
            unused = {rule for rule in allowed if not any(fnmatch(n, rule) for n in done)}
            if beyond or unused:
                found[f"{spec.name} {kind}"] = {"not allowed": beyond, "not done": unused}
    return found


@pytest.mark.parametrize(
    ("robot", "namespace", "use_sim_time"),
    [("diffbot_sim", "", False), ("aloha_sim", "cell", True)],
)
def test_every_node_does_what_it_is_allowed_and_nothing_else(
    ros_graph, robot, namespace, use_sim_time
):
    bringup = Bringup(robot=robot, policy="expert", namespace=namespace, use_sim_time=use_sim_time)
    ros_graph.bring_up(bringup)
    words = ["do", "stand still", "--robot", robot, "--namespace", namespace]
    operator = subprocess.Popen([sys.executable, "-m", "qwen_vla_ros.cli.main", *words])
    try:
        ros_graph.wait_for(lambda: not differences(ros_graph.node, bringup), START_S)
        assert differences(ros_graph.node, bringup) == {}
    finally:
        operator.kill()
        operator.wait(5)


def test_where_no_secure_start_can_be_had_a_sentence_says_so(ros_graph, monkeypatch, tmp_path):
    folder = tmp_path / "enclaves" / "gate"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).touch()  # keys that are none
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", "Enforce")
    monkeypatch.setenv("ROS_SECURITY_KEYSTORE", str(tmp_path))
    spec = Bringup(robot="diffbot_sim", policy="expert").nodes()[1]
    gate = ros_graph.start_all([spec])["gate"]
    assert gate.wait_for_line("ROS_SECURITY_ENABLE is true, ", START_S), gate.output
    assert ros_graph.wait_for(lambda: gate.exit_status() == 2, 5), gate.output
    assert "Traceback" not in gate.output
