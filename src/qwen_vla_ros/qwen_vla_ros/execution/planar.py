"""Poses and motions in the plane: (x m, y m, yaw rad), composed like transforms."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.types import FloatArray

WAYPOINT_KINDS = ("waypoint_x", "waypoint_y", "waypoint_yaw")
"""Kinds of the action channels that make a motion, in its order."""

SMALL_TURN = 1e-9
"""Below this turn (rad) an arc is its chord, to within rounding."""


def wrap(angle: float) -> float:
    """Return the angle in [-pi, pi)."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def compose(a_from_b: FloatArray, b_from_c: FloatArray) -> FloatArray:
    """Return a_from_c, shape (3,)."""
    x, y, yaw = a_from_b
    dx, dy, dyaw = b_from_c
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([x + cos * dx - sin * dy, y + sin * dx + cos * dy, wrap(yaw + dyaw)])


def difference(a_from_b: FloatArray, a_from_c: FloatArray) -> FloatArray:
    """Return b_from_c, shape (3,): where c is, seen from b."""
    dx, dy = a_from_c[:2] - a_from_b[:2]
    cos, sin = np.cos(a_from_b[2]), np.sin(a_from_b[2])
    return np.array([cos * dx + sin * dy, -sin * dx + cos * dy, wrap(a_from_c[2] - a_from_b[2])])


def twist_of(motion: FloatArray) -> FloatArray:
    """Return the constant twist (vx, vy, w) that makes this motion (3,) in unit time."""
    dx, dy, turn = motion
    half = turn / 2
    if abs(turn) < SMALL_TURN:
        return np.array([dx, dy, turn])
    # A whole turn comes back to where it began: whatever the chord, no arc makes it.
    lever = half / np.tan(half) if abs(np.sin(half)) > SMALL_TURN / 4 else 0.0
    return np.array([lever * dx + half * dy, -half * dx + lever * dy, turn])


def motion_of(twist: FloatArray) -> FloatArray:
    """Return the motion (dx, dy, turn) that a constant twist (3,) makes in unit time: an arc."""
    vx, vy, turn = twist
    if abs(turn) < SMALL_TURN:
        return np.array([vx, vy, turn])
    along, across = np.sin(turn) / turn, (1 - np.cos(turn)) / turn
    return np.array([along * vx - across * vy, across * vx + along * vy, turn])
