"""One chunk after another, as the policy's side sees it."""

import numpy as np
import pytest

from qwen_vla_ros.execution.replanner import Replanner
from qwen_vla_ros.types import ActionChunk, rest_chunk

MS = 1_000_000


@pytest.fixture
def replanner(aloha):
    """16 rows of 20 ms, 8 of them to be executed, behind a gate that plays."""
    replanner = Replanner.from_embodiment(aloha)
    replanner.on_gate(is_playing=True, rejected=0)
    return replanner


def chunk_at(robot, stamp_ms):
    rows = robot.file.prompt.action_horizon
    return ActionChunk(
        stamp_ns=stamp_ms * MS,
        dt=robot.dt,
        channels=robot.channels,
        actions=np.full((rows, len(robot.channels)), 0.1),
    )


def answer(replanner, robot, *, stamp_ms, age_ms=100, thought_ms=40):
    """Let a chunk come `age_ms` after its observation, of which `thought_ms` were thought."""
    chunk = chunk_at(robot, stamp_ms)
    replanner.on_chunk(chunk, (stamp_ms + age_ms) * MS, thought_ms * 1e-3)


def test_an_episode_begins_with_a_question_and_commits_nothing(replanner):
    assert replanner.is_due(5 * MS)
    assert replanner.committed(5 * MS) is None


def test_the_next_chunk_continues_what_is_played_until_it_is_there(replanner, aloha):
    answer(replanner, aloha, stamp_ms=1000)
    assert not replanner.is_due(1119 * MS)
    assert replanner.is_due(1120 * MS)
    committed = replanner.committed(1120 * MS)
    assert committed.shape == (9, 14)  # 100 ms, 50 ms that the gate plans ahead, one more
    np.testing.assert_array_equal(committed, 0.1)


def test_a_base_commits_whole_motions_in_the_order_of_its_channels(diffbot):
    replanner = Replanner.from_embodiment(diffbot)
    replanner.on_gate(is_playing=True, rejected=0)
    answer(replanner, diffbot, stamp_ms=1000, age_ms=150)
    committed = replanner.committed(1400 * MS)
    np.testing.assert_allclose(committed, [[0.1, 0.1, 0.1]])


def test_a_new_episode_begins_anew(replanner, aloha):
    answer(replanner, aloha, stamp_ms=1000)
    replanner.restart()
    assert replanner.is_due(1001 * MS)
    assert replanner.committed(1050 * MS) is None


@pytest.mark.parametrize(
    "gate", [{"is_playing": False, "rejected": 0}, {"is_playing": True, "rejected": 1}]
)
def test_nothing_is_committed_that_the_gate_does_not_play(replanner, aloha, gate):
    answer(replanner, aloha, stamp_ms=1000)
    replanner.on_gate(**gate)
    assert replanner.committed(1050 * MS) is None


def test_chunks_that_overlap_are_no_shortage(replanner, aloha):
    for k in range(20):
        answer(replanner, aloha, stamp_ms=1000 + 133 * k, age_ms=180)
    assert replanner.shortage() == ""


def test_chunks_that_end_before_the_next_one_are_told_with_their_times(replanner, aloha):
    assert replanner.shortage() == ""
    for k in range(20):
        answer(replanner, aloha, stamp_ms=1000 + 133 * k, age_ms=190)
    assert replanner.shortage() == (
        "chunks run dry: one plays until 320 ms after its observation, the next one is there "
        "after 323 ms (190 ms of these after its own observation; p95)"
    )


def test_a_pause_between_two_episodes_is_no_shortage(replanner, aloha):
    answer(replanner, aloha, stamp_ms=1000)
    replanner.on_chunk(rest_chunk(1200 * MS, aloha.dt, aloha.channels), 1200 * MS, 0.0)
    answer(replanner, aloha, stamp_ms=9000)
    replanner.restart()
    answer(replanner, aloha, stamp_ms=20000)
    assert replanner.shortage() == ""


def test_an_answer_of_which_nothing_would_be_played_says_so(replanner, aloha):
    answer(replanner, aloha, stamp_ms=1550, age_ms=10)
    chunk = chunk_at(aloha, 1000)
    assert replanner.lateness(chunk, 1319 * MS) == ""
    assert replanner.lateness(chunk, 1600 * MS) == (
        "the answer came 0.60 s after its observation; a chunk is played for 0.32 s"
    )


def test_it_is_never_too_late_to_rest(replanner, aloha):
    rest = rest_chunk(1000 * MS, aloha.dt, aloha.channels)
    assert replanner.lateness(rest, 9000 * MS) == ""


def test_a_clock_that_went_back_does_not_silence_the_policy(replanner, aloha):
    answer(replanner, aloha, stamp_ms=100_000)
    assert replanner.is_due(10 * MS)


def test_a_motion_may_begin_from_all_that_is_not_too_old(replanner, aloha):
    chunk = chunk_at(aloha, 1000)
    assert replanner.lateness(chunk, 1499 * MS) == ""
    assert replanner.lateness(chunk, 1500 * MS) == (
        "the answer came 0.50 s after its observation; a motion begins within 0.5 s"
    )


def test_a_cold_answer_is_asked_for_again_and_teaches_nothing(replanner, aloha):
    answer(replanner, aloha, stamp_ms=1000, age_ms=3000, thought_ms=3000)
    assert replanner.is_due(4000 * MS)
    assert replanner.committed(4000 * MS) is None
    answer(replanner, aloha, stamp_ms=4000)
    assert not replanner.is_due(4119 * MS)
    assert len(replanner.committed(4200 * MS)) == 9


def test_what_is_committed_counts_from_the_beginning_of_the_motion(replanner, aloha):
    chunk = chunk_at(aloha, 1000)
    chunk.actions[:] = 0.01 * np.arange(16)[:, None]
    replanner.on_chunk(chunk, 1400 * MS, 0.1)
    # Row 0 is for 1450 ms: the gate plans 50 ms ahead.
    first = replanner.committed(1490 * MS)[0, 0]
    assert first == pytest.approx(0.02)
    # What is seen before is answered by rows from the beginning on.
    assert replanner.committed(1420 * MS)[0, 0] == 0.0
