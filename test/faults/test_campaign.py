"""A reduced campaign: what one process can try, each once; `make faults` does it 300 times."""

import logging

import numpy as np
import pytest

from faults.campaign import FAULTS, campaign, draw, one_run, table
from faults.classes.space import in_contact, out_of_the_workspace
from faults.clean import count_clean
from faults.coverage import KNOWN, NOT_TRIED, classes_of_the_page
from faults.rig import embodiment_of, run
from faults.scenario import moving, stops
from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.safety.latch import Cause, Latch
from qwen_vla_ros.safety.motion_guard import MotionGuard

FIRST_SEED = 1000


def _cases():
    for number, item in enumerate(FAULTS):
        for robot in item.robots or ("",):
            why = KNOWN.get((item.number, item.what, robot))
            marks = [pytest.mark.xfail(strict=False, reason=why)] if why else []
            yield pytest.param(number, robot, id=f"{item.number}-{item.what}-{robot}", marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "robot"), list(_cases()))
def test_a_fault_does_not_get_through(number, robot):
    logging.disable(logging.CRITICAL)
    try:
        assert one_run(number, robot, FIRST_SEED + number).miss == ""
    finally:
        logging.disable(logging.NOTSET)


def test_every_class_of_the_page_is_tried_or_has_a_reason():
    tried = {item.number for item in FAULTS}
    assert tried | set(NOT_TRIED) == set(classes_of_the_page())
    assert tried & set(NOT_TRIED) == set()


def test_what_is_known_to_fail_is_tried():
    tried = {(i.number, i.what, robot) for i in FAULTS for robot in i.robots}
    assert set(KNOWN) <= tried


@pytest.mark.parametrize("robot", ["aloha_sim", "diffbot_sim"])
def test_a_gate_that_does_not_stop_is_found_out(robot, monkeypatch):
    rig, policy = moving(robot, np.random.default_rng(0))
    monkeypatch.setattr(Interlock, "judge", lambda *_: True)
    rig.gate.stop(Cause("stop_request", "somebody asked for a stop"))
    # Arms lose the chunk that they play, too, and come to rest by that: late, but they do.
    miss = stops(rig, policy, 0.02).miss
    assert "bound" in miss or "still commanded to move" in miss


def test_a_gate_that_stops_late_is_found_out():
    rig, policy = moving("diffbot_sim", np.random.default_rng(0))
    fault_ns = rig.true_ns
    run(rig, policy, 0.1)
    rig.gate.stop(Cause("stop_request", "somebody asked for a stop"))
    assert "bound" in stops(rig, policy, 0.02, fault_ns=fault_ns).miss


def test_a_latch_that_opens_by_itself_is_found_out(monkeypatch):
    rig, policy = moving("diffbot_sim", np.random.default_rng(0))
    rig.gate.stop(Cause("stop_request", "somebody asked for a stop"))

    def forgetful(self, steady_ns, stops, holds):
        update(self, steady_ns, stops, holds)
        self.arm(steady_ns, is_still=True)

    update = Latch.update
    monkeypatch.setattr(Latch, "update", forgetful)
    assert "without being armed" in stops(rig, policy, 0.02).miss


@pytest.mark.slow
@pytest.mark.parametrize("inject", [in_contact, out_of_the_workspace])
def test_a_gate_that_looks_at_joints_only_is_found_out(inject, monkeypatch):
    monkeypatch.setattr(MotionGuard, "judge", lambda *_: None)
    miss = inject(np.random.default_rng(0), "aloha_sim").miss
    assert "overlap by" in miss or "outside" in miss


@pytest.mark.slow
def test_the_campaign_writes_a_table_and_a_picture(tmp_path):
    rows = campaign(2, ["A7", "I1", "F1"], seed=0, jobs=1)
    text = table(rows)
    assert "| A7 | a motion begins far away | 2 | 0 |" in text
    assert "| L1 |" in text
    draw(rows, tmp_path / "reactions.png")
    assert (tmp_path / "reactions.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("robot", ["aloha_sim", "diffbot_sim"])
def test_a_clean_policy_is_left_alone(robot):
    count = count_clean(embodiment_of(robot), episodes=1, seed=3)
    assert count.chunks > 10
    assert count.refused == 0
    assert count.stops == 0
    assert count.holds == 0
    # The base's expert begins and ends its ways as if a base could start at once.
    assert count.identical >= (0.8 if robot == "diffbot_sim" else 0.99) * count.commands
