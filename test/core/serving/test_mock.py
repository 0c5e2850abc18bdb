from __future__ import annotations

from dataclasses import replace

import numpy as np

from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving.fault import Fault
from qwen_vla_ros.serving.mock import Latency, MockPolicy


def later(observation, seconds: float):
    return replace(observation, stamp_ns=observation.stamp_ns + int(seconds * 1e9))


def test_hold_is_what_is_measured(aloha, observation, prompt):
    chunk = MockPolicy(aloha).infer(observation, prompt)
    assert chunk.actions.shape == (16, 14)
    np.testing.assert_array_equal(chunk.actions, np.tile(observation.state, (16, 1)))


def test_sine_moves_every_joint_and_no_gripper_from_where_the_robot_is(aloha, observation, prompt):
    policy = MockPolicy(aloha, motion="sine")
    first = policy.infer(observation, prompt)
    np.testing.assert_allclose(first.actions[0], observation.state)
    moved = policy.infer(later(observation, 2.0), prompt).actions[0] - observation.state
    grippers = [channel.kind == "gripper" for channel in aloha.file.action]
    assert (np.abs(moved) > 0.01).tolist() == [not gripper for gripper in grippers]


def test_sine_stays_in_the_limits_and_within_their_speeds(aloha, prompt):
    lower = np.array([aloha.file.safety.joints[joint].lower for joint in aloha.joints])
    upper = np.array([aloha.file.safety.joints[joint].upper for joint in aloha.joints])
    speed = np.array([aloha.file.safety.joints[joint].velocity for joint in aloha.joints])
    for seed in range(5):
        observation = aloha.make_example(seed)
        policy = MockPolicy(aloha, motion="sine")
        rows = [policy.infer(later(observation, t * 0.32), prompt).actions for t in range(20)]
        joints = aloha.joints_from_channels(np.concatenate(rows))
        assert (joints >= lower - 1e-9).all()
        assert (joints <= upper + 1e-9).all()
        assert (np.abs(np.diff(joints, axis=0)) / aloha.dt < speed / 2).all()


def test_chunks_of_sine_fit_together(aloha, observation, prompt):
    policy = MockPolicy(aloha, motion="sine")
    first = policy.infer(observation, prompt).actions
    second = policy.infer(later(observation, 8 * aloha.dt), prompt).actions
    np.testing.assert_allclose(first[8:], second[:8], atol=1e-9)


def test_a_base_stands_or_drives_in_a_circle(diffbot):
    seen, asked = diffbot.make_example(), build_prompt(diffbot, "go")
    assert not MockPolicy(diffbot).infer(seen, asked).actions.any()
    circle = MockPolicy(diffbot, motion="sine").infer(seen, asked).actions
    limits = diffbot.file.safety.base
    assert circle.shape == (8, 3)
    assert circle[:, 0].sum() > 0.05
    assert circle[0, 0] / diffbot.dt < limits.linear_velocity
    assert circle[0, 2] / diffbot.dt < limits.angular_velocity


def test_latencies_have_the_median_and_the_tail_that_were_asked_for(rng):
    seconds = [Latency(p50_s=0.04, p95_s=0.1).sample(rng) for _ in range(4000)]
    assert abs(np.percentile(seconds, 50) - 0.04) < 0.002
    assert abs(np.percentile(seconds, 95) - 0.1) < 0.01
    assert Latency().sample(rng) == 0.0
    assert Latency(p50_s=0.04).sample(rng) == 0.04


def test_every_episode_has_the_same_latencies(aloha, observation, prompt, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("qwen_vla_ros.serving.mock.time.sleep", slept.append)
    policy = MockPolicy(aloha, latency=Latency(p50_s=0.04, p95_s=0.1), seed=3)
    for _ in range(2):
        policy.reset()
        for _ in range(3):
            policy.infer(observation, prompt)
    assert len(slept) == 6
    assert slept[:3] == slept[3:]
    assert len(set(slept)) == 3


def test_a_fault_strikes_after_and_every_so_often():
    fault = Fault(kind="nan", after=2, every=3)
    assert [fault.applies_to("nan") for _ in range(9)] == [
        *(False, False, True),
        *(False, False, True),
        *(False, False, True),
    ]
    assert not fault.applies_to("slow")


def test_spoilt_answers_are_spoilt_as_they_should_be(aloha, observation, prompt):
    nan = MockPolicy(aloha, fault=Fault(kind="nan")).infer(observation, prompt)
    assert np.isnan(nan.actions[-1, -1])
    assert np.isfinite(nan.actions[:-1]).all()
    wrong = MockPolicy(aloha, fault=Fault(kind="wrong_robot")).infer(observation, prompt)
    assert wrong.embodiment == "not_aloha_sim"
