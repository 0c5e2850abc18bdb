"""Interpolation, against conditions that each kind of polynomial has to meet."""

import numpy as np
import pytest

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.sim.trajectory import State, interpolate

UNKNOWN = np.zeros(0)
A = {"positions": np.array([0.2, -1.0]), "velocities": np.array([0.5, 0.0])}
B = {"positions": np.array([0.7, -1.4]), "velocities": np.array([-0.3, 0.2])}
BEND_A, BEND_B = np.array([1.0, -2.0]), np.array([0.0, 3.0])
DURATION = 0.4


def state(seconds, positions, velocities=UNKNOWN, accelerations=UNKNOWN):
    return State(
        time_ns=round(seconds * NS_PER_S),
        positions=positions,
        velocities=velocities,
        accelerations=accelerations,
    )


def at(a, b, seconds):
    return interpolate(a, b, round(seconds * NS_PER_S))


def test_positions_alone_make_a_straight_line():
    a, b = state(0, A["positions"]), state(DURATION, B["positions"])
    middle = at(a, b, DURATION / 4)
    assert middle.positions == pytest.approx(0.75 * a.positions + 0.25 * b.positions)
    assert middle.velocities == pytest.approx((b.positions - a.positions) / DURATION)


def test_one_side_without_velocity_makes_a_straight_line_too():
    a, b = state(0, **A), state(DURATION, B["positions"])
    assert at(a, b, DURATION / 2).positions == pytest.approx((a.positions + b.positions) / 2)


@pytest.mark.parametrize("end", [0.0, DURATION])
def test_velocities_make_a_cubic_that_meets_both_ends(end):
    a, b = state(0, **A), state(DURATION, **B)
    known = a if end == 0 else b
    reached = at(a, b, end)
    assert reached.positions == pytest.approx(known.positions)
    assert reached.velocities == pytest.approx(known.velocities)


@pytest.mark.parametrize("end", [0.0, DURATION])
def test_accelerations_make_a_quintic_that_meets_both_ends(end):
    a, b = state(0, **A, accelerations=BEND_A), state(DURATION, **B, accelerations=BEND_B)
    known = a if end == 0 else b
    reached = at(a, b, end)
    assert reached.positions == pytest.approx(known.positions)
    assert reached.velocities == pytest.approx(known.velocities)
    assert reached.accelerations == pytest.approx(known.accelerations)


@pytest.mark.parametrize("bends", [(UNKNOWN, UNKNOWN), (BEND_A, BEND_B)])
def test_velocity_is_the_slope_of_position(bends):
    a, b = state(0, **A, accelerations=bends[0]), state(DURATION, **B, accelerations=bends[1])
    for t in np.linspace(0.05, 0.35, 7):
        before, after = at(a, b, t - 1e-4), at(a, b, t + 1e-4)
        slope = (after.positions - before.positions) / 2e-4
        assert at(a, b, t).velocities == pytest.approx(slope, abs=1e-4)


def test_a_time_outside_is_held_at_the_nearer_end():
    a, b = state(1.0, **A), state(1.0 + DURATION, **B)
    assert at(a, b, 0.5).positions == pytest.approx(a.positions)
    assert at(a, b, 9.0).positions == pytest.approx(b.positions)
