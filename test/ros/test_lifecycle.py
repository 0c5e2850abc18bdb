"""Managed nodes go through their states again and again, told from outside."""

import pytest

pytest.importorskip("rclpy")

from dataclasses import replace

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from qwen_vla_msgs.action import ExecuteInstruction
from rclpy.action import ActionClient

from qwen_vla_ros.bringup import Bringup

pytestmark = pytest.mark.ros

CYCLES = 5


class ToldFromOutside(Bringup):
    """A bringup whose nodes wait to be configured and activated."""

    def nodes(self):
        return tuple(
            spec
            if spec.name == "simulator"
            else replace(spec, parameters={**spec.parameters, "autostart": False})
            for spec in super().nodes()
        )


@pytest.fixture
def change(ros_graph):
    """Ask a node for a transition; returns whether it succeeded."""

    def ask(node: str, transition: int) -> bool:
        client = ros_graph.node.create_client(ChangeState, f"{node}/change_state")
        assert ros_graph.wait_for(client.service_is_ready, 20)
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        assert ros_graph.wait_for(future.done, 20)
        return future.result().success

    return ask


def test_nodes_survive_many_cycles_and_work_afterwards(ros_graph, change):
    processes = ros_graph.bring_up(ToldFromOutside(robot="diffbot_sim", policy="expert"))
    assert processes["simulator"].wait_for_line("diffbot_sim, scene", 30)
    for node in ("gate", "policy"):
        for _ in range(CYCLES):
            assert change(node, Transition.TRANSITION_CONFIGURE), processes[node].output
            assert ros_graph.wait_for(lambda n=node: change(n, Transition.TRANSITION_ACTIVATE), 10)
            assert change(node, Transition.TRANSITION_DEACTIVATE)
            assert change(node, Transition.TRANSITION_CLEANUP), processes[node].output
        assert change(node, Transition.TRANSITION_CONFIGURE)
        assert ros_graph.wait_for(lambda n=node: change(n, Transition.TRANSITION_ACTIVATE), 10)
    assert ros_graph.wait_for(lambda: ros_graph.call("gate/arm").success, 10)
    client = ActionClient(ros_graph.node, ExecuteInstruction, "execute_instruction")
    assert ros_graph.wait_for(client.server_is_ready, 10)
    goal = ExecuteInstruction.Goal(instruction="go to the green ball", time_limit_s=30.0)
    sent = client.send_goal_async(goal)
    assert ros_graph.wait_for(sent.done, 5)
    assert sent.result().accepted
    result = sent.result().get_result_async()
    assert ros_graph.wait_for(result.done, 40)
    assert result.result().result.outcome == ExecuteInstruction.Result.SUCCEEDED
