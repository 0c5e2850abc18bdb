"""Motions in the plane."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen_vla_ros.execution.planar import compose, difference, motion_of, twist_of, wrap

metres = st.floats(-5, 5)
turns = st.floats(-3.0, 3.0)
poses = st.tuples(metres, metres, turns).map(np.array)


def close(a, b):
    np.testing.assert_allclose(a[:2], b[:2], atol=1e-6)
    assert wrap(a[2] - b[2]) == pytest.approx(0, abs=1e-9)


@given(a=poses, b=poses)
def test_the_difference_leads_from_one_to_the_other(a, b):
    close(compose(a, difference(a, b)), b)


@given(motion=poses)
@example(motion=np.array([0.0, 1.0, 1e-9]))
@example(motion=np.array([1.0, 0.0, -1.5e-9]))
def test_the_twist_of_a_motion_makes_that_motion(motion):
    close(motion_of(twist_of(motion)), motion)


@given(motion=poses, share=st.floats(0, 1))
def test_an_arc_driven_in_two_parts_is_the_same_arc(motion, share):
    twist = twist_of(motion)
    close(compose(motion_of(share * twist), motion_of((1 - share) * twist)), motion)


def test_a_quarter_circle_is_driven_forwards_only():
    twist = twist_of(np.array([1.0, 1.0, np.pi / 2]))
    np.testing.assert_allclose(twist, [np.pi / 2, 0.0, np.pi / 2], atol=1e-12)


@pytest.mark.parametrize(("angle", "wrapped"), [(0, 0), (4, 4 - 2 * np.pi), (-4, 2 * np.pi - 4)])
def test_angles_are_wrapped(angle, wrapped):
    assert wrap(angle) == pytest.approx(wrapped)
