"""Plans of a scripted expert: within bounds, without seams, and never far from a held robot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.sim.reference import Reference, approach, share_speed

DT = 0.02
STEP_NS = 20_000_000
SPEED, ACCELERATION = np.array([1.0, 2.0]), np.array([5.0, 8.0])


@pytest.mark.slow
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-1, 1), st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_every_row_is_within_the_bounds(position, goal, velocity, steps):
    start, speed = np.array([position, -position]), np.array([velocity, 2 * velocity])
    target = np.array([goal, 2 * goal])
    rows = approach(start, speed, target, SPEED, ACCELERATION, DT, steps)
    speeds = np.diff(np.vstack([start, rows]), axis=0) / DT
    changes = np.diff(np.vstack([speed, speeds]), axis=0) / DT
    assert np.all(np.abs(speeds) <= np.maximum(SPEED, np.abs(speed)) + 1e-9)
    assert np.all(np.abs(changes) <= ACCELERATION + 1e-9)


def test_it_arrives_at_rest_and_never_overshoots():
    goal = np.array([0.7, -0.4])
    rows = approach(np.zeros(2), np.zeros(2), goal, SPEED, ACCELERATION, DT, 200)
    assert rows[-1] == pytest.approx(goal, abs=1e-6)
    assert np.all(np.diff(rows * np.sign(goal), axis=0) >= -1e-12)


def test_joints_of_a_group_arrive_together():
    distance = np.array([0.2, -1.0, 0.5])
    shared = share_speed(distance, np.ones(3), [(0, 1)])
    assert shared == pytest.approx([0.2, 1.0, 1.0])


def test_a_joint_that_has_nowhere_to_go_keeps_a_tenth_of_its_speed():
    shared = share_speed(np.array([0.0, 1.0]), np.ones(2), [(0, 1)])
    assert shared == pytest.approx([0.1, 1.0])


@pytest.fixture
def reference():
    return Reference(DT, committed_steps=6, horizon=16)


def plan(reference, stamp_ns, start, goal):
    return reference.plan(stamp_ns, start, np.asarray(goal), SPEED, ACCELERATION)


def test_a_robot_at_rest_waits_for_the_answer_first(reference):
    rows = plan(reference, 0, np.zeros(2), [1.0, 1.0])
    assert np.all(rows[:7] == 0)
    assert np.all(rows[7:] > 0)


def test_going_on_with_the_same_goal_yields_the_rest_of_the_same_plan(reference):
    first = plan(reference, 0, np.zeros(2), [1.0, 1.0])
    second = plan(reference, 5 * STEP_NS, None, [1.0, 1.0])
    assert second[:11] == pytest.approx(first[5:], abs=1e-12)


def test_a_new_goal_changes_nothing_that_is_about_to_be_played(reference):
    plan(reference, 0, np.zeros(2), [1.0, 1.0])
    first = plan(reference, 8 * STEP_NS, None, [1.0, 1.0])
    second = plan(reference, 12 * STEP_NS, None, [-1.0, 1.0])
    assert second[:7] == pytest.approx(first[4:11], abs=1e-12)
    assert second[-1][0] < first[-1][0]


def test_between_two_rows_the_plan_is_interpolated(reference):
    rows = plan(reference, 0, np.zeros(2), [1.0, 1.0])
    where = reference.position_at(10 * STEP_NS + STEP_NS // 4)
    assert where == pytest.approx(0.75 * rows[10] + 0.25 * rows[11])


def test_outside_of_the_plan_nothing_is_known(reference):
    assert reference.position_at(0) is None
    plan(reference, STEP_NS, np.zeros(2), [1.0, 1.0])
    assert reference.position_at(0) is None
    assert reference.position_at(100 * STEP_NS) is None
    with pytest.raises(ValueError, match="does not reach"):
        plan(reference, 100 * STEP_NS, None, [1.0, 1.0])
