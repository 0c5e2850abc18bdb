"""Row 4: one observation through the backbone in float32 on one thread, stock and ours.

    python benchmarks/backbone_forward.py [--runs N] [--json FILE]

The stock way is transformers' Qwen3.5 as it comes, given token ids and patches. Both have the same
weights and read the same three cameras and prompt; their hidden states are compared first.
"""

from __future__ import annotations

import logging

import torch
from side_by_side import Comparison, arguments, interleave, report
from torch import Tensor
from transformers.models.qwen3_5 import Qwen3_5Config, Qwen3_5ForConditionalGeneration

from qwen_vla_ros.checkpoint.corpus import corpus
from qwen_vla_ros.checkpoint.vocabulary import trimmed_tokenizer
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.model.backbone import Backbone, as_family, in_family_words
from qwen_vla_ros.model.config import NANO
from qwen_vla_ros.model.family import qwen, text_of, vision_of
from qwen_vla_ros.model.image_processing import ImageProcessor
from qwen_vla_ros.model.inputs import collate, patches_of
from qwen_vla_ros.prompt.build import build_prompt

GOAL = 1.6
TOLERANCE = 1e-4

WIDE = qwen(
    vision={"depth": 6, "hidden_size": 512, "intermediate_size": 2048, "num_heads": 8},
    text={
        "vocab_size": text_of(NANO.backbone).vocab_size,
        "hidden_size": 768,
        "intermediate_size": 2560,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "linear_num_key_heads": 8,
        "linear_num_value_heads": 16,
    },
    image_token_id=NANO.backbone.image_token_id,
)
"""A backbone with the proportions of the large presets."""

SIZES = {"nano": NANO.backbone, "768 x 8": WIDE}


def stock_of(backbone: Backbone) -> Qwen3_5ForConditionalGeneration:
    """Return the family's model as it comes, with the same weights."""
    # Nobody has the faster kernels that it would like, for there are none for a CPU.
    logging.getLogger("transformers.integrations.hub_kernels").setLevel(logging.ERROR)
    return as_family(backbone)


def stock_forward(stock: Qwen3_5ForConditionalGeneration, words: dict[str, Tensor]) -> Tensor:
    """Return the hidden states of all tokens; (1, L, D)."""
    hidden: Tensor = stock.model(**words, use_cache=False).last_hidden_state
    return hidden


def compare(row: str, name: str, config: Qwen3_5Config, runs: int) -> Comparison:
    """Measure one backbone of random weights."""
    torch.manual_seed(0)
    backbone = Backbone(config).eval()
    stock = stock_of(backbone)
    robot = load_embodiment("aloha_sim")
    prompt = build_prompt(robot, "put the red cube into the blue bowl")
    patches = patches_of(ImageProcessor(vision_of(config)), robot, robot.make_example(), prompt)
    tokens = trimmed_tokenizer(corpus([prompt.text])).encode(prompt.text, patches.token_counts)
    inputs = collate([(tokens, patches)])
    words = in_family_words(inputs, config)
    with torch.no_grad():
        layout = backbone.lay_out(inputs)
        expected = stock_forward(stock, words)
        difference = (backbone(layout, inputs.pixel_values).hidden - expected).abs().max().item()
        baseline, ours = interleave(
            lambda: stock_forward(stock, words),
            lambda: backbone(layout, inputs.pixel_values),
            runs,
        )
    ratio = baseline[0] / ours[0]
    return Comparison(
        row=row,
        what=f"backbone forward, fp32, {name}",
        baseline=baseline,
        ours=ours,
        goal=f">= {GOAL}x, difference <= {TOLERANCE:g}",
        is_met=ratio >= GOAL and difference <= TOLERANCE,
        runs=runs,
        remark=f"{len(patches.grids)} images, {len(tokens.ids)} tokens; largest difference "
        f"{difference:.1e} of {expected.abs().max().item():.1f}",
    )


def main() -> None:
    """Measure two sizes."""
    options = arguments((__doc__ or "").splitlines()[0], runs=30).parse_args()
    torch.set_num_threads(1)
    rows = zip(("4", "4a"), SIZES.items(), (options.runs, max(3, options.runs // 4)), strict=True)
    report([compare(row, *size, runs) for row, size, runs in rows], options.json)


if __name__ == "__main__":
    main()
