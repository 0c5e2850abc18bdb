import json
import logging
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from qwen_vla_ros.checkpoint.checkpoint import load_checkpoint
from qwen_vla_ros.checkpoint.normalization import limits_as_statistics
from qwen_vla_ros.embodiment.schema import HistorySpec
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.types import Policy

ROBOTS = {"aloha": (16, 14), "diffbot": (8, 3)}


@pytest.fixture(params=ROBOTS)
def robot(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def asked(robot):
    return robot.make_example(), build_prompt(robot, "go to the red cube")


@pytest.mark.slow
def test_one_set_of_weights_serves_arms_and_base(nano, robot, asked, request):
    policy: Policy = QwenVlaPolicy.load(nano, robot, seed=0)
    chunk = policy.infer(*asked)
    assert chunk.actions.shape == ROBOTS[request.node.callspec.params["robot"]]
    assert chunk.actions.dtype == np.float64
    assert chunk.channels == robot.channels
    assert chunk.stamp_ns == asked[0].stamp_ns
    assert chunk.dt == robot.dt
    assert (chunk.embodiment, chunk.embodiment_hash) == (robot.name, robot.hash)
    assert list(chunk.timings) == ["preprocess", "backbone", "decode"]
    assert all(seconds > 0 for seconds in chunk.timings.values())


@pytest.mark.slow
def test_an_untrained_model_stays_within_the_limits(nano, robot, asked):
    policy = QwenVlaPolicy.load(nano, robot)
    low = np.array([channel.q01 for channel in limits_as_statistics(robot).channels])
    high = np.array([channel.q99 for channel in limits_as_statistics(robot).channels])
    for _ in range(3):
        actions = policy.infer(*asked).actions
        assert np.isfinite(actions).all()
        assert ((low <= actions) & (actions <= high)).all()


def test_a_seeded_policy_repeats_itself_episode_by_episode(tiny, robot, asked):
    one, two = (QwenVlaPolicy(tiny, robot, seed=7) for _ in range(2))
    first, second = one.infer(*asked).actions, one.infer(*asked).actions
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(two.infer(*asked).actions, first)
    one.reset()
    np.testing.assert_array_equal(one.infer(*asked).actions, first)


@pytest.mark.slow
def test_a_policy_without_a_seed_does_not_repeat_itself(tiny, aloha):
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    one, two = (QwenVlaPolicy(tiny, aloha) for _ in range(2))
    assert not np.array_equal(one.infer(*asked).actions, two.infer(*asked).actions)


@pytest.mark.slow
def test_loading_warms_up_without_spending_noise(tiny_folder, tiny, aloha):
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    warm = QwenVlaPolicy.load(tiny_folder, aloha, seed=5).infer(*asked)
    cold = QwenVlaPolicy(tiny, aloha, seed=5).infer(*asked)
    np.testing.assert_array_equal(warm.actions, cold.actions)


def test_images_and_words_change_the_actions(tiny, aloha):
    observation = aloha.make_example()
    other = aloha.make_example(seed=1)

    def act(seen, words):
        return QwenVlaPolicy(tiny, aloha, seed=0).infer(seen, build_prompt(aloha, words)).actions

    base = act(observation, "pick up the red cube")
    assert not np.allclose(act(observation, "pick up the blue cube"), base, atol=1e-9)
    assert not np.allclose(act(other, "pick up the red cube"), base, atol=1e-9)


@pytest.mark.slow
def test_a_new_instruction_is_read_and_not_the_one_before(tiny, aloha):
    observation = aloha.make_example()
    red, blue = (build_prompt(aloha, f"pick up the {colour} cube") for colour in ("red", "blue"))
    used = QwenVlaPolicy(tiny, aloha, seed=0)
    used.infer(observation, red)
    used.reset()
    fresh = QwenVlaPolicy(tiny, aloha, seed=0)
    np.testing.assert_array_equal(
        used.infer(observation, blue).actions, fresh.infer(observation, blue).actions
    )


@pytest.mark.slow
def test_more_steps_need_no_other_weights(tiny, aloha):
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    few, many = (QwenVlaPolicy(tiny, aloha, seed=0, steps=steps) for steps in (4, 10))
    assert not np.array_equal(few.infer(*asked).actions, many.infer(*asked).actions)


@pytest.mark.slow
def test_bfloat16_agrees_with_float32_to_its_precision(tiny_folder, tiny, aloha):
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    half = load_checkpoint(tiny_folder, dtype=torch.bfloat16)
    assert half.model.decoder.context_in.weight.dtype == torch.bfloat16
    actions = QwenVlaPolicy(half, aloha, seed=0).infer(*asked).actions
    exact = QwenVlaPolicy(tiny, aloha, seed=0).infer(*asked).actions
    assert np.abs(actions - exact).mean() < 0.02


@pytest.fixture
def continuing(tiny):
    """The same checkpoint, saying of its decoder that it was trained with frozen prefixes."""
    model = copy(tiny.model)
    decoder = replace(model.config.decoder, frozen_prefix=True)
    model.config = replace(model.config, decoder=decoder)
    return replace(tiny, model=model)


def committed_rows(robot, count):
    """Rows inside the limits, with more digits than float32 has."""
    channels = limits_as_statistics(robot).channels
    low, high = (np.array([getattr(x, end) for x in channels]) for end in ("q01", "q99"))
    share = np.linspace(0.2, 0.8, count)[:, None]
    return low + share * (high - low) / 3**0.5


def test_committed_rows_come_back_to_the_last_digit_and_are_continued(continuing, robot, asked):
    free = QwenVlaPolicy(continuing, robot, seed=0).infer(*asked).actions
    rows = committed_rows(robot, 3)
    bound = QwenVlaPolicy(continuing, robot, seed=0).infer(*asked, rows).actions
    np.testing.assert_array_equal(bound[:3], rows)
    assert not np.allclose(bound[3:], free[3:], atol=1e-6)
    assert bound.shape == free.shape


def test_a_committed_row_outside_of_the_statistics_comes_back_unclipped(continuing, aloha):
    rows = committed_rows(aloha, 1) + 100
    policy = QwenVlaPolicy(continuing, aloha)
    chunk = policy.infer(aloha.make_example(), build_prompt(aloha, "wait"), rows)
    np.testing.assert_array_equal(chunk.actions[:1], rows)


@pytest.mark.slow
def test_no_committed_rows_is_as_good_as_none(continuing, aloha):
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    without = QwenVlaPolicy(continuing, aloha, seed=0).infer(*asked)
    empty = QwenVlaPolicy(continuing, aloha, seed=0).infer(
        *asked, np.empty((0, len(aloha.channels)))
    )
    np.testing.assert_allclose(empty.actions, without.actions, atol=1e-6)


@pytest.mark.slow
def test_guidance_pulls_towards_committed_rows(tiny, aloha):
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    policies = [
        QwenVlaPolicy(tiny, aloha, seed=0, steps=10, continuation=way)
        for way in ("guidance", "none")
    ]
    rows = committed_rows(aloha, 4)
    guided, free = (policy.infer(*asked, rows).actions for policy in policies)
    assert np.abs(guided[:4] - rows).mean() < 0.5 * np.abs(free[:4] - rows).mean()


@pytest.mark.slow
def test_a_policy_that_continues_nothing_takes_no_notice_of_committed_rows(tiny, aloha):
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    one, two = (QwenVlaPolicy(tiny, aloha, seed=0, continuation="none") for _ in range(2))
    bound = one.infer(*asked, committed_rows(aloha, 4))
    np.testing.assert_array_equal(bound.actions, two.infer(*asked).actions)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda rows: rows[:, :-1], r"\(at most 16, 14\), not \(4, 13\)"),
        (lambda rows: np.repeat(rows, 5, axis=0), r"\(at most 16, 14\), not \(20, 14\)"),
        (lambda rows: rows * np.nan, "must be finite"),
    ],
    ids=["channels", "length", "nan"],
)
def test_committed_rows_that_cannot_be_are_refused(continuing, aloha, spoil, sentence):
    policy = QwenVlaPolicy(continuing, aloha)
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    with pytest.raises(ValueError, match=sentence):
        policy.infer(*asked, spoil(committed_rows(aloha, 4)))


@pytest.mark.slow
def test_a_recorded_policy_answers_as_one_that_is_not(continuing, robot, asked, tape):
    rows = committed_rows(robot, 2)
    plain, recorded = (
        QwenVlaPolicy(continuing, robot, seed=0, record=record) for record in (None, tape)
    )
    recorded.warm_up()
    warm = tape.recordings
    assert warm >= 4  # two lengths of instructions, backbone and decoder
    for committed in (None, rows):
        np.testing.assert_allclose(
            recorded.infer(*asked, committed).actions,
            plain.infer(*asked, committed).actions,
            atol=1e-4,
        )
    assert tape.recordings == warm


@pytest.mark.slow
def test_memory_of_prompts_is_bounded(tiny, aloha):
    policy = QwenVlaPolicy(tiny, aloha, steps=1)
    observation = aloha.make_example()
    for number in range(12):
        policy.infer(observation, build_prompt(aloha, f"pick up cube {number}"))
    assert len(policy._layouts) == 8


@pytest.mark.slow
def test_a_history_of_images_is_read(tiny, aloha):
    """The model has a place for each earlier image, and what is on it matters."""
    first, *others = aloha.file.cameras
    seeing = first.model_copy(update={"history": HistorySpec(frames=2, spacing_s=0.5)})
    robot = replace(aloha, file=aloha.file.model_copy(update={"cameras": (seeing, *others)}))
    now = robot.make_example(seed=1)
    prompt = build_prompt(robot, "wait")
    before = [robot.make_example(seed=seed).images[first.name] for seed in (2, 3)]

    def act(*history):
        observation = replace(now, history={first.name: history})
        return QwenVlaPolicy(tiny, robot, seed=0).infer(observation, prompt).actions

    base = act(*before)
    assert not np.allclose(act(*reversed(before)), base, atol=1e-9)
    with pytest.raises(ValueError, match=f"camera '{first.name}' has 2 images for 3"):
        act(before[0])


def test_a_checkpoint_without_this_robots_statistics_is_refused(tiny, aloha, diffbot):
    other = replace(tiny, normalization={"diffbot_sim": tiny.normalization["diffbot_sim"]})
    sentence = r"no normalization/aloha_sim\.json.*Known: diffbot_sim"
    with pytest.raises(CheckpointError, match=sentence):
        QwenVlaPolicy(other, aloha)
    QwenVlaPolicy(other, diffbot)


def test_a_checkpoint_with_other_channels_is_refused(tiny_folder, aloha):
    path = tiny_folder / "normalization" / "aloha_sim.json"
    data = json.loads(path.read_text())
    data["channels"] = data["channels"][::-1]
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"has the channels right_gripper \[1\].*aloha_sim"):
        QwenVlaPolicy(load_checkpoint(tiny_folder), aloha)


def test_a_robot_that_asks_for_chunks_of_another_length_is_refused(tiny, aloha):
    trained = replace(tiny.normalization["aloha_sim"], action_horizon=8)
    other = replace(tiny, normalization={"aloha_sim": trained})
    with pytest.raises(CheckpointError, match="chunks of 8 actions; aloha_sim asks for 16"):
        QwenVlaPolicy(other, aloha)


def test_a_camera_that_is_not_whole_tokens_is_refused(tiny, aloha):
    camera = aloha.file.cameras[0].model_copy(update={"input_width_px": 230})
    file = aloha.file.model_copy(update={"cameras": (camera,)})
    with pytest.raises(
        CheckpointError, match=r"camera cam_high.*230x128 px is not a multiple of 32"
    ):
        QwenVlaPolicy(tiny, replace(aloha, file=file))


@pytest.mark.slow
def test_a_robot_that_changed_since_is_told_about(nano, aloha, caplog):
    changed = replace(aloha, file=aloha.file.model_copy(update={"description": "changed"}))
    with caplog.at_level(logging.WARNING):
        QwenVlaPolicy.load(nano, changed)
    assert "its file or URDF has changed" in caplog.text


def test_actions_that_are_not_finite_never_leave(tiny, aloha):
    policy = QwenVlaPolicy(tiny, aloha, temperature=float("inf"))
    with pytest.raises(CheckpointError, match="not finite"):
        policy.infer(aloha.make_example(), build_prompt(aloha, "wait"))


@pytest.mark.parametrize("device", ["graphics", "cuda:99"])
def test_an_unknown_device_is_refused(nano, aloha, device):
    if device.startswith("cuda") and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(CheckpointError, match=f"device '{device}'"):
        QwenVlaPolicy.load(nano, aloha, device=device)


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu(nano, aloha):
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    on_gpu = QwenVlaPolicy.load(nano, aloha, device="cuda", seed=0).infer(*asked).actions
    on_cpu = QwenVlaPolicy.load(nano, aloha, seed=0).infer(*asked).actions
    assert np.abs(on_gpu - on_cpu).mean() < 0.02
