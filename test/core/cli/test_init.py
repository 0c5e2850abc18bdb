import json

import pytest

from qwen_vla_ros.checkpoint.checkpoint import load_checkpoint
from qwen_vla_ros.cli.init import init
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.config import SMALL
from qwen_vla_ros.model.family import plain


@pytest.mark.slow
def test_init_makes_a_checkpoint_for_the_named_robots(tmp_path, capsys):
    assert init("nano", tmp_path / "nano", ["aloha_sim", "diffbot_sim"]) == 0
    assert set(load_checkpoint(tmp_path / "nano").normalization) == {"aloha_sim", "diffbot_sim"}
    said = capsys.readouterr().out
    assert "an untrained nano for aloha_sim, diffbot_sim, 39." in said
    assert "Weights: random." in said


def test_init_looks_at_the_place_before_it_fetches_a_backbone(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="exists already"):
        init("4b", tmp_path, ["aloha_sim"], backbone="Qwen/Qwen3.5-4B", revision="a" * 40)


def test_init_says_which_folder_is_no_backbone(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json: missing"):
        init("0.8b", tmp_path / "out", ["aloha_sim"], backbone=str(tmp_path / "empty"))
    assert not (tmp_path / "out").exists()


def test_init_says_what_the_backbone_has_and_what_the_preset_has(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(plain(SMALL.backbone)))
    with pytest.raises(CheckpointError, match=r"text_config\.hidden_size is 1024; .* is 2048"):
        init("2b", tmp_path / "out", ["aloha_sim"], backbone=str(folder))
