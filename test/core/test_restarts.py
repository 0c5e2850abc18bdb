"""What dies is started again, but not for ever."""

import pytest

from qwen_vla_ros.bringup import Bringup, NodeSpec
from qwen_vla_ros.restarts import DELAY_S, MOST, WITHIN_S, Next, Restarts

GATE = NodeSpec(executable="gate", namespace="", parameters={"a": 1}, is_restarted=True)


def test_all_but_the_robot_itself_are_started_again():
    nodes = Bringup(robot="diffbot_sim", policy="expert").nodes()
    restarted = {node.name: node.is_restarted for node in nodes}
    assert restarted == {"policy": True, "gate": True, "monitor": True, "simulator": False}


def test_deaths_far_apart_are_forgiven_and_close_ones_are_not():
    restarts, now_s = Restarts(), 0.0
    for _ in range(10):
        now_s += WITHIN_S / MOST + 1
        assert restarts.judge(GATE, -9, now_s).next is Next.AGAIN
    close = [restarts.judge(GATE, -9, now_s + k * DELAY_S).next for k in range(MOST)]
    assert close[-1] is Next.END


def test_one_that_dies_often_does_not_count_for_another():
    restarts = Restarts()
    monitor = NodeSpec(executable="monitor", namespace="", parameters={}, is_restarted=True)
    assert [restarts.judge(GATE, 1, 0.0).next for _ in range(MOST)] == [Next.AGAIN] * MOST
    assert restarts.judge(monitor, 1, 0.0).next is Next.AGAIN


@pytest.mark.parametrize(("status", "how"), [(-9, "signal 9"), (1, "status 1")])
def test_the_next_one_is_told_how_the_one_before_ended(status, how):
    again = GATE.again(status)
    assert again.parameters == {"a": 1, "restarted_after": how}
    assert again.again(-6).parameters["restarted_after"] == "signal 6"
    assert (again.name, again.is_restarted) == (GATE.name, True)
