"""From an expert in a simulator to a checkpoint, as a person would: two commands."""

import pytest

from qwen_vla_ros.checkpoint.checkpoint import load_checkpoint
from qwen_vla_ros.cli.collect import collect
from qwen_vla_ros.cli.train import train
from qwen_vla_ros.errors import TrainingError
from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy
from qwen_vla_ros.prompt.build import build_prompt

pytestmark = pytest.mark.slow

RECIPE = """\
sources: [{robot: diffbot_sim, data: shown}]
steps: 3
batch_size: 4
warm_up_steps: 1
objective: {draws: 2, longest_prefix: 4}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    # One of twenty episodes is held out: of these two it is the first.
    assert collect("diffbot_sim", 2, folder / "shown", 100_020, [0.0], 40.0, 1) == 0
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def test_a_shard_that_is_there_is_not_made_again(folder, capsys):
    (shard,) = (folder / "shown").glob("shard_*.npz")
    made = shard.stat().st_mtime_ns
    collect("diffbot_sim", 2, folder / "shown", 100_020, [0.0], 40.0, 1)
    assert shard.stat().st_mtime_ns == made
    assert "0 of 0 new episodes" in capsys.readouterr().out


@pytest.mark.timeout(900)
def test_what_was_shown_becomes_a_checkpoint_that_answers(folder, diffbot, capsys):
    out = folder / "run"
    assert train(folder / "recipe.yaml", "", None, out, "cpu", 0, 1) == 0
    assert "held out, diffbot_sim" in capsys.readouterr().out
    checkpoint = load_checkpoint(out / "checkpoint")
    origin = checkpoint.manifest.provenance
    assert origin.weights == "trained for 3 steps"
    assert origin.stage == "sft"
    assert [data.episodes for data in origin.datasets] == [1]
    policy = QwenVlaPolicy(checkpoint, diffbot, seed=0)
    observation = diffbot.make_example()
    chunk = policy.infer(observation, build_prompt(diffbot, "go to the red ball"))
    assert chunk.actions.shape == (8, 3)


def test_another_recipe_does_not_go_on_in_the_same_folder(folder):
    with pytest.raises(TrainingError, match="is not what was asked for now"):
        train(folder / "recipe.yaml", "", None, folder / "run", "cpu", 5, 1)


def test_a_folder_without_demonstrations_says_how_to_make_some(tmp_path):
    (tmp_path / "scene.json").write_text("{}")
    with pytest.raises(TrainingError, match="qwen-vla collect --robot diffbot_sim"):
        train(None, "diffbot_sim", tmp_path, tmp_path / "run", "cpu", 0, 1)


def test_neither_recipe_nor_data_is_a_sentence(tmp_path):
    with pytest.raises(TrainingError, match="not both"):
        train(None, "", None, tmp_path / "run", "cpu", 0, 1)
