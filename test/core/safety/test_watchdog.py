"""Ages and clocks."""

import pytest

from qwen_vla_ros.safety.watchdog import ClockGuard, Debounce, Freshness, judge_stamp

SECOND = 10**9


@pytest.mark.parametrize(
    ("age_s", "cause"),
    [
        (0.0, ""),
        (0.5, ""),
        (0.500001, "stamp_old"),
        (3600.0, "stamp_old"),
        (-0.05, ""),
        (-0.050001, "stamp_ahead"),
        (-3600.0, "stamp_ahead"),
    ],
)
def test_a_stamp_is_neither_old_nor_ahead(age_s, cause):
    now = 10**6 * SECOND
    assert judge_stamp(now - round(age_s * SECOND), now, 0.5) == cause


@pytest.mark.parametrize("stamp", [0, -1])
def test_no_stamp_is_no_time(stamp):
    assert judge_stamp(stamp, 10, 0.5) == "stamp_zero"


def test_what_never_came_is_stale():
    fresh = Freshness(0.1)
    assert fresh.is_stale(0)
    assert fresh.age_s(0) == float("inf")
    fresh.renew(0)
    assert not fresh.is_stale(SECOND // 10)
    assert fresh.is_stale(SECOND // 10 + 1)
    assert fresh.age_s(SECOND) == 1.0
    fresh.forget()
    assert fresh.is_stale(0)


def test_a_finding_lasts_only_without_a_break():
    debounce = Debounce(SECOND)
    assert not debounce.holds(0, is_so=True)
    assert not debounce.holds(SECOND - 1, is_so=True)
    assert debounce.holds(SECOND, is_so=True)
    assert not debounce.holds(SECOND + 1, is_so=False)
    assert not debounce.holds(SECOND + 2, is_so=True)


@pytest.mark.parametrize("jump_s", [-3600.0, -0.2, 0.2, 3600.0])
def test_a_clock_that_jumps_is_found_in_the_same_tick(jump_s):
    guard = ClockGuard()
    assert guard.step(10**6 * SECOND, 0) == 0
    assert guard.step(10**6 * SECOND + SECOND // 50, SECOND // 50) == 0
    jumped = guard.step(10**6 * SECOND + round((0.04 + jump_s) * SECOND), SECOND // 25)
    assert jumped == pytest.approx(jump_s)


def test_a_slow_simulation_is_no_jump():
    guard = ClockGuard()
    assert not any(guard.step(SECOND + k * 5_000_000, k * 20_000_000) for k in range(1000))
    assert not guard.is_paused(999 * 20_000_000)


def test_a_clock_that_stands_still_is_paused_and_did_not_jump():
    guard = ClockGuard()
    guard.step(SECOND, 0)
    for k in range(1, 100):
        assert guard.step(SECOND, k * 20_000_000) == 0
    assert guard.is_paused(99 * 20_000_000)
    assert guard.step(SECOND + 20_000_000, 100 * 20_000_000) == 0
    assert not guard.is_paused(100 * 20_000_000)
