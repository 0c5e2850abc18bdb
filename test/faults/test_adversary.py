"""A short run of the attacks, on every robot; `make adversary` runs it for as long as you like."""

import numpy as np
import pytest

from faults.adversary import GATE, attack, campaign, details, table
from faults.rig import robots
from faults.scenario import ARMS
from faults.usual import ARM_RULES, BASE_RULES

STEPS = 1_500


@pytest.fixture(scope="module", params=robots())
def attacked(request):
    return attack(request.param, GATE, "exact", STEPS, seed=1)


@pytest.mark.slow
def test_set_points_are_finite_and_the_attacks_get_through(attacked):
    assert attacked.not_finite == 0
    assert attacked.armed > STEPS / 4
    assert attacked.moving > 2 * STEPS
    assert len(attacked.attacks) >= 5


@pytest.mark.slow
def test_no_set_point_leaves_the_limits_on_time(attacked):
    for quantity in ("position", "speed", "acceleration", "jerk"):
        assert attacked.ratio(quantity) <= 1.001, attacked.where


@pytest.mark.slow
@pytest.mark.parametrize("robot", robots())
def test_no_set_point_leaves_the_limits_when_ticks_and_messages_are_late(robot):
    attacked = attack(robot, GATE, "late", STEPS, seed=2)
    assert attacked.ratio("position") <= 1.001, attacked.where
    assert attacked.ratio("speed") <= 1.001, attacked.where
    # A base is told its speed, and holds it: two commands that come close together are two steps.
    allowed = 1.001 if robot in ARMS else 2.001
    assert attacked.ratio("acceleration") <= allowed, attacked.where


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
    results = campaign(["diffbot_sim"], 200, 200, seed=0, jobs=1)
    assert len(results) == 2 * (1 + len(BASE_RULES))
    assert table(results).count("\n") == 1 + len(results)
    assert all(np.isfinite(list(r.ratios.values())).all() for r in results if r.rule == GATE)
    assert "worst acceleration" in details(results)
