"""Clocks that are not one are found before anything moves."""

import pytest

from qwen_vla_ros.safety.shared_clock import SharedClock

PERIOD_S = 0.02
NOW_NS = 18 * 10**17


def heard(*behind_s, max_age_s=None):
    clock = SharedClock(PERIOD_S)
    for each in behind_s:
        stamp_ns = NOW_NS - round(each * 1e9)
        clock.hear("arm/state", stamp_ns, NOW_NS, max_age_s)
    return clock.why_not


def test_nobody_heard_is_nobody_wrong():
    assert SharedClock(PERIOD_S).why_not == ""


@pytest.mark.parametrize("behind_s", [0.0, 0.001, 0.019, -0.019])
def test_a_controller_within_one_period_goes_by_this_clock(behind_s):
    assert heard(*[behind_s] * 30) == ""


@pytest.mark.parametrize(("behind_s", "words"), [(0.03, "behind"), (-0.03, "ahead of")])
def test_a_controller_further_off_is_named_with_what_to_do(behind_s, words):
    assert heard(*[behind_s] * 30) == (
        f"'arm/state' is stamped 0.030 s {words} the gate's clock, more than 0.02 s: synchronize "
        "the two machines"
    )


@pytest.mark.parametrize("behind_s", [1.7e9, -1.7e9])
def test_simulated_time_on_one_side_only_is_told_as_that(behind_s):
    said = heard(behind_s)
    assert "use_sim_time is set on one side and not on the other" in said


def test_a_few_messages_that_came_late_say_nothing():
    assert heard(*[0.2] * 10, *[0.002] * 15) == ""


def test_what_was_long_ago_is_forgotten():
    assert heard(*[0.2] * 100, *[0.002] * 25) == ""


def test_who_only_reports_may_be_as_slow_as_its_file_says_and_hardly_ahead():
    assert heard(*[0.19] * 30, max_age_s=0.2) == ""
    assert heard(*[-0.045] * 30, max_age_s=0.2) == ""
    assert "0.210 s behind the gate's clock, more than 0.2 s" in heard(0.21, max_age_s=0.2)
    assert "0.060 s ahead of the gate's clock, more than 0.05 s" in heard(-0.06, max_age_s=0.2)


def test_every_sender_is_compared():
    clock = SharedClock(PERIOD_S)
    clock.hear("left/state", NOW_NS, NOW_NS)
    clock.hear("right/state", NOW_NS - 10**8, NOW_NS)
    assert clock.why_not.startswith("'right/state' is stamped 0.100 s behind")


def test_a_stamp_of_zero_is_none():
    clock = SharedClock(PERIOD_S)
    clock.hear("arm/state", 0, NOW_NS)
    assert clock.why_not == ""
