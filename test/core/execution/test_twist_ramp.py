"""The way from one twist to the next."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.execution.twist_ramp import TwistRamp
from qwen_vla_ros.safety.envelope import BaseEnvelope
from qwen_vla_ros.safety.twist_filter import TwistFilter

ENVELOPE = BaseEnvelope(
    linear_velocity=0.6, angular_velocity=1.5, linear_acceleration=1.5, angular_acceleration=5.0
)
RAMP = TwistRamp(ENVELOPE.velocity, ENVELOPE.acceleration)
goals = st.tuples(st.floats(-9, 9), st.floats(-9, 9))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(wanted=st.lists(goals, min_size=1, max_size=30), dt=st.floats(0.004, 0.1))
def test_no_step_of_a_ramp_is_changed_by_the_gates_filter(wanted, dt):
    twist, gate = np.zeros(2), TwistFilter(ENVELOPE)
    for goal in wanted:
        planned = RAMP.step(twist, np.array(goal), dt)
        step = gate.step(twist, planned, dt)
        assert not step.is_limited
        assert step.twist.tobytes() == planned.tobytes()
        twist = planned


@pytest.mark.parametrize("goal", [[0.5, 0.4], [-0.6, 1.5], [0.0, 0.0]])
def test_a_ramp_arrives_exactly_and_stays(goal):
    twist = np.array([0.1, -0.3])
    for _ in range(50):
        twist = RAMP.step(twist, np.array(goal), 0.02)
    assert twist.tolist() == goal


def test_too_fast_a_goal_keeps_its_curvature():
    assert RAMP.step(np.zeros(2), np.array([1.2, 0.6]), 9.0).tolist() == [0.6, 0.3]


def test_no_time_is_no_change():
    assert RAMP.step(np.array([0.3, 0.1]), np.array([0.5, 0.4]), 0.0).tolist() == [0.3, 0.1]


@pytest.mark.parametrize(
    ("twist", "is_allowed"), [([0.6, -1.5], True), ([0.6 + 1e-9, 0.0], True), ([0.0, 1.6], False)]
)
def test_what_a_base_may_do_at_all_is_known(twist, is_allowed):
    assert RAMP.allows(np.array(twist)) == is_allowed
