"""Speed and acceleration of a base."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.safety.envelope import BaseEnvelope
from qwen_vla_ros.safety.twist_filter import TwistFilter

PERIOD = 0.02
ENVELOPE = BaseEnvelope(
    linear_velocity=0.6, angular_velocity=1.5, linear_acceleration=1.5, angular_acceleration=5.0
)
numbers = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    wanted=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30),
    share=st.floats(0.2, 5.0),
)
def test_any_input_gives_an_allowed_twist(wanted, share):
    twist, dt, brake = np.zeros(2), PERIOD * share, TwistFilter(ENVELOPE)
    for pair in wanted:
        step = brake.step(twist, np.array(pair), dt)
        assert ENVELOPE.count_violations(twist, step.twist, dt) == 0
        twist = step.twist


def test_an_allowed_twist_passes_to_the_last_bit():
    brake = TwistFilter(ENVELOPE)
    twist = np.array([0.3, -0.7])
    wanted = np.array([0.31, -0.65])
    step = brake.step(twist, wanted, PERIOD)
    assert step.twist.tobytes() == wanted.tobytes()
    assert not step.is_limited


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(v=st.floats(-0.6, 0.6), w=st.floats(-1.5, 1.5), a=st.floats(-9, 9), b=st.floats(-9, 9))
def test_what_has_passed_passes_again_unchanged(v, w, a, b):
    brake, twist = TwistFilter(ENVELOPE), np.array([v, w])
    once = brake.step(twist, np.array([a, b]), PERIOD).twist
    again = brake.step(twist, once, PERIOD)
    assert (again.twist == once).all()
    assert not again.is_limited


def test_too_fast_a_curve_keeps_its_radius():
    brake, twist = TwistFilter(ENVELOPE), np.zeros(2)
    for _ in range(100):
        twist = brake.step(twist, np.array([1.2, 1.2]), PERIOD).twist
    np.testing.assert_allclose(twist, [0.6, 0.6])


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(v=st.floats(-0.6, 0.6), w=st.floats(-1.5, 1.5))
def test_a_brake_keeps_the_curve_and_ends_in_time(v, w):
    brake, twist, elapsed = TwistFilter(ENVELOPE), np.array([v, w]), 0.0
    while twist.any():
        slower = brake.brake(twist, PERIOD).twist
        assert (np.abs(slower) <= np.abs(twist)).all()
        assert (slower * twist >= 0).all()
        assert slower[0] * w == pytest.approx(slower[1] * v, abs=1e-12)
        twist, elapsed = slower, elapsed + PERIOD
    assert elapsed <= (ENVELOPE.velocity / ENVELOPE.acceleration).max() + PERIOD


def test_a_wrong_shape_brakes():
    twist = np.array([0.3, 0.0])
    step = TwistFilter(ENVELOPE).step(twist, np.zeros(3), PERIOD)
    assert 0 < step.twist[0] < 0.3
