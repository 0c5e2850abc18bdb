import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from qwen_vla_ros.checkpoint.normalization import (
    ChannelStatistics,
    Normalization,
    check_horizon,
    limits_as_statistics,
    load_statistics,
    pad_actions,
    save_statistics,
)
from qwen_vla_ros.errors import CheckpointError

THREE = Normalization(
    dataset="three",
    source="test",
    channels=(
        ChannelStatistics(name="a", unit="rad", q01=-2.0, q99=2.0),
        ChannelStatistics(name="b", unit="m", q01=0.0, q99=0.5),
        ChannelStatistics(name="still", unit="m", q01=0.3, q99=0.3),
    ),
)


def test_the_quantiles_become_minus_one_and_one():
    np.testing.assert_allclose(THREE.normalize([-2.0, 0.0, 0.3]), [-1, -1, 0])
    np.testing.assert_allclose(THREE.normalize([2.0, 0.5, 0.3]), [1, 1, 0])


def test_robot_units_come_back():
    actions = np.array([[1.0, 0.1, 0.3], [-1.5, 0.45, 0.3]])
    np.testing.assert_allclose(THREE.denormalize(THREE.normalize(actions)), actions)


def test_values_beyond_the_quantiles_are_clipped_both_ways():
    np.testing.assert_allclose(THREE.normalize([9.0, -9.0, 0.3]), [1, -1, 0])
    np.testing.assert_allclose(THREE.denormalize(np.array([9.0, -9.0, 9.0])), [2.0, 0.0, 0.3])


def test_a_constant_channel_is_its_constant_whatever_the_model_says():
    assert (THREE.denormalize(np.random.default_rng(0).normal(size=(5, 3)))[:, 2] == 0.3).all()
    assert np.isfinite(THREE.normalize([0.0, 0.0, 0.300001])).all()


def test_native_channels_lead_and_zeros_follow():
    padded, mask = pad_actions(np.ones((3, 2)), horizon=4, width=6)
    assert padded.shape == mask.shape == (4, 6)
    assert (padded == mask).all()
    assert mask[:3, :2].all()
    assert mask.sum() == 6


def test_actions_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="17x2 do not fit into 16x64"):
        pad_actions(np.ones((17, 2)), horizon=16, width=64)


def test_limits_of_arms_are_ranges_of_joints_and_grippers(aloha):
    statistics = {x.name: x for x in limits_as_statistics(aloha).channels}
    limit = aloha.file.safety.joints["left_waist"]
    waist, gripper = statistics["left_waist"], statistics["left_gripper"]
    assert (waist.q01, waist.q99, waist.unit) == (limit.lower, limit.upper, "rad")
    np.testing.assert_allclose((gripper.q01, gripper.q99), (0, 1), atol=1e-9)


def test_limits_of_a_base_are_the_reach_of_one_waypoint(diffbot):
    base = diffbot.file.safety.base
    dx, _, dtheta = limits_as_statistics(diffbot).channels
    assert (dx.q01, dx.q99) == (-base.linear_velocity / 2, base.linear_velocity / 2)
    assert (dtheta.q01, dtheta.q99) == (-base.angular_velocity / 2, base.angular_velocity / 2)


@pytest.mark.parametrize("more", [{}, {"count": 12_000, "action_horizon": 16}])
def test_statistics_survive_their_files(tmp_path, more):
    statistics = replace(THREE, **more)
    save_statistics(tmp_path / "n", {"three": statistics})
    assert load_statistics(tmp_path / "n") == {"three": statistics}


def test_a_robot_that_asks_for_another_chunk_length_is_refused(aloha):
    asked = aloha.file.prompt.action_horizon
    check_horizon(replace(THREE, action_horizon=asked), aloha)
    check_horizon(THREE, aloha)
    with pytest.raises(CheckpointError, match=rf"chunks of {asked + 1} actions; aloha_sim asks"):
        check_horizon(replace(THREE, action_horizon=asked + 1), aloha)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"q01": -2.0', '"q01": 5.0', "q01 5.0 is above q99 2.0"),
        ('"q01": -2.0', '"q01": NaN', "q01"),
        ('"q01": -2.0', '"q01": "low"', "a number is needed"),
        ('"dataset": "three"', '"dataset": "four"', "is about 'four', not 'three'"),
        ('"schema_version": 1', '"schema_version": 7', "made by a newer version"),
        ('"unit": "m"', '"unt": "m"', r"channels\[1\]\.unt: unknown key\. Did you mean 'unit'"),
        ('"count": null', '"count": 0', "count"),
        ('"action_horizon": null', '"action_horizon": -1', "action_horizon"),
        ("{", "", "cannot be read as JSON"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path, old, new, sentence):
    save_statistics(tmp_path / "n", {"three": THREE})
    path = tmp_path / "n" / "three.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CheckpointError, match=rf"three\.json.*{sentence}"):
        load_statistics(tmp_path / "n")


@pytest.mark.slow
def test_statistics_and_prompts_need_no_torch():
    code = (
        "import sys, qwen_vla_ros.checkpoint.normalization, qwen_vla_ros.model.tokenizer;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
