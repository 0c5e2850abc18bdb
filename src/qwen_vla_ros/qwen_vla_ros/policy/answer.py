"""What the model says about images: the language side of the backbone, kept usable.

The decoder has no part in it. Greedy, so that the same question gets the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from qwen_vla_ros.checkpoint.checkpoint import Checkpoint
from qwen_vla_ros.model.backbone import as_family, in_family_words
from qwen_vla_ros.model.family import text_of
from qwen_vla_ros.model.image_processing import Patches
from qwen_vla_ros.model.inputs import collate
from qwen_vla_ros.model.tokenizer import ChatTokens
from qwen_vla_ros.observation.framing import Size
from qwen_vla_ros.types import ImageArray

MAX_IMAGE_TOKENS = 256
"""Of one image; 16 x 16 tokens are 512 x 512 pixels."""


@dataclass(frozen=True)
class ChatSample:
    """One question as the model reads it; `(tokens.prompt, patches)` goes to `collate`."""

    tokens: ChatTokens
    patches: Patches


def answer(
    checkpoint: Checkpoint,
    images: Sequence[ImageArray],
    question: str,
    *,
    max_new_tokens: int = 64,
    max_image_tokens: int = MAX_IMAGE_TOKENS,
) -> str:
    """Answer a question about images in words.

    Args:
        checkpoint: On the device where it shall run.
        images: RGB, each (H, W, 3) of any size.
        question: Human words.
        max_new_tokens: Where an answer that does not end is cut.
        max_image_tokens: Larger images are made smaller.
    """
    tokenizer = checkpoint.tokenizer
    config = checkpoint.model.config.backbone
    # The types of `generate` do not fit its own class.
    qwen: Any = as_family(checkpoint.model.backbone)
    sample = chat_sample(checkpoint, images, question, max_image_tokens=max_image_tokens)
    inputs = collate([(sample.tokens.prompt, sample.patches)]).to(qwen.device)
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(tokenizer.stop_ids),
        pad_token_id=tokenizer.stop_ids[-1],
        # What has no text cannot be said, nor can an image.
        suppress_tokens=[
            tokenizer.image_id,
            *range(tokenizer.size, text_of(config).vocab_size),
        ],
    )
    words = in_family_words(inputs, config)
    with torch.inference_mode():
        said = qwen.generate(
            **words,
            attention_mask=torch.ones_like(inputs.token_ids),
            generation_config=settings,
        )
    new = said[0, inputs.token_ids.shape[1] :].tolist()
    return tokenizer.decode(new, special=False)


def chat_sample(
    checkpoint: Checkpoint,
    images: Sequence[ImageArray],
    question: str,
    reply: str | None = None,
    *,
    max_image_tokens: int = MAX_IMAGE_TOKENS,
) -> ChatSample:
    """Return a question as the model reads it, with the reply that it is to learn if there is one.

    Args:
        checkpoint: Whose tokenizer and image processor are used.
        images: RGB, each (H, W, 3) of any size.
        question: Human words.
        reply: What is to be said. `None` ends where that would begin.
        max_image_tokens: Larger images are made smaller.
    """
    processor = checkpoint.images
    sizes = [fitting_size(image, processor.token_px, max_image_tokens) for image in images]
    patches = processor(images, sizes)
    return ChatSample(
        checkpoint.tokenizer.encode_chat(question, patches.token_counts, reply), patches
    )


def fitting_size(image: ImageArray, token_px: int, max_tokens: int) -> Size:
    """Return the size nearest to that of `image` (H, W, 3), in shape too, that is whole tokens.

    Args:
        image: As it was taken.
        token_px: Side of a token.
        max_tokens: How many it may have; at least 1.
    """
    height, width = (side / token_px for side in image.shape[:2])
    shrink = min(1.0, math.sqrt(max_tokens / (height * width)))
    columns = min(max_tokens, max(1, round(width * shrink)))
    rows = max(1, min(round(height * shrink), max_tokens // columns))
    return columns * token_px, rows * token_px
