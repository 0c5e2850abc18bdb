from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qwen_vla_ros.cli.main import app
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.load_policy import load_policy
from qwen_vla_ros.options import PolicyOptions
from qwen_vla_ros.prompt.build import build_prompt


def refused(*options: str) -> str:
    """What `qwen-vla serve` says instead of serving."""
    robot = ["--robot", "diffbot_sim"] if "--robot" not in options else []
    outcome = CliRunner().invoke(app, ["serve", *robot, *options])
    assert isinstance(outcome.exception, QwenVlaError), outcome.output
    return str(outcome.exception)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "checkpoint: policy 'qwen_vla' needs one"),
        (("--policy", "expert"), "policy 'expert' reads a simulator's ground truth"),
        (("--policy", "mok"), "policy: unknown 'mok'. Did you mean 'mock'?"),
        (("--policy", "mock", "--motion", "sin"), "Did you mean 'sine'?"),
        (("--policy", "mock", "--fault", "hangs"), "Did you mean 'hang'?"),
        (("--fault", "hang", "--checkpoint", "x"), "fault: is for policy 'mock'"),
        (("--policy", "replay"), "recording: policy 'replay' needs one"),
        (("--policy", "mock", "--recording", "x"), "recording: is for policy 'replay'"),
        (("--policy", "mock", "--listen", "openpi:65536"), "is no DIALECT:PORT"),
        (("--policy", "mock", "--listen", "opanpi:1"), "Did you mean 'openpi'?"),
        (("--policy", "mock", "--tls-cert", "x"), "a certificate and its key go together"),
        (("--policy", "mock", "--tls-cert", "x", "--tls-key", "y"), "cannot be used"),
        (("--policy", "mock", "--token-file", "/nowhere"), "cannot be read"),
        (("--policy", "mock", "--host", "0.0.0.0"), "give a token file, or listen on 127.0.0.1"),
        (("--policy", "mock", "--robot", "aloha_sin"), "Did you mean 'aloha_sim'?"),
    ],
)
def test_wishes_that_cannot_be_had_are_refused_with_a_sentence(options, sentence):
    assert sentence in refused(*options)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    from qwen_vla_ros.checkpoint.fresh_checkpoint import init_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "nano"
    init_checkpoint("nano", folder, [load_embodiment("diffbot_sim")], 0)
    return folder


@pytest.mark.slow
def test_clients_share_a_model_and_nothing_of_their_episodes(checkpoint):
    robot = load_embodiment("diffbot_sim")
    open_policy = load_policy(PolicyOptions(checkpoint=str(checkpoint), steps=2, seed=5), robot)
    seen, asked = robot.make_example(), build_prompt(robot, "go to the red ball")
    alone = open_policy()
    alone.reset()
    wanted = [alone.infer(seen, asked).actions for _ in range(3)]
    first, second = open_policy(), open_policy()
    for policy in (first, second):
        policy.reset()
    for actions in wanted:
        for policy in (first, second):
            np.testing.assert_array_equal(policy.infer(seen, asked).actions, actions)
    assert not np.array_equal(wanted[0], wanted[1])  # its noise goes on
