import math

import pytest

from qwen_vla_ros.embodiment.backend import JointTrajectory, StampedTwist, TrajectoryPoint
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.evaluation.command_audit import CommandAudit


@pytest.fixture
def audit():
    return CommandAudit(load_embodiment("aloha_sim"))


@pytest.fixture
def base_audit():
    return CommandAudit(load_embodiment("diffbot_sim"))


def waist(positions, velocities):
    """A trajectory of one joint, points of positions and of velocities."""
    points = tuple(
        TrajectoryPoint(time_from_start_ns=k, positions=tuple(where), velocities=tuple(speed))
        for k, (where, speed) in enumerate(zip(positions, velocities, strict=True))
    )
    return JointTrajectory(start_ns=0, joints=("left_waist",), points=points)


def test_a_short_stop_inside_the_envelope_is_clean(audit):
    audit.on_command(waist([[0.0], [0.01]], [[1.0], [0.0]]))
    assert audit.commands == 1
    assert audit.total_violations == 0


@pytest.mark.parametrize(
    ("positions", "velocities", "finding"),
    [
        ([[3.2]], [[0.0]], "position"),
        ([[math.nan]], [[0.0]], "position"),
        ([[0.0], [0.0]], [[2.1], [0.0]], "velocity"),
        ([[0.0], [0.0]], [[math.inf], [0.0]], "velocity"),
        ([[0.0]], [[0.1]], "end not at rest"),
        ([[3.2]], [[]], "position"),
        ([[0.0, 0.0]], [[]], "size"),
    ],
)
def test_what_leaves_the_envelope_is_found(audit, positions, velocities, finding):
    audit.on_command(waist(positions, velocities))
    assert audit.violations == {finding: 1}


def test_bare_positions_inside_the_envelope_are_clean(audit):
    audit.on_command(waist([[0.5]], [[]]))
    assert (audit.commands, audit.total_violations) == (1, 0)


@pytest.mark.parametrize(("linear", "angular"), [(0.7, 0.0), (0.0, -1.6), (math.nan, 0.0)])
def test_a_twist_outside_the_envelope_is_found(base_audit, linear, angular):
    base_audit.on_command(StampedTwist(linear=linear, angular=angular))
    assert base_audit.total_violations == 1
