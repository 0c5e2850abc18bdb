"""Plans of a scripted expert: within bounds, without seams, and never far from a held robot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.sim.reference import approach, plan, share_speed

DT = 0.02
HORIZON = 16
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


def plan_from(begun, goal):
    begun = np.asarray(begun, dtype=float)
    return plan(begun, np.asarray(goal), SPEED, ACCELERATION, DT, HORIZON)


def test_what_is_being_played_is_the_beginning_of_every_plan():
    begun = np.linspace([0.0, 0.0], [0.09, 0.1], 10)
    rows = plan_from(begun, [-1.0, 1.0])
    assert rows.shape == (HORIZON, 2)
    np.testing.assert_array_equal(rows[:10], begun)


def test_it_goes_on_at_the_speed_of_what_is_being_played():
    begun = np.linspace([0.0, 0.0], [0.09, 0.09], 10)
    rows = plan_from(begun, [-1.0, 1.0])
    assert np.all(np.abs(np.diff(rows, 2, axis=0)) <= ACCELERATION * DT**2 + 1e-9)
    assert rows[10][0] > rows[9][0], "it cannot turn at once"
    assert rows[-1][0] < rows[-1][1]


def test_a_robot_at_rest_starts_at_rest():
    rows = plan_from(np.zeros((1, 2)), [1.0, 1.0])
    assert rows[1] == pytest.approx(ACCELERATION * DT**2)


def test_going_on_with_the_same_goal_yields_the_rest_of_the_same_plan():
    first = plan_from(np.zeros((2, 2)), [1.0, 1.0])
    second = plan_from(first[5:8], [1.0, 1.0])
    assert second[:11] == pytest.approx(first[5:], abs=1e-12)


def test_what_is_played_for_longer_than_a_chunk_leaves_nothing_to_plan():
    begun = np.linspace([0.0, 0.0], [0.2, 0.2], HORIZON + 4)
    np.testing.assert_array_equal(plan_from(begun, [1.0, 1.0]), begun[:HORIZON])
