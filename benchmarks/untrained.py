"""A checkpoint of random weights in memory, for measuring: its answers mean nothing."""

from __future__ import annotations

import torch
from torch import nn

from qwen_vla_ros.checkpoint.checkpoint import Checkpoint
from qwen_vla_ros.checkpoint.corpus import corpus
from qwen_vla_ros.checkpoint.fresh_checkpoint import TRIMMED
from qwen_vla_ros.checkpoint.manifest import Manifest, Provenance
from qwen_vla_ros.checkpoint.normalization import limits_as_statistics
from qwen_vla_ros.checkpoint.vocabulary import trimmed_tokenizer, whole_tokenizer
from qwen_vla_ros.checkpoint.weights import fresh_model
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.model.config import ModelConfig
from qwen_vla_ros.model.family import vision_of
from qwen_vla_ros.model.image_processing import ImageProcessor
from qwen_vla_ros.types import Prompt


def untrained(
    config: ModelConfig,
    robot: Embodiment,
    prompt: Prompt,
    dtype: torch.dtype = torch.float32,
) -> Checkpoint:
    """Return a model of `config` for a robot, with a tokenizer that knows the prompt's words."""
    is_trimmed = config.preset == TRIMMED
    model = fresh_model(config, 0, dtype=dtype)
    liven(model.decoder)
    return Checkpoint(
        manifest=Manifest(
            model=config, provenance=Provenance(weights="random", seed=0, embodiments=())
        ),
        model=model.eval(),
        tokenizer=trimmed_tokenizer(corpus([prompt.text])) if is_trimmed else whole_tokenizer(),
        images=ImageProcessor(vision_of(config.backbone)),
        normalization={robot.file.normalization: limits_as_statistics(robot)},
    )


def liven(decoder: nn.Module) -> None:
    """Replace the zeros of a fresh decoder, which answers no velocity whatever it is asked."""
    for parameter in decoder.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
