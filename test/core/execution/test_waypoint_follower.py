"""Waypoints, driven by a differential drive."""

import numpy as np
import pytest

from qwen_vla_ros.execution.planar import compose, motion_of
from qwen_vla_ros.execution.twist_ramp import TwistRamp
from qwen_vla_ros.execution.waypoint_follower import WaypointFollower
from qwen_vla_ros.safety.admission import ABSURD
from qwen_vla_ros.types import ActionChunk, rest_chunk

BEGIN = 10**15
SECOND = 10**9
PERIOD_S = 0.02
VELOCITY, ACCELERATION = np.array([0.6, 1.5]), np.array([1.5, 5.0])
RAMP = TwistRamp(VELOCITY, ACCELERATION)
AT_ONCE = 1e3
"""Seconds in which any speed can be reached."""
STRAIGHT = np.tile([0.2, 0.0, 0.0], (8, 1))
CURVE = np.tile(motion_of(np.array([0.2, 0.0, 0.3])), (8, 1))


def make_chunk(actions, stamp_ns=BEGIN):
    return ActionChunk(
        stamp_ns=stamp_ns, dt=0.5, channels=("dx", "dy", "dtheta"), actions=np.array(actions)
    )


def follower_of(actions, start=(0.0, 0.0, 0.0), max_age_s=10.0):
    """Return one whose motion began with the first waypoint."""
    follower = WaypointFollower(max_age_s, RAMP)
    follower.accept(make_chunk(actions), np.array(start))
    lead(follower, BEGIN, start)
    return follower


def lead(follower, now_ns, pose=(0.0, 0.0, 0.0), last=(0.0, 0.0), dt=AT_ONCE):
    return follower.at(now_ns, np.array(pose), np.array(last), dt)


def drive(follower, pose, seconds, begin_ns=BEGIN):
    """Drive exactly as told, at 50 Hz; returns the last pose."""
    last = np.zeros(2)
    for k in range(round(seconds * 50)):
        twist = follower.at(begin_ns + k * SECOND // 50, pose, last, PERIOD_S)
        v, w = last = np.zeros(2) if twist is None else twist
        pose = compose(pose, motion_of(np.array([v, 0.0, w]) / 50))
    return pose


def test_before_the_first_chunk_it_rests():
    follower = WaypointFollower(1.0, RAMP)
    assert follower.is_resting
    assert lead(follower, BEGIN) is None


@pytest.mark.parametrize(("actions", "v", "w"), [(STRAIGHT, 0.4, 0.0), (CURVE, 0.4, 0.6)])
def test_on_its_reference_a_base_gets_the_chunks_own_speed(actions, v, w):
    follower = follower_of(actions, start=(1.0, 2.0, 0.5))
    pose, _ = follower.reference(BEGIN + SECOND)
    np.testing.assert_allclose(lead(follower, BEGIN + SECOND, pose), [v, w], atol=1e-9)


@pytest.mark.parametrize("actions", [STRAIGHT, CURVE])
def test_the_reference_passes_through_every_waypoint(actions):
    follower = follower_of(actions, start=(1.0, -1.0, 2.0))
    waypoint = np.array([1.0, -1.0, 2.0])
    for row, motion in enumerate(actions):
        pose, _ = follower.reference(BEGIN + row * SECOND // 2)
        np.testing.assert_allclose(pose, waypoint, atol=1e-9)
        waypoint = compose(waypoint, motion)


@pytest.mark.parametrize("error", [[0.1, 0.0, 0.0], [0.0, 0.15, 0.0], [0.0, 0.0, 0.3]])
@pytest.mark.parametrize("actions", [STRAIGHT, CURVE])
def test_a_base_that_is_off_comes_back_to_its_way(actions, error):
    follower = follower_of(actions)
    end, _ = follower.reference(BEGIN + 4 * SECOND - 1)
    pose = drive(follower, np.array(error), 4.0)
    assert np.hypot(*(pose[:2] - end[:2])) < 0.4 * np.linalg.norm(error) + 0.01


def test_a_base_on_its_way_follows_it_closely():
    follower = follower_of(CURVE)
    end, _ = follower.reference(BEGIN + 4 * SECOND - 1)
    pose = drive(follower, np.zeros(3), 4.0)
    assert np.hypot(*(pose[:2] - end[:2])) < 0.01


def test_feedback_is_bounded_however_far_the_base_is():
    follower = follower_of(STRAIGHT)
    v, w = lead(follower, BEGIN + SECOND, [-1000.0, 500.0, 3.0])
    assert abs(v) <= 0.4 + 0.31
    assert abs(w) <= 1.5


def test_latency_costs_waypoints_and_not_lag():
    follower = follower_of(STRAIGHT)
    follower.accept(make_chunk(STRAIGHT, BEGIN + SECOND), np.zeros(3))
    pose, _ = follower.reference(BEGIN + 2 * SECOND)
    np.testing.assert_allclose(pose, [0.4, 0.0, 0.0])


@pytest.mark.parametrize(
    ("actions", "rests"),
    [
        (np.zeros((8, 3)), True),
        (np.tile([0.006, 0.0, 0.0], (8, 1)), True),
        (np.tile([0.007, 0.0, 0.0], (8, 1)), False),
        (np.tile([0.0, 0.0, 0.2], (8, 1)), False),
        (np.tile([0.0, 0.0, 0.01], (8, 1)), True),
    ],
)
def test_a_chunk_that_leads_nowhere_is_rest(actions, rests):
    assert follower_of(actions).is_resting == rests


def test_rest_and_clearing_end_it():
    for end in ("rest", "clear"):
        follower = follower_of(STRAIGHT)
        if end == "rest":
            follower.accept(rest_chunk(BEGIN, 0.5, ("dx", "dy", "dtheta")), np.zeros(3))
        else:
            follower.clear()
        assert follower.is_resting
        assert lead(follower, BEGIN) is None


def test_nothing_is_driven_after_the_chunk_or_its_age():
    follower = follower_of(STRAIGHT, max_age_s=1.0)
    assert lead(follower, BEGIN + SECOND - 1) is not None
    assert lead(follower, BEGIN + SECOND) is None
    assert not follower.is_resting
    follower = follower_of(STRAIGHT)
    assert lead(follower, BEGIN + 4 * SECOND) is None


def test_a_sideways_wish_leads_to_that_side():
    follower = follower_of(np.tile([0.15, 0.05, 0.0], (8, 1)))
    pose = drive(follower, np.zeros(3), 4.0)
    assert pose[1] > 0.05


@pytest.mark.parametrize("dt", [0.004, 0.012, PERIOD_S])
def test_a_base_at_rest_takes_its_time_to_get_going(dt):
    follower, twist = follower_of(CURVE), np.zeros(2)
    for k in range(20):
        faster = follower.at(BEGIN + k * SECOND // 50, np.zeros(3), twist, dt)
        assert (np.abs(faster - twist) <= 0.951 * ACCELERATION * dt).all()
        assert faster[0] > twist[0]
        twist = faster


def test_no_feedback_asks_for_more_than_the_base_may_do():
    follower = follower_of(np.tile(motion_of(np.array([0.3, 0.0, 0.3])), (8, 1)))
    assert (np.abs(lead(follower, BEGIN + SECOND, [-1.0, 0.3, -0.5])) <= VELOCITY).all()


def test_what_the_chunk_itself_asks_for_beyond_the_limits_is_not_hidden():
    follower = follower_of(np.tile([0.4, 0.0, 0.0], (8, 1)))
    np.testing.assert_allclose(lead(follower, BEGIN, dt=PERIOD_S), [0.8, 0.0])


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, 0, 0), (0, 0, 1), (1, -1, 0)])
def test_the_greatest_values_that_are_admitted_stay_numbers(signs):
    with np.errstate(all="raise", under="ignore"):
        follower = follower_of(np.tile(ABSURD * np.array(signs), (8, 1)))
        for k in range(160):
            twist = lead(follower, BEGIN + k * SECOND // 50)
            assert twist is not None
            assert np.isfinite(twist).all()


@pytest.mark.parametrize("late_s", [0.0, 0.7, 3.0])
def test_a_base_that_rests_begins_with_the_first_waypoint_however_late_its_answer_is(late_s):
    follower = WaypointFollower(4.0, RAMP)
    follower.accept(make_chunk(CURVE), np.zeros(3))
    begin_ns = BEGIN + round(late_s * SECOND)
    pose, _ = follower.reference(begin_ns)
    np.testing.assert_array_equal(pose, np.zeros(3))
    pose = drive(follower, np.zeros(3), 4.0, begin_ns)
    end, _ = follower_of(CURVE).reference(BEGIN + 4 * SECOND - 1)
    assert np.hypot(*(pose[:2] - end[:2])) < 0.01


def test_no_way_begins_from_where_a_base_was_too_long_ago():
    follower = WaypointFollower(1.0, RAMP)
    follower.accept(make_chunk(STRAIGHT), np.zeros(3))
    assert lead(follower, BEGIN + SECOND) is None


def test_a_base_that_was_held_goes_on_where_it_was():
    follower = follower_of(STRAIGHT)
    lead(follower, BEGIN + SECOND)
    for k in range(100):
        follower.interrupt(BEGIN + SECOND + k * SECOND // 50)
        lead(follower, BEGIN + SECOND + (k + 1) * SECOND // 50)
    pose, _ = follower.reference(BEGIN + 3 * SECOND)
    np.testing.assert_allclose(pose, [0.4, 0.0, 0.0], atol=1e-9)
