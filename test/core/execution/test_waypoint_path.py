import numpy as np
import pytest

from qwen_vla_ros.execution.planar import compose, motion_of
from qwen_vla_ros.execution.waypoint_path import WaypointPath

CURVE = np.array([motion_of(np.array([0.2, 0.0, turn])) for turn in (0.3, -0.5, 0.0)])
START = np.array([1.0, -2.0, 0.7])


def test_a_way_passes_through_its_waypoints():
    path = WaypointPath(CURVE, START)
    pose = START
    for row, motion in enumerate(CURVE):
        np.testing.assert_allclose(path.at(row)[0], pose, atol=1e-12)
        pose = compose(pose, motion)
    np.testing.assert_allclose(path.at(3.0)[0], pose, atol=1e-12)


def test_between_two_waypoints_it_is_the_arc_of_constant_twist():
    pose, twist = WaypointPath(CURVE).at(0.5)
    np.testing.assert_allclose(twist, [0.2, 0.0, 0.3], atol=1e-12)
    np.testing.assert_allclose(pose, motion_of(0.5 * twist))


def test_without_a_start_it_begins_at_the_origin():
    np.testing.assert_array_equal(WaypointPath(CURVE).at(0.0)[0], np.zeros(3))


def test_beyond_the_last_row_its_arc_goes_on():
    assert WaypointPath(CURVE[2:]).at(2.0)[0][0] == pytest.approx(0.4)
