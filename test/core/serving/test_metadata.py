from __future__ import annotations

import pytest

from qwen_vla_ros.serving.metadata import RobotError, ServerMetadata
from qwen_vla_ros.serving.wire import WireError, pack, unpack


def test_metadata_survives_the_wire(aloha):
    served = ServerMetadata.of(aloha, "nano")
    assert ServerMetadata.from_wire(unpack(pack(served.to_wire()))) == served


def test_a_server_for_the_same_robot_is_taken(aloha):
    ServerMetadata.of(aloha, "any").require(aloha)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protocol": 1}, "version 1 of the protocol, this is version 3"),
        ({"embodiment": "so101"}, "serves robot 'so101', this is 'aloha_sim'"),
        ({"embodiment_hash": "0" * 16}, "another version of 'aloha_sim' \\(0000000000000000"),
        ({"channels": ("a",)}, "channels: the server has"),
        ({"units": ("a",)}, "units: the server has"),
        ({"dt": 0.1}, "dt: the server has 0.1, this robot 0.02"),
        ({"action_horizon": 50}, "action_horizon: the server has 50, this robot 16"),
    ],
)
def test_every_difference_is_refused_with_a_sentence(aloha, changes, sentence):
    with pytest.raises(RobotError, match=sentence):
        ServerMetadata.of(aloha, "any").model_copy(update=changes).require(aloha)


@pytest.mark.parametrize(
    "key", ["embodiment", "embodiment_hash", "model", "channels", "units", "dt", "action_horizon"]
)
@pytest.mark.parametrize("value", [None, 7.5e9, "x" * 1000, [1], {}])
def test_what_is_no_metadata_is_refused_by_the_field(aloha, key, value):
    entries = {**ServerMetadata.of(aloha, "any").to_wire(), key: value}
    with pytest.raises(WireError, match=f"'{key}"):
        ServerMetadata.from_wire(entries)
