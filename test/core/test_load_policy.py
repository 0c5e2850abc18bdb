import numpy as np
import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.load_policy import load_policy
from qwen_vla_ros.options import PolicyOptions
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving.recording import Record, Recorder


@pytest.fixture(scope="module")
def robot():
    return load_embodiment("diffbot_sim")


def answer(policy, robot):
    policy.reset()
    return policy.infer(robot.make_example(), build_prompt(robot, "go to the red ball"))


def test_a_mock_moves_as_it_is_told(robot):
    held = answer(load_policy(PolicyOptions(policy="mock"), robot)(), robot)
    swung = answer(load_policy(PolicyOptions(policy="mock", motion="sine"), robot)(), robot)
    assert not held.actions.any()
    assert swung.actions.any()


def test_the_clients_of_a_mock_share_its_faults(robot):
    options = PolicyOptions(policy="mock", fault="nan", fault_after=1, fault_every=2)
    make = load_policy(options, robot)
    good, bad, again = (np.isfinite(answer(make(), robot).actions).all() for _ in range(3))
    assert (good, bad, again) == (True, False, True)


def test_a_recording_is_replayed_and_every_client_hears_it_from_the_beginning(robot, tmp_path):
    recorder = Recorder.create(tmp_path / "answers", robot, "mock")
    rows = np.full((2, len(robot.channels)), 0.25)
    recorder.add(Record(episode=1, elapsed_s=0.0, instruction="go", actions=rows.tolist()))
    recorder.close()
    options = PolicyOptions(policy="replay", recording=str(tmp_path / "answers"))
    make = load_policy(options, robot)
    for policy in (make(), make()):
        np.testing.assert_array_equal(answer(policy, robot).actions, rows)


def test_an_expert_is_for_those_who_see_the_scene(robot):
    options = PolicyOptions(policy="expert")
    load_policy(options, robot, sees_scene=True)()
    with pytest.raises(QwenVlaError, match="reads a simulator's ground truth"):
        load_policy(options, robot)


def test_a_policy_is_not_given_what_is_for_another(robot):
    with pytest.raises(QwenVlaError, match="steps: is for policy 'qwen_vla'; the policy is 'mo"):
        load_policy(PolicyOptions(policy="mock", steps=8), robot)
