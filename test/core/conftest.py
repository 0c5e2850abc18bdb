"""A checkpoint of the nano preset, and a model small enough to train in a test.

torch and transformers take seconds to import: only the tests that ask for a model pay for them.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment

if TYPE_CHECKING:
    from torch import nn

    from qwen_vla_ros.checkpoint.checkpoint import Checkpoint
    from qwen_vla_ros.model.config import ModelConfig


def _tiny_config() -> ModelConfig:
    from qwen_vla_ros.model.config import NANO, DecoderConfig, ModelConfig
    from qwen_vla_ros.model.family import qwen

    return ModelConfig(
        preset="tiny",
        backbone=qwen(
            vision={
                "depth": 1,
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_heads": 2,
                "num_position_embeddings": 16,
            },
            text={
                "vocab_size": NANO.backbone.text_config.vocab_size,
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_hidden_layers": 4,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 32,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 32,
                "linear_num_value_heads": 4,
                "linear_value_head_dim": 32,
            },
            rope={
                "partial_rotary_factor": 1.0,
                "rope_theta": 1e3,
                "mrope_section": [6, 5, 5],
            },
            image_token_id=NANO.backbone.image_token_id,
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
    import torch

    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            scale = parameter.shape[-1] ** -0.5
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)


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
    from qwen_vla_ros.checkpoint.fresh_checkpoint import init_checkpoint

    out = tmp_path_factory.mktemp("checkpoints") / "nano"
    init_checkpoint("nano", out, [aloha, diffbot])
    return out


@pytest.fixture(scope="session")
def tiny(nano) -> Checkpoint:
    """A tiny model with the tokenizer and statistics of the nano checkpoint, in memory."""
    import torch

    from qwen_vla_ros.checkpoint.checkpoint import load_checkpoint
    from qwen_vla_ros.checkpoint.manifest import Manifest, Provenance
    from qwen_vla_ros.model.model import QwenVla

    torch.manual_seed(0)
    config = _tiny_config()
    model = QwenVla(config)
    _randomize(model.decoder)
    whole = load_checkpoint(nano)
    return replace(
        whole,
        manifest=Manifest(
            model=config, provenance=Provenance(weights="random", seed=0, embodiments=())
        ),
        model=model.eval(),
        images=replace(whole.images, vision=config.backbone.vision_config),
    )


@pytest.fixture(scope="session")
def _tiny_folder(tmp_path_factory, tiny) -> Path:
    from qwen_vla_ros.checkpoint.checkpoint import save_checkpoint

    out = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save_checkpoint(tiny, out)
    return out


@pytest.fixture
def tiny_folder(_tiny_folder, tmp_path) -> Path:
    """A tiny checkpoint on disk, to be spoilt."""
    return Path(shutil.copytree(_tiny_folder, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def _published(tmp_path_factory, tiny) -> Path:
    import torch
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen3_5 import Qwen3_5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("published") / "Qwen3.5-Tiny"
    torch.manual_seed(5)
    config = _tiny_config().backbone
    model = Qwen3_5ForConditionalGeneration(config)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="200KB")
    vision = config.vision_config
    Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        temporal_patch_size=vision.temporal_patch_size,
        merge_size=vision.spatial_merge_size,
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
        from qwen_vla_ros.model.graph_cache import Recording, fill

        self.recordings += 1
        output = compute()
        return Recording(output, lambda: fill(output, compute()))


@pytest.fixture
def tape() -> Tape:
    return Tape()
