"""Chunks, played by the time in which the robot moves."""

import numpy as np
import pytest

from qwen_vla_ros.execution.chunk_player import ChunkPlayer
from qwen_vla_ros.execution.seam import SeamLimits
from qwen_vla_ros.types import ActionChunk, rest_chunk

BEGIN = 10**15
MS = 1_000_000
ROWS = np.array([[0.0, 0.0], [1.0, 10.0], [3.0, 30.0], [4.0, 40.0]])
LIMITS = SeamLimits(
    lower=np.full(2, -1e3),
    upper=np.full(2, 1e3),
    velocity=np.array([200.0, 2000.0]),
    acceleration=np.array([2e3, 2e4]),
    reach=np.full(2, 50.0),
)


def make_chunk(stamp_ns=BEGIN, actions=ROWS, **changes):
    values = {"dt": 0.02, "channels": ("a", "b"), "episode": "e"}
    return ActionChunk(stamp_ns=stamp_ns, actions=actions, **{**values, **changes})


def make_player(max_age_s=0.5):
    return ChunkPlayer(max_age_s, LIMITS)


@pytest.fixture
def player():
    """One whose motion began with the first row of its chunk."""
    return begin()


def begin(actions=ROWS, stamp_ns=BEGIN, max_age_s=0.5):
    player = make_player(max_age_s)
    player.accept(make_chunk(stamp_ns, actions))
    player.at(stamp_ns)
    return player


def test_before_the_first_chunk_nothing_is_wanted_and_nothing_is_missing():
    player = make_player()
    assert player.at(BEGIN) is None
    assert player.is_resting


@pytest.mark.parametrize("row", range(4))
def test_a_row_is_played_at_its_own_time_to_the_last_bit(player, row):
    wanted = player.at(BEGIN + row * 20 * MS)
    assert wanted.tobytes() == ROWS[row].tobytes()


@pytest.mark.parametrize(
    ("ms", "wanted"), [(10, [0.5, 5.0]), (25, [1.5, 15.0]), (59, [3.95, 39.5]), (79, [4.0, 40.0])]
)
def test_between_two_rows_it_is_interpolated(player, ms, wanted):
    np.testing.assert_allclose(player.at(BEGIN + ms * MS), wanted)


def test_after_its_last_row_a_chunk_is_over_and_something_is_missing(player):
    assert player.at(BEGIN + 79 * MS) is not None
    assert player.at(BEGIN + 80 * MS) is None
    assert not player.is_resting


def test_a_time_just_before_the_first_row_gives_the_first_row(player):
    np.testing.assert_array_equal(player.at(BEGIN - 30 * MS), ROWS[0])


def test_nothing_is_played_beyond_the_age_of_the_observation():
    player = begin(max_age_s=0.03)
    assert player.at(BEGIN + 29 * MS) is not None
    assert player.at(BEGIN + 30 * MS) is None


def test_a_new_chunk_begins_at_its_own_place_in_time(player):
    late = make_chunk(BEGIN + 20 * MS, ROWS + 100)
    player.accept(late)
    np.testing.assert_array_equal(player.at(BEGIN + 60 * MS), ROWS[2] + 100)


def test_rest_ends_it_all(player):
    player.accept(rest_chunk(BEGIN, 0.02, ("a", "b")))
    assert player.at(BEGIN + 20 * MS) is None
    assert player.is_resting


def test_another_episode_drops_the_old_one():
    player = make_player()
    player.accept(make_chunk())
    player.accept(make_chunk(BEGIN, ROWS - 7, episode="another"))
    np.testing.assert_array_equal(player.at(BEGIN), ROWS[0] - 7)


def test_clearing_leaves_nothing(player):
    player.clear()
    assert player.at(BEGIN) is None
    assert player.is_resting


def test_what_is_handed_out_may_be_written_on(player):
    player.at(BEGIN)[:] = 9
    player.at(BEGIN + 79 * MS)[:] = 9
    np.testing.assert_array_equal(player.at(BEGIN), ROWS[0])
    np.testing.assert_array_equal(player.at(BEGIN + 79 * MS), ROWS[3])


def test_one_row_holds_for_one_dt():
    player = begin(ROWS[1:2])
    np.testing.assert_array_equal(player.at(BEGIN + 19 * MS), ROWS[1])
    assert player.at(BEGIN + 20 * MS) is None


# Seams ---------------------------------------------------------------------------------------


def test_a_chunk_that_agrees_passes_to_the_last_bit(player):
    for ms in (0, 20, 30):
        player.at(BEGIN + ms * MS)
    player.accept(make_chunk(BEGIN + 20 * MS, ROWS[1:]))
    expected = begin(ROWS[1:], BEGIN + 20 * MS)
    for ms in (40, 47, 60, 79):
        assert player.at(BEGIN + ms * MS).tobytes() == expected.at(BEGIN + ms * MS).tobytes()


def test_a_chunk_that_disagrees_goes_on_from_what_was_handed_on_last(player):
    player.at(BEGIN)
    player.at(BEGIN + 20 * MS)
    player.accept(make_chunk(actions=ROWS + np.array([0.0, 9.0])))
    np.testing.assert_allclose(player.at(BEGIN + 20 * MS), ROWS[1])
    step = player.at(BEGIN + 21 * MS) - ROWS[1]
    assert (np.abs(step) <= LIMITS.velocity * 0.001 + 1e-9).all()


def test_the_channel_that_agrees_is_not_touched_by_one_that_does_not(player):
    player.at(BEGIN + 20 * MS)
    player.accept(make_chunk(actions=ROWS + np.array([0.0, 9.0])))
    assert player.at(BEGIN + 40 * MS)[0] == ROWS[2, 0]


def test_a_chunk_that_is_accepted_before_the_last_one_was_asked_for_replaces_it(player):
    player.at(BEGIN + 20 * MS)
    player.accept(make_chunk(actions=ROWS + 40.0))
    player.accept(make_chunk(actions=ROWS))
    np.testing.assert_allclose(player.at(BEGIN + 40 * MS), ROWS[2])


def begun(player):
    """What the player hands on of a chunk that begins far from the one before."""
    player.accept(make_chunk(BEGIN + 80 * MS, ROWS + 9))
    return player.at(BEGIN + 100 * MS)


@pytest.mark.parametrize("end", ["interrupt", "clear", "rest", "over"])
def test_a_chunk_that_begins_from_rest_begins_as_it_is(player, end):
    player.at(BEGIN + 20 * MS)
    if end == "rest":
        player.accept(rest_chunk(BEGIN, 0.02, ("a", "b")))
    elif end == "over":
        assert player.at(BEGIN + 80 * MS) is None
    else:
        getattr(player, end)()
    assert begun(player).tobytes() == (ROWS + 9)[0].tobytes()


def test_an_interruption_ends_a_seam_that_is_under_way(player):
    player.at(BEGIN)
    player.accept(make_chunk(actions=ROWS + 9))
    assert (player.at(BEGIN + 20 * MS) < ROWS[1] + 9).all()
    player.interrupt()
    np.testing.assert_array_equal(player.at(BEGIN + 40 * MS), ROWS[1] + 9)


def test_a_chunk_is_over_when_its_time_is_and_rest_never_is(player):
    assert not make_player().is_over(BEGIN)
    assert not player.is_over(BEGIN + 79 * MS)
    assert player.is_over(BEGIN + 80 * MS)
    player.accept(rest_chunk(BEGIN, 0.02, ("a", "b")))
    assert not player.is_over(BEGIN + 1000 * MS)


# From rest -----------------------------------------------------------------------------------

NUMBERS = np.arange(16.0)[:, None] * [1.0, 10.0]
"""Sixteen rows of 20 ms; their values are the row numbers, so that what is played is plain."""


@pytest.mark.parametrize("late_ms", [0, 1, 130, 299])
def test_a_motion_begins_with_the_first_row_however_late_its_answer_is(late_ms):
    player = make_player()
    player.accept(make_chunk(actions=NUMBERS))
    played = [player.at(BEGIN + (late_ms + 20 * k) * MS) for k in range(17)]
    assert np.array(played[:16]).tobytes() == NUMBERS.tobytes()
    assert played[16] is None


def test_no_motion_begins_from_an_observation_that_is_too_old():
    player = make_player()
    player.accept(make_chunk(actions=NUMBERS))
    assert player.at(BEGIN + 500 * MS) is None
    assert player.is_over(BEGIN + 500 * MS)


def test_a_motion_goes_on_no_longer_than_the_age_that_is_allowed():
    player = make_player(max_age_s=0.2)
    player.accept(make_chunk(actions=NUMBERS))
    assert player.at(BEGIN + 199 * MS) is not None
    assert player.at(BEGIN + 398 * MS) is not None
    assert player.at(BEGIN + 399 * MS) is None


def test_a_chunk_that_is_over_stays_over():
    player = begin(NUMBERS)
    for row in range(1, 17):
        player.at(BEGIN + (20 * row + 7) * MS)
    for k in range(50):
        now = BEGIN + (320 + 20 * k) * MS
        assert player.is_over(now)
        assert player.at(now + 27 * MS) is None


def test_what_was_seen_before_the_motion_began_begins_with_it():
    player = make_player()
    player.accept(make_chunk(actions=NUMBERS))
    player.at(BEGIN + 300 * MS)
    player.accept(make_chunk(BEGIN + 200 * MS, NUMBERS))
    np.testing.assert_array_equal(player.at(BEGIN + 320 * MS), NUMBERS[1])


def test_an_answer_that_a_rest_overtook_goes_on_where_the_motion_ended():
    player = begin(NUMBERS[:8])
    for row in range(8):
        player.at(BEGIN + 20 * row * MS)
    assert player.at(BEGIN + 160 * MS) is None
    player.accept(make_chunk(BEGIN + 100 * MS, NUMBERS[5:]))
    np.testing.assert_array_equal(player.at(BEGIN + 400 * MS), NUMBERS[8])
    np.testing.assert_array_equal(player.at(BEGIN + 420 * MS), NUMBERS[9])


def test_a_motion_that_is_offered_and_not_played_has_not_begun():
    player = make_player()
    player.accept(make_chunk(actions=NUMBERS))
    for k in range(10):
        np.testing.assert_array_equal(player.at(BEGIN + 20 * k * MS), NUMBERS[0])
        player.interrupt()
    np.testing.assert_array_equal(player.at(BEGIN + 400 * MS), NUMBERS[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_latencies_are_no_row_is_skipped(seed):
    """The robot is where its rows say; a policy that looks at it numbers them on from there."""
    rng = np.random.default_rng(seed)
    player = make_player(max_age_s=1.0)
    where, answers = 0.0, []
    for tick in range(1500):
        now = BEGIN + 20 * tick * MS
        if answers and answers[0][0] <= now:
            player.accept(answers.pop()[1])
        wanted = player.at(now)
        if wanted is not None:
            # The row after the one that was played last, or that one again after a rest.
            assert -1e-9 <= wanted[0] - where <= 1.0 + 1e-9
            where = wanted[0]
        if not answers and rng.random() < 0.3:
            latency = rng.choice([0.0, 0.1, 0.3, 0.9]) * rng.uniform(0.5, 1.05)
            rows = (where + np.arange(16.0))[:, None] * [1.0, 10.0]
            answers.append((now + round(latency * 1e9), make_chunk(now, rows)))
    assert where > 300
