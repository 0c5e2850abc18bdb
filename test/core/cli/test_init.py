import pytest

from qwen_vla_ros.cli.init import init, model_info
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.policy.checkpoint import load_checkpoint


def test_init_makes_a_checkpoint_for_the_named_robots(tmp_path, capsys):
    assert init("nano", tmp_path / "nano", ["aloha_sim", "diffbot_sim"]) == 0
    assert set(load_checkpoint(tmp_path / "nano").normalization) == {"aloha_sim", "diffbot_sim"}
    assert "an untrained nano for aloha_sim, diffbot_sim, 39." in capsys.readouterr().out


def test_model_info_prints_the_papers_table(capsys):
    assert model_info("4b") == 0
    assert "16 x 70.8 M" in capsys.readouterr().out


def test_model_info_refuses_an_unknown_preset():
    with pytest.raises(CheckpointError, match="unknown preset '8b'"):
        model_info("8b")
