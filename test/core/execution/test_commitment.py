"""What is played on whatever the answer is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_vla_ros.execution.commitment import Commitment, committed_motions, committed_values
from qwen_vla_ros.execution.planar import compose, motion_of
from qwen_vla_ros.types import ActionChunk, rest_chunk

MS = 1_000_000
BEGIN = 10**15
ROWS = np.arange(16.0)[:, None] * [1.0, -2.0]
"""Sixteen rows of 20 ms; their values are the row numbers, so that what is wanted is plain."""


def make_chunk(actions=ROWS, stamp_ns=BEGIN, dt=0.02, **changes):
    channels = tuple("abcd"[: actions.shape[1]])
    return ActionChunk(stamp_ns=stamp_ns, dt=dt, channels=channels, actions=actions, **changes)


@pytest.fixture
def commitment():
    commitment = Commitment(max_age_s=0.5)
    commitment.on_gate(is_playing=True, rejected=0)
    commitment.on_chunk(make_chunk(), BEGIN)
    return commitment


# How much -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latency_s", "rows"), [(0.0, 1), (0.001, 2), (0.1, 6), (0.101, 7), (0.11, 7)]
)
def test_as_many_rows_as_the_answer_takes_and_one_more(commitment, latency_s, rows):
    assert len(commitment.rows(BEGIN, latency_s)) == rows


def test_the_answer_always_has_a_row_left_to_decide(commitment):
    assert len(commitment.rows(BEGIN, 9.0)) == 15


def test_nothing_is_committed_beyond_the_end_of_the_chunk_in_play(commitment):
    rows = commitment.rows(BEGIN + 250 * MS, 0.2)
    np.testing.assert_allclose(rows[:, 0], [12.5, 13.5, 14.5, 15.0])
    assert commitment.rows(BEGIN + 319 * MS, 0.2) is not None
    assert commitment.rows(BEGIN + 320 * MS, 0.2) is None


def test_nothing_is_committed_beyond_the_age_of_the_observation_in_play():
    assert len(committed_values(make_chunk(), BEGIN, 15, max_age_s=0.1)) == 5


def test_what_is_seen_before_the_motion_begins_continues_it_from_its_beginning():
    commitment = Commitment(max_age_s=0.5, lookahead_s=0.05)
    commitment.on_gate(is_playing=True, rejected=0)
    commitment.on_chunk(make_chunk(), BEGIN + 80 * MS)  # it begins at 130 ms
    rows = commitment.rows(BEGIN + 70 * MS, 0.0)
    np.testing.assert_allclose(rows, ROWS[: len(rows)])
    rows = commitment.rows(BEGIN + 170 * MS, 0.0)
    np.testing.assert_allclose(rows, ROWS[2 : 2 + len(rows)])


def test_a_chunk_of_one_row_commits_nothing(commitment):
    commitment.on_chunk(make_chunk(ROWS[:1]), BEGIN)
    assert commitment.rows(BEGIN, 0.1) is None


# What -----------------------------------------------------------------------------------------


def test_whole_rows_later_the_rows_are_the_same_to_the_last_bit(commitment):
    rows = commitment.rows(BEGIN + 60 * MS, 0.08)
    assert rows.tobytes() == np.ascontiguousarray(ROWS[3:8]).tobytes()


def test_between_rows_they_are_interpolated(commitment):
    rows = commitment.rows(BEGIN + 65 * MS, 0.06)
    np.testing.assert_allclose(rows, ROWS[3:7] + np.array([0.25, -0.5]))


motions = st.tuples(st.floats(-0.3, 0.3), st.floats(-0.1, 0.1), st.floats(-1.0, 1.0)).map(
    lambda twist: motion_of(np.array(twist))
)


@pytest.mark.slow
@given(rows=st.lists(motions, min_size=4, max_size=8).map(np.array), late_ms=st.integers(0, 1000))
def test_committed_waypoints_lead_along_the_very_same_way(rows, late_ms):
    chunk = make_chunk(rows, dt=0.5)
    committed = committed_motions(chunk, BEGIN + late_ms * MS, 2, 10.0, (0, 1, 2))
    assert committed.shape == (2, 3)
    whole, share = divmod(late_ms / 500, 1)
    here = np.zeros(3)
    for motion in rows[: int(whole)]:
        here = compose(here, motion)
    _, twist = _arc(rows[int(whole)])
    pose = compose(here, motion_of(share * twist))
    for row in range(2):
        pose = compose(pose, committed[row])
        index = int(whole) + row + 1
        there = np.zeros(3)
        for motion in rows[:index]:
            there = compose(there, motion)
        _, twist = _arc(rows[index]) if index < len(rows) else (None, np.zeros(3))
        expected = compose(there, motion_of(share * twist))
        np.testing.assert_allclose(pose[:2], expected[:2], atol=1e-9)
        assert np.cos(pose[2] - expected[2]) == pytest.approx(1.0)


def _arc(motion):
    from qwen_vla_ros.execution.planar import twist_of

    return motion, twist_of(motion)


def test_waypoints_go_on_whole_rows_later_as_they_are():
    curve = np.tile(motion_of(np.array([0.2, 0.0, 0.3])), (8, 1))
    committed = committed_motions(make_chunk(curve, dt=0.5), BEGIN + 500 * MS, 3, 10.0, (0, 1, 2))
    np.testing.assert_allclose(committed, curve[:3], atol=1e-12)


def test_waypoints_keep_the_columns_of_their_channels():
    rows = np.tile([0.3, 0.2, 0.0], (8, 1))  # turn, ahead, to the left
    committed = committed_motions(make_chunk(rows, dt=0.5), BEGIN, 2, 10.0, (1, 2, 0))
    np.testing.assert_allclose(committed, rows[:2], atol=1e-12)


def test_a_motion_that_the_chunk_does_not_finish_is_not_committed():
    curve = np.tile([0.2, 0.0, 0.0], (8, 1))
    late = BEGIN + 400 * MS
    assert len(committed_motions(make_chunk(curve, dt=0.5), late, 3, 1.0, (0, 1, 2))) == 1
    assert committed_motions(make_chunk(curve, dt=0.5), late, 3, 0.8, (0, 1, 2)) is None


# When not -------------------------------------------------------------------------------------


def test_nothing_is_committed_before_the_gate_has_said_that_it_plays():
    commitment = Commitment(max_age_s=0.5)
    commitment.on_chunk(make_chunk(), BEGIN)
    assert commitment.rows(BEGIN, 0.1) is None


def test_nothing_is_committed_before_the_first_chunk():
    commitment = Commitment(max_age_s=0.5)
    commitment.on_gate(is_playing=True, rejected=0)
    assert commitment.rows(BEGIN, 0.1) is None


def test_nothing_is_committed_while_the_gate_holds(commitment):
    commitment.on_gate(is_playing=False, rejected=0)
    assert commitment.rows(BEGIN, 0.1) is None
    commitment.on_gate(is_playing=True, rejected=0)
    assert commitment.rows(BEGIN, 0.1) is not None


def test_nothing_is_committed_of_a_chunk_that_the_gate_rejected(commitment):
    commitment.on_gate(is_playing=True, rejected=1)
    assert commitment.rows(BEGIN, 0.1) is None
    commitment.on_chunk(make_chunk(), BEGIN)
    commitment.on_gate(is_playing=True, rejected=1)
    assert commitment.rows(BEGIN, 0.1) is not None


def test_nothing_is_committed_after_rest_or_when_dropped(commitment):
    commitment.restart()
    assert commitment.rows(BEGIN, 0.1) is None
    commitment.on_chunk(make_chunk(), BEGIN)
    commitment.on_chunk(rest_chunk(BEGIN, 0.02, ("a", "b")), BEGIN)
    assert commitment.rows(BEGIN, 0.1) is None


def test_nothing_is_committed_to_an_observation_from_before_the_chunk(commitment):
    assert commitment.rows(BEGIN - 1, 0.1) is None
