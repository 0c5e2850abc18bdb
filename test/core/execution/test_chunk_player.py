"""Chunks, played by absolute time."""

import numpy as np
import pytest

from qwen_vla_ros.execution.chunk_player import ChunkPlayer
from qwen_vla_ros.types import ActionChunk, rest_chunk

BEGIN = 10**15
MS = 1_000_000
ROWS = np.array([[0.0, 0.0], [1.0, 10.0], [3.0, 30.0], [4.0, 40.0]])


def make_chunk(stamp_ns=BEGIN, actions=ROWS, **changes):
    values = {"dt": 0.02, "channels": ("a", "b"), "episode": "e"}
    return ActionChunk(stamp_ns=stamp_ns, actions=actions, **{**values, **changes})


@pytest.fixture
def player():
    player = ChunkPlayer(max_age_s=0.5)
    player.accept(make_chunk())
    return player


def test_before_the_first_chunk_nothing_is_wanted_and_nothing_is_missing():
    player = ChunkPlayer(max_age_s=0.5)
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
    player = ChunkPlayer(max_age_s=0.03)
    player.accept(make_chunk())
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


def test_another_episode_drops_the_old_one(player):
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
    player = ChunkPlayer(max_age_s=0.5)
    player.accept(make_chunk(actions=ROWS[1:2]))
    np.testing.assert_array_equal(player.at(BEGIN + 19 * MS), ROWS[1])
    assert player.at(BEGIN + 20 * MS) is None
