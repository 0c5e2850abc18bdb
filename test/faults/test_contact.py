"""Nothing touches that must not, by a judge that shares nothing with the gate."""

from __future__ import annotations

import numpy as np
import pytest

from faults.adversary import GATE, attack
from faults.contact import ContactJudge
from faults.rig import HOMES, Rig, Swing, run
from qwen_vla_ros.embodiment.profile import COMMISSIONING
from qwen_vla_ros.safety.motion_guard import MotionGuard
from qwen_vla_ros.safety.robot_gate import RobotGate
from qwen_vla_ros.safety.solids import Solids

ROBOT = "aloha_sim"
pytestmark = pytest.mark.slow


def poses(seed: int, count: int) -> np.ndarray:
    limits = Rig(ROBOT).limits
    return np.random.default_rng(seed).uniform(limits.lower, limits.upper, (count, 14))


def test_the_meshes_of_the_cell_are_inside_the_shapes_of_the_description():
    rig, judge = Rig(ROBOT), ContactJudge(ROBOT)
    solids = Solids(rig.embodiment, rig.embodiment.file.safety.collision)
    pose, every = solids.pose(), np.arange(len(solids.pairs))
    touching = 0
    for position in poses(0, 300):
        pose.move(position)
        is_free = pose.distances(every).min() > 0
        touches = judge.look(rig.names, position)
        touching += touches
        assert not (touches and is_free), judge.pair
    assert touching > 50


def test_the_judge_finds_nothing_where_the_robot_begins_and_much_elsewhere():
    rig, judge = Rig(ROBOT), ContactJudge(ROBOT)
    assert not judge.look(rig.names, np.array(HOMES[ROBOT]))
    assert sum(judge.look(rig.names, position) for position in poses(1, 100)) > 10


def test_nothing_touches_under_attack():
    result = attack(ROBOT, GATE, "late", 300, seed=1)
    assert result.looks > 1_000
    assert result.touching == 0, result.deepest


class Reach(Swing):
    """A policy that brings both hands to the middle, slowly and well-formed."""

    def wanted(self, ns: int) -> np.ndarray:
        t = max(0.0, (ns - self._begin_ns) / 1e9)
        forward = np.zeros(14)
        forward[[1, 8]], forward[[2, 9]] = 1.0, -1.0
        return self._middle + forward * min(0.35 * t, 1.2)


def test_a_reach_into_each_other_ends_before_it_with_a_cause_that_names_both():
    rig, judge = Rig(ROBOT), ContactJudge(ROBOT)
    rig.watch = judge.look
    causes = set()
    assert not rig.arm()
    run(
        rig,
        Reach(rig, np.random.default_rng(0)),
        4.0,
        before=lambda _: causes.add((rig.level, rig.gate.latch.cause)),
    )
    assert judge.touching == 0
    details = [cause.detail for level, cause in causes if cause.name == "collision"]
    assert any("'left_" in detail and "'right_" in detail for detail in details), causes
    assert ("LIMITED", "collision") in {(level, cause.name) for level, cause in causes}


def test_without_the_guard_the_same_reach_ends_in_a_contact(monkeypatch):
    monkeypatch.setattr(MotionGuard, "judge", lambda *_: None)
    rig, judge = Rig(ROBOT), ContactJudge(ROBOT)
    rig.watch = judge.look
    assert not rig.arm()
    run(rig, Reach(rig, np.random.default_rng(0)), 4.0)
    assert judge.touching > 0


def test_under_commissioning_no_tool_is_faster_than_it_may_be():
    rig = Rig(ROBOT)
    rig.gate = RobotGate(rig.embodiment, COMMISSIONING)
    judge = ContactJudge(ROBOT)
    model, data = judge._models[0], judge._data[0]
    body = [model.body(f"{side}_gripper_link").id for side in ("left", "right")]
    places = []

    def see(names, position):
        judge.look(names, position)
        turned = data.xmat[body].reshape(2, 3, 3) @ [0.14, 0.0, 0.0]
        places.append(data.xpos[body] + turned)

    rig.watch = see
    assert not rig.arm()
    run(rig, Swing(rig, np.random.default_rng(3), share=0.9), 4.0)
    speeds = np.linalg.norm(np.diff(places, axis=0), axis=2) / 0.005
    assert 0.1 < speeds.max() <= 0.25 * 1.01
