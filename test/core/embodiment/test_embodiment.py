from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.load import load_embodiment

ALOHA = load_embodiment("aloha_sim")
DIFFBOT = load_embodiment("diffbot_sim")
CHANNEL_ROWS = st.integers(0, 4).flatmap(
    lambda rows: st.lists(
        st.lists(st.floats(-4, 4), min_size=14, max_size=14), min_size=rows, max_size=rows
    )
)


@given(CHANNEL_ROWS)
@settings(max_examples=50, deadline=None)
def test_channels_to_joints_and_back_changes_nothing(rows: list[list[float]]):
    channels = np.array(rows).reshape(-1, 14)
    joints = ALOHA.joints_from_channels(channels)
    assert joints.shape == channels.shape
    np.testing.assert_allclose(ALOHA.channels_from_joints(joints), channels, atol=1e-12)


def test_a_gripper_is_closed_at_0_and_open_at_1():
    finger = ALOHA.joints.index("left_finger")
    closed, half, opened = np.zeros(14), np.full(14, 0.5), np.ones(14)
    assert ALOHA.joints_from_channels(closed)[finger] == 0.021
    assert ALOHA.joints_from_channels(half)[finger] == pytest.approx(0.039)
    assert ALOHA.joints_from_channels(opened)[finger] == pytest.approx(0.057)


def test_a_channel_without_scale_is_its_joint_bit_for_bit():
    values = np.random.default_rng(0).normal(size=14)
    arm = [i for i, name in enumerate(ALOHA.joints) if "finger" not in name]
    np.testing.assert_array_equal(ALOHA.joints_from_channels(values)[arm], values[arm])


def test_a_joint_may_turn_the_other_way_and_start_elsewhere(edit):
    spec = "name: left_waist, kind: joint_position, unit: rad, joint: left_waist"
    turned = load_embodiment(edit("aloha_sim", spec, f"{spec}, scale: -2, offset: 0.5"))
    assert turned.joints_from_channels(np.ones(14))[0] == -1.5
    assert turned.channels_from_joints(np.full(14, -1.5))[0] == 1.0
    assert turned.hash != ALOHA.hash


def test_joints_follow_the_order_of_the_channels(edit):
    path = edit(
        "aloha_sim", "name: left_waist, kind: joint_position, unit: rad, joint: left_waist", "@"
    )
    text = path.read_text()
    shoulder = "name: left_shoulder, kind: joint_position, unit: rad, joint: left_shoulder"
    waist = shoulder.replace("shoulder", "waist")
    path.write_text(text.replace(shoulder, waist).replace("@", shoulder))
    assert load_embodiment(path).joints[:2] == ("left_shoulder", "left_waist")


def test_a_base_has_waypoints_and_no_joints():
    assert DIFFBOT.has_base
    assert not ALOHA.has_base
    assert DIFFBOT.joints == ()
    assert DIFFBOT.joints_from_channels(np.ones((8, 3))).shape == (8, 0)
    np.testing.assert_array_equal(DIFFBOT.channels_from_joints(np.zeros((8, 0))), np.zeros((8, 3)))


def test_an_example_is_plausible_and_repeatable():
    first, again, other = ALOHA.make_example(3), ALOHA.make_example(3), ALOHA.make_example(4)
    np.testing.assert_array_equal(first.state, again.state)
    np.testing.assert_array_equal(first.images["cam_high"], again.images["cam_high"])
    assert not np.array_equal(first.state, other.state)
    joints = ALOHA.joints_from_channels(first.state)
    for name, position in zip(ALOHA.joints, joints, strict=True):
        limits = ALOHA.file.safety.joints[name]
        assert limits.lower <= position <= limits.upper


def test_one_step_lasts_one_period():
    assert ALOHA.dt == pytest.approx(0.02)
    assert DIFFBOT.dt == pytest.approx(0.5)


def test_an_example_has_the_history_that_its_cameras_ask_for(edit):
    assert DIFFBOT.make_example().history == {}
    seen = "input_height_px: 128"
    path = edit("diffbot_sim", seen, f"{seen}\n    history: {{frames: 3, spacing_s: 0.5}}")
    robot = load_embodiment(path)
    example = robot.make_example(3)
    assert set(example.history) == {"front"}
    assert [image.shape for image in example.history["front"]] == [(240, 320, 3)] * 3
    np.testing.assert_array_equal(example.state, DIFFBOT.make_example(3).state)
    assert robot.hash != DIFFBOT.hash


def test_the_hash_changes_with_how_an_image_is_fitted(edit):
    padded = load_embodiment(edit("aloha_sim", "fit: crop", "fit: pad")).hash
    assert padded != ALOHA.hash
