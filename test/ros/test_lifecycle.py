"""Managed nodes go through their states again and again, told from outside."""

import pytest

pytest.importorskip("rclpy")

from dataclasses import replace

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
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


TRANSITIONS = {
    "unconfigured": {"configure": "inactive", "shutdown": "finalized"},
    "inactive": {"activate": "active", "cleanup": "unconfigured", "shutdown": "finalized"},
    "active": {"deactivate": "inactive", "shutdown": "finalized"},
    "finalized": {},
}
WAYS = {
    "unconfigured": (),
    "inactive": ("configure",),
    "active": ("configure", "activate"),
    "finalized": ("shutdown",),
}
NUMBERS = {
    "unconfigured": {Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN},
    "inactive": {
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_INACTIVE_SHUTDOWN,
    },
    "active": {Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVE_SHUTDOWN},
    "finalized": set(),
}
WISHES = ("configure", "cleanup", "activate", "deactivate", "shutdown", "destroy", "dance", "")


class Managed:
    """One node, told from outside by labels and by numbers."""

    def __init__(self, graph, name, process):
        self.graph, self.name, self.process = graph, name, process
        self._change = graph.node.create_client(ChangeState, f"{name}/change_state")
        self._get = graph.node.create_client(GetState, f"{name}/get_state")
        assert graph.wait_for(self._change.service_is_ready, 30)
        assert graph.wait_for(self._get.service_is_ready, 30)

    def ask(self, label="", number=0):
        wish = Transition(id=number, label=label)
        return self.call(self._change, ChangeState.Request(transition=wish)).success

    def state(self):
        return self.call(self._get, GetState.Request()).current_state.label

    def call(self, client, request):
        future = client.call_async(request)
        assert self.graph.wait_for(future.done, 20), self.process.output
        return future.result()


@pytest.mark.parametrize("name", ["gate", "policy"])
def test_no_transition_in_any_state_ends_a_process(ros_graph, name):
    processes = ros_graph.bring_up(ToldFromOutside(robot="diffbot_sim", policy="mock"))
    assert processes["simulator"].wait_for_line("diffbot_sim, scene", 30)
    managed = Managed(ros_graph, name, processes[name])
    for state in ("unconfigured", "inactive", "active", "finalized"):
        for step in WAYS[state] if state == "finalized" else WAYS[state][-1:]:
            assert ros_graph.wait_for(lambda s=step: managed.ask(s), 10)
        assert managed.state() == state
        for wish in WISHES:
            if wish not in TRANSITIONS[state]:
                assert not managed.ask(wish)
        for number in (*range(12), 60, 99, 255):
            if number not in NUMBERS[state]:
                assert not managed.ask(number=number), number
        assert managed.state() == state
        assert processes[name].exit_status() is None
    output = processes[name].output
    assert "Traceback" not in output
    assert "cannot 'cleanup': the node is active; possible now: deactivate, shutdown" in output
    assert "the node is finalized; possible now: nothing" in output
    assert processes[name].interrupt(5) == 0
