"""The state as numbers from 0 to 255."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.prompt.state_text import state_text

ALOHA = load_embodiment("aloha_sim")
LOWER = np.array([ALOHA.file.safety.joints[joint].lower for joint in ALOHA.joints])
UPPER = np.array([ALOHA.file.safety.joints[joint].upper for joint in ALOHA.joints])


def numbers(robot: Embodiment, state: np.ndarray) -> list[int]:
    text = state_text(robot, state)
    assert text.startswith("state: [")
    assert text.endswith("]")
    return [int(number) for number in text[len("state: [") : -1].split(", ")]


def at(share: float | np.ndarray) -> np.ndarray:
    """The state with every joint at a share of the way from its lower to its upper limit."""
    return ALOHA.channels_from_joints(LOWER + share * (UPPER - LOWER))


def test_the_limits_of_the_envelope_are_0_and_255():
    assert numbers(ALOHA, at(0.0)) == [0] * 14
    assert numbers(ALOHA, at(1.0)) == [255] * 14


def test_the_range_is_cut_into_256_equal_parts():
    for part in (1, 34, 127, 128, 254):
        assert numbers(ALOHA, at((part + 0.01) / 256)) == [part] * 14
        assert numbers(ALOHA, at((part + 0.99) / 256)) == [part] * 14


def test_what_lies_beyond_counts_as_the_end():
    assert numbers(ALOHA, at(-0.5)) == [0] * 14
    assert numbers(ALOHA, at(1.5)) == [255] * 14


def test_the_numbers_are_in_the_order_of_the_channels():
    shares = (np.arange(14) + 0.5) / 256
    assert numbers(ALOHA, at(shares)) == list(range(14))


def test_a_channel_that_turns_the_other_way_is_counted_its_own_way():
    action = list(ALOHA.file.action)
    action[0] = action[0].model_copy(update={"scale": -2.0, "offset": 0.25})
    turned = replace(ALOHA, file=ALOHA.file.model_copy(update={"action": tuple(action)}))
    at_lower_limit = turned.channels_from_joints(LOWER)
    assert numbers(turned, at_lower_limit) == [255, *[0] * 13]


@given(st.lists(st.floats(-1e6, 1e6), min_size=14, max_size=14))
@settings(max_examples=100, deadline=None)
def test_every_state_has_14_numbers_of_a_byte(values: list[float]):
    told = numbers(ALOHA, np.array(values))
    assert len(told) == 14
    assert all(0 <= number <= 255 for number in told)


@pytest.mark.parametrize(
    "state", [np.zeros(13), np.zeros((1, 14)), np.full(14, np.nan), np.full(14, np.inf)]
)
def test_a_state_that_is_none_is_an_error(state: np.ndarray):
    with pytest.raises(ValueError, match="the state must be 14 finite numbers"):
        state_text(ALOHA, state)
