"""Row 4: one observation through the backbone in float32 on one thread, stock and ours.

    python benchmarks/backbone_forward.py [--runs N] [--json FILE]

The stock way is transformers' Qwen3.5 as it comes, given token ids and patches. Both have the same
weights and read the same three cameras and prompt; their hidden states are compared first.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from side_by_side import Comparison, arguments, interleave, report
from torch import Tensor
from transformers.models.qwen3_5 import Qwen3_5ForConditionalGeneration

from qwen_vla_ros.checkpoint.corpus import corpus
from qwen_vla_ros.checkpoint.vocabulary import trimmed_tokenizer
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.model.backbone import Backbone, family_config
from qwen_vla_ros.model.config import NANO, BackboneConfig, VisionConfig
from qwen_vla_ros.model.fast_backbone import FastBackbone
from qwen_vla_ros.model.image_processing import ImageProcessor
from qwen_vla_ros.model.inputs import Inputs, collate, patches_of
from qwen_vla_ros.prompt.build import build_prompt

GOAL = 1.6
TOLERANCE = 1e-4

WIDE = replace(
    NANO.backbone,
    vision=VisionConfig(
        depth=6, hidden_size=512, intermediate_size=2048, num_heads=8, positions=48 * 48
    ),
    hidden_size=768,
    intermediate_size=2560,
    num_layers=8,
    num_heads=8,
    head_dim=256,
    rotary_fraction=0.25,
    linear_key_heads=8,
    linear_key_head_dim=128,
    linear_value_heads=16,
    linear_value_head_dim=128,
)
"""A backbone with the proportions of the large presets."""

SIZES = {"nano": NANO.backbone, "768 x 8": WIDE}


def stock_of(backbone: Backbone) -> Qwen3_5ForConditionalGeneration:
    """Return the family's model as it comes, with the same weights."""
    # Nobody has the faster kernels that it would like, for there are none for a CPU.
    logging.getLogger("transformers.integrations.hub_kernels").setLevel(logging.ERROR)
    stock = Qwen3_5ForConditionalGeneration(family_config(backbone.config))
    stock.load_state_dict(backbone.qwen.state_dict())
    stock.train(mode=False)
    return stock


def stock_forward(stock: Qwen3_5ForConditionalGeneration, inputs: Inputs) -> Tensor:
    """Return the hidden states of all tokens; (1, L, D)."""
    output = stock.model(
        input_ids=inputs.token_ids,
        mm_token_type_ids=inputs.is_image.int(),
        pixel_values=inputs.patches,
        image_grid_thw=inputs.grids,
        use_cache=False,
    )
    hidden: Tensor = output.last_hidden_state
    return hidden


def compare(row: str, name: str, config: BackboneConfig, runs: int) -> Comparison:
    """Measure one backbone of random weights."""
    torch.manual_seed(0)
    backbone = Backbone(config).eval()
    stock, fast = stock_of(backbone), FastBackbone(backbone)
    robot = load_embodiment("aloha_sim")
    prompt = build_prompt(robot, "put the red cube into the blue bowl")
    patches = patches_of(ImageProcessor(config.vision), robot, robot.make_example(), prompt)
    grids = [(int(t), int(rows), int(columns)) for t, rows, columns in patches.grids]
    counts = [rows * columns // config.vision.merge_size**2 for _, rows, columns in grids]
    tokens = trimmed_tokenizer(corpus([prompt.text])).encode(prompt.text, counts)
    inputs, stills = collate([(tokens, patches)]), torch.from_numpy(patches.stills)
    with torch.inference_mode():
        layout = fast.lay_out(tokens, grids)
        expected = stock_forward(stock, inputs)
        difference = (fast(layout, stills).hidden - expected).abs().max().item()
        baseline, ours = interleave(
            lambda: stock_forward(stock, inputs), lambda: fast(layout, stills), runs
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
        remark=f"{len(grids)} images, {len(tokens.ids)} tokens; largest difference "
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
