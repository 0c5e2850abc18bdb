"""Rates without drift, and delays without bursts."""

from qwen_vla_ros.sim.pacing import Pace, StepBudget

MS = 1_000_000


def test_a_rate_is_kept_on_ticks_that_do_not_divide_it():
    pace = Pace(15.0)
    taken = sum(pace.is_due(tick * 20 * MS) for tick in range(500))
    assert taken == 150


def test_what_was_missed_stays_missed():
    pace = Pace(10.0)
    assert pace.is_due(0)
    assert pace.is_due(1000 * MS)
    assert not pace.is_due(1010 * MS)
    assert pace.is_due(1100 * MS)


def test_steps_keep_up_with_a_trembling_clock():
    budget = StepBudget(0.01, 1.0, most=6)
    clock = [0, 21 * MS, 39 * MS, 65 * MS, 80 * MS, 100 * MS]
    assert [budget.take(now) for now in clock] == [1, 2, 1, 3, 2, 2]


def test_time_lost_in_a_stall_is_given_up():
    budget = StepBudget(0.01, 1.0, most=6)
    budget.take(0)
    assert budget.take(5000 * MS) == 6
    assert budget.take(5020 * MS) == 2


def test_a_factor_makes_time_run_slower():
    budget = StepBudget(0.01, 0.5, most=6)
    assert sum(budget.take(tick * 20 * MS) for tick in range(101)) == 101
