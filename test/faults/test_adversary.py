"""A short run of the attacks, on every robot; `make adversary` runs it for as long as you like."""

import numpy as np
import pytest

from faults import adversary
from faults.adversary import GATE, attack, campaign, details, table
from faults.rig import Rig, all_robots
from faults.usual import ARM_RULES, BASE_RULES

STEPS = 1_500


@pytest.fixture(scope="module", params=all_robots())
def attacked(request):
    return attack(request.param, GATE, "exact", STEPS, seed=1)


@pytest.mark.slow
def test_set_points_are_finite_and_the_attacks_get_through(attacked):
    assert attacked.not_finite == 0
    assert attacked.armed > STEPS / 4
    told = 10 if attacked.robot == "arm_of_seven" else 0.5  # bare positions are told, not played
    assert attacked.moving > STEPS / told
    assert len(attacked.attacks) >= 5


@pytest.mark.slow
def test_no_set_point_leaves_the_limits_on_time(attacked):
    for quantity in ("position", "speed", "acceleration", "jerk", "burst"):
        assert attacked.ratio(quantity) <= 1.001, attacked.where


@pytest.mark.slow
@pytest.mark.parametrize("robot", all_robots())
def test_no_set_point_leaves_the_limits_when_ticks_and_messages_are_late(robot):
    attacked = attack(robot, GATE, "late", STEPS, seed=2)
    assert attacked.ratio("position") <= 1.001, attacked.where
    assert attacked.ratio("speed") <= 1.001, attacked.where
    if not Rig(robot).is_base:
        # Where bare positions are told and a period is missed, its step counts as two halves.
        allowed = 1.501 if robot == "arm_of_seven" else 1.001
        assert attacked.ratio("acceleration") <= allowed, attacked.where
        return
    # A base is told its speed, and holds it: it is ahead of a ramp by one step at least, and by
    # what it would have climbed while a message was on its way, here at most 5 ms.
    assert attacked.ratio("burst") <= 1.001 + 0.005 * Rig(robot).hz, attacked.where


@pytest.mark.slow
def test_the_rules_of_the_field_do_not_keep_what_is_asked_of_the_gate():
    for robot, rules in (("aloha_sim", ARM_RULES), ("diffbot_sim", BASE_RULES)):
        for rule in rules:
            assert attack(robot, rule, "exact", 400, seed=3).ratio("acceleration") > 10


@pytest.mark.slow
def test_a_seed_gives_the_same_run_again():
    one, two = (attack("diffbot_sim", GATE, "late", 300, seed=7) for _ in range(2))
    assert one.ratios == two.ratios
    assert one.attacks == two.attacks


@pytest.mark.slow
def test_the_table_has_a_row_for_every_robot_rule_and_pace():
    *_, results = campaign(["diffbot_sim"], 200, 200, seed=0, jobs=1)
    assert len(results) == 2 * (1 + len(BASE_RULES))
    assert table(results).count("\n") == 1 + len(results)
    assert all(np.isfinite(list(r.ratios.values())).all() for r in results if r.rule == GATE)
    assert "worst acceleration" in details(results)


def test_a_campaign_goes_on_where_it_was(tmp_path, monkeypatch):
    memory = tmp_path / "adversary.jsonl"
    *_, first = campaign(["diffbot_sim"], 40, 0, seed=0, jobs=1, memory=memory)
    monkeypatch.setattr(adversary, "attack", None)
    *_, again = campaign(["diffbot_sim"], 40, 0, seed=0, jobs=1, memory=memory)
    assert table(first) == table(again)
    assert details(first) == details(again)
