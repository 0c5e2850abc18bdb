"""Of the chunks between two ticks the newest counts, and nothing hides a call to rest."""

import pytest

pytest.importorskip("rclpy")

from qwen_vla_msgs.msg import ActionChunk

from qwen_vla_ros.ros.attributed_subscription import Heard
from qwen_vla_ros.ros.newest_chunks import newest_chunks

OURS, STRANGER = b"ours", b"stranger"


def heard(sequence, episode="a", source=OURS, rest=False):
    message = ActionChunk(sequence=sequence, episode=episode, rest=rest)
    return Heard(message, source, is_again=False)


def kept(*chunks):
    return [each.message.sequence for each in newest_chunks(chunks)]


def test_the_newest_of_a_flood_is_kept():
    assert kept(heard(1), heard(2), heard(3)) == [3]
    assert kept() == []


def test_a_chunk_that_says_rest_is_kept_with_what_followed_it():
    assert kept(heard(1), heard(2, rest=True), heard(3)) == [2, 3]
    assert kept(heard(1), heard(2), heard(3, rest=True)) == [3]


def test_another_episode_replaces_nothing():
    assert kept(heard(1), heard(2), heard(3, "b"), heard(4, "b")) == [2, 4]


def test_a_stranger_neither_hides_nor_is_hidden():
    chunks = heard(1), heard(9, source=STRANGER), heard(2)
    assert kept(*chunks) == [9, 2]
