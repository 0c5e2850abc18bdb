"""`qwen-vla ask`: what does the model see?"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_vla_ros.errors import QwenVlaError, suggest

if TYPE_CHECKING:
    from qwen_vla_ros.types import ImageArray

MAX_IMAGE_BYTES = 64 * 2**20


def ask(
    checkpoint: Path,
    question: str,
    images: Sequence[Path],
    device: str = "auto",
    precision: str = "auto",
    max_new_tokens: int = 64,
    adapter: Path | None = None,
) -> int:
    """Ask a checkpoint's language side a question and print its answer.

    Args:
        checkpoint: The checkpoint.
        question: Human words.
        images: Pictures to ask about, in order.
        device: Where the model runs; `auto` is a GPU where torch sees one.
        precision: `fp32`, `bf16`, or `auto`: bf16 on a GPU.
        max_new_tokens: Where an answer that does not end is cut.
        adapter: LoRA adapter to merge into the weights.

    Raises:
        QwenVlaError: When an image cannot be read.
        CheckpointError: When the checkpoint cannot be used.
    """
    pictures = [read_image(path) for path in images]
    if not question.strip():
        raise QwenVlaError("the question is empty; ask something.")

    from qwen_vla_ros.checkpoint.checkpoint import load_checkpoint
    from qwen_vla_ros.model.compute import device_of, dtype_of
    from qwen_vla_ros.policy.answer import answer

    # transformers asks for faster kernels by name, and there are none for a CPU.
    logging.getLogger("transformers.integrations.hub_kernels").setLevel(logging.ERROR)
    place = device_of(device)
    loaded = load_checkpoint(checkpoint, place, dtype_of(precision, place), adapter)
    if loaded.manifest.provenance.weights == "random":
        print("The weights are random, and so are these words:", file=sys.stderr)
    said = answer(loaded, pictures, question, max_new_tokens=max_new_tokens)
    print(said.strip() or f"(no words: {len(said)} blanks and line breaks)")
    return 0


def read_image(path: Path) -> ImageArray:
    """Return a picture as RGB (H, W, 3).

    Raises:
        QwenVlaError: When there is no picture.
    """
    import numpy as np
    from PIL import Image

    if not path.is_file():
        near = suggest(path.name, (each.name for each in path.parent.glob("*") if each.is_file()))
        raise QwenVlaError(f"{path}: there is no such file.{near.partition(' Known:')[0]}")
    if path.stat().st_size > MAX_IMAGE_BYTES:
        raise QwenVlaError(
            f"{path}: {path.stat().st_size} bytes; at most {MAX_IMAGE_BYTES} are allowed."
        )
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise QwenVlaError(f"{path}: is no picture that can be read: {error}.") from error
