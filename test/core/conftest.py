"""A checkpoint of the nano preset, and a model small enough to train in a test."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_5 import Qwen3_5ForConditionalGeneration

from qwen_vla_ros.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qwen_vla_ros.checkpoint.fresh_checkpoint import init_checkpoint
from qwen_vla_ros.checkpoint.manifest import Manifest, Provenance
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.model.backbone import family_config
from qwen_vla_ros.model.config import (
    NANO,
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    VisionConfig,
)
from qwen_vla_ros.model.model import QwenVla
from qwen_vla_ros.model.recorded import Recording, fill

TINY = ModelConfig(
    preset="tiny",
    backbone=BackboneConfig(
        vision=VisionConfig(
            depth=1, hidden_size=64, intermediate_size=64, num_heads=2, positions=16
        ),
        vocab_size=NANO.backbone.vocab_size,
        hidden_size=64,
        intermediate_size=64,
        num_layers=4,
        num_heads=2,
        num_kv_heads=1,
        head_dim=32,
        linear_key_heads=2,
        linear_key_head_dim=32,
        linear_value_heads=4,
        linear_value_head_dim=32,
        image_token_id=NANO.backbone.image_token_id,
        rotary_fraction=1.0,
        rope_theta=1e3,
        rope_sections=(6, 5, 5),
    ),
    decoder=DecoderConfig(
        num_blocks=2,
        width=64,
        inner_size=96,
        num_heads=2,
        attention="prefix",
        rope_theta=1e3,
        rope_sections=(6, 5, 5),
    ),
)


def _randomize(module: nn.Module, seed: int = 0) -> None:
    """Replace the zeros of a fresh decoder, so that every part has a say."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            scale = parameter.shape[-1] ** -0.5
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def randomize():
    """Return the function that replaces the zeros of a fresh decoder."""
    return _randomize


@pytest.fixture(scope="session")
def aloha() -> Embodiment:
    return load_embodiment("aloha_sim")


@pytest.fixture(scope="session")
def diffbot() -> Embodiment:
    return load_embodiment("diffbot_sim")


@pytest.fixture(scope="session")
def nano(tmp_path_factory, aloha, diffbot) -> Path:
    """A fresh nano checkpoint; not to be written to."""
    out = tmp_path_factory.mktemp("checkpoints") / "nano"
    init_checkpoint("nano", out, [aloha, diffbot])
    return out


@pytest.fixture(scope="session")
def tiny(nano) -> Checkpoint:
    """A tiny model with the tokenizer and statistics of the nano checkpoint, in memory."""
    torch.manual_seed(0)
    model = QwenVla(TINY)
    _randomize(model.decoder)
    whole = load_checkpoint(nano)
    return replace(
        whole,
        manifest=Manifest(
            model=TINY, provenance=Provenance(weights="random", seed=0, embodiments=())
        ),
        model=model.eval(),
        images=replace(whole.images, vision=TINY.backbone.vision),
    )


@pytest.fixture(scope="session")
def _tiny_folder(tmp_path_factory, tiny) -> Path:
    out = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save_checkpoint(tiny, out)
    return out


@pytest.fixture
def tiny_folder(_tiny_folder, tmp_path) -> Path:
    """A tiny checkpoint on disk, to be spoilt."""
    return Path(shutil.copytree(_tiny_folder, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def _published(tmp_path_factory, tiny) -> Path:
    folder = tmp_path_factory.mktemp("published") / "Qwen3.5-Tiny"
    torch.manual_seed(5)
    model = Qwen3_5ForConditionalGeneration(family_config(TINY.backbone))
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="200KB")
    vision = TINY.backbone.vision
    Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        temporal_patch_size=vision.temporal_patch_size,
        merge_size=vision.merge_size,
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.5, 0.5, 0.5],
    ).save_pretrained(folder)
    tiny.tokenizer.save(folder / "tokenizer.json")
    return folder


@pytest.fixture
def published(_published, tmp_path) -> Path:
    """A tiny backbone as the family publishes it, in several files; to be spoilt."""
    return Path(shutil.copytree(_published, tmp_path / _published.name))


class Tape:
    """Records as a GPU does: what is replayed reads and writes the memory of the recording."""

    def __init__(self) -> None:
        self.recordings = 0

    def __call__(self, compute):
        self.recordings += 1
        output = compute()
        return Recording(output, lambda: fill(output, compute()))


@pytest.fixture
def tape() -> Tape:
    return Tape()
