import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from qwen_vla_ros.checkpoint import fresh_checkpoint, vocabulary
from qwen_vla_ros.checkpoint.checkpoint import load_checkpoint
from qwen_vla_ros.checkpoint.fresh_checkpoint import init_checkpoint
from qwen_vla_ros.checkpoint.published import PublishedModel
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.config import PRESETS
from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy
from qwen_vla_ros.prompt.build import build_prompt

WEIGHT = "decoder.context_in.weight"


@pytest.fixture
def tiny_preset(tiny, monkeypatch):
    """Make the presets `nano` and `4b` as small as a test wants them."""
    monkeypatch.setattr(vocabulary, "trimmed_tokenizer", lambda _texts: tiny.tokenizer)
    monkeypatch.setattr(vocabulary, "whole_tokenizer", lambda: tiny.tokenizer)
    for preset in ("nano", "4b"):
        monkeypatch.setitem(PRESETS, preset, tiny.manifest.model)


@pytest.fixture
def backbone(published):
    return PublishedModel(published, "Qwen3.5-Tiny")


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_preset")
def test_the_same_seed_makes_the_same_weights(tmp_path, aloha):
    random_state = torch.random.get_rng_state()
    seeds = {"one": 0, "same": 0, "other": 1}
    for name, seed in seeds.items():
        init_checkpoint("nano", tmp_path / name, [aloha], seed)
    one, same, other = (load_file(tmp_path / name / "model.safetensors") for name in seeds)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one[WEIGHT], other[WEIGHT])
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_an_unknown_preset_is_refused_with_what_was_meant(tmp_path, aloha):
    with pytest.raises(CheckpointError, match=r"unknown preset 'nani'\. Did you mean 'nano'"):
        init_checkpoint("nani", tmp_path / "x", [aloha])


def test_a_large_preset_asks_for_its_backbone_or_for_random_weights(tmp_path, aloha):
    with pytest.raises(CheckpointError, match=r"tokenizer of Qwen3\.5-4B, or ask for --random"):
        init_checkpoint("4b", tmp_path / "x", [aloha])


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_preset")
def test_random_weights_of_a_large_preset_are_bfloat16(tmp_path, aloha):
    init_checkpoint("4b", tmp_path / "x", [aloha], random=True)
    weights = load_file(tmp_path / "x" / "model.safetensors")
    exact = {name for name, weight in weights.items() if weight.dtype == torch.float32}
    assert weights[WEIGHT].dtype == torch.bfloat16
    assert exact
    assert all(name.endswith(("linear_attn.A_log", "linear_attn.norm.weight")) for name in exact)
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["provenance"]["weights"] == "random"


def test_random_weights_and_a_backbone_exclude_each_other(backbone, tmp_path, aloha):
    with pytest.raises(CheckpointError, match="choose one"):
        init_checkpoint("4b", tmp_path / "x", [aloha], backbone=backbone, random=True)


def test_a_folder_in_use_is_refused_before_anything_is_made(tmp_path, aloha, monkeypatch):
    monkeypatch.setattr(fresh_checkpoint, "fresh_model", None)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="exists already"):
        init_checkpoint("nano", tmp_path, [aloha])


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_preset")
def test_a_published_backbone_makes_a_checkpoint_that_acts(backbone, tmp_path, aloha):
    init_checkpoint("4b", tmp_path / "out", [aloha], seed=9, backbone=backbone)
    made = load_checkpoint(tmp_path / "out")
    origin = made.manifest.provenance
    assert (origin.weights, origin.seed) == ("backbone from Qwen3.5-Tiny, decoder random", 9)
    assert made.images.mean == (0.4, 0.5, 0.6)  # what the published processor says
    chunk = QwenVlaPolicy(made, aloha).infer(aloha.make_example(), build_prompt(aloha, "wait"))
    assert np.isfinite(chunk.actions).all()


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "preprocessor_config.json"])
@pytest.mark.usefixtures("tiny_preset")
def test_a_backbone_that_lacks_a_file_is_refused(backbone, tmp_path, aloha, file):
    (backbone.directory / file).unlink()
    with pytest.raises(CheckpointError, match=rf"{file}: missing"):
        init_checkpoint("4b", tmp_path / "out", [aloha], backbone=backbone)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("tiny_preset")
def test_a_backbone_with_executable_weights_is_refused(backbone, tmp_path, aloha):
    (backbone.directory / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="can run code"):
        init_checkpoint("4b", tmp_path / "out", [aloha], backbone=backbone)


def test_a_backbone_of_another_size_is_refused_by_its_config(backbone, tmp_path, aloha):
    with pytest.raises(CheckpointError, match=r"hidden_size is 64; that of preset '4b' is 2560"):
        init_checkpoint("4b", tmp_path / "out", [aloha], backbone=backbone)
