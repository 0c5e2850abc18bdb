"""Rows 5 and 6: a chunk sampled in float32 on one thread, plainly and as this project does it.

    python benchmarks/decode.py [--runs N] [--json FILE]

The plain way is the architecture as one would write it down. In each of the 10 steps the context
is projected, the angles and the AdaLN vectors are computed, and all tokens go through all of every
block; who sees whom is a mask. Both ways have the same weights and must answer the same actions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from side_by_side import Comparison, arguments, interleave, report
from torch import Tensor
from torch.nn import functional

from qwen_vla_ros.model.action_decoder import ActionDecoder, Block, Context
from qwen_vla_ros.model.compute import use_threads
from qwen_vla_ros.model.config import NANO, DecoderConfig
from qwen_vla_ros.model.family import text_of
from qwen_vla_ros.model.sampling import decode, step_times

STEPS = 10
HORIZON = 16
TOKENS = 230
"""Three images of 224 px and the prompt, in the nano preset."""

WIDE = DecoderConfig(num_blocks=8, width=512, inner_size=3072, num_heads=8, attention="prefix")
SHAPES = {"nano": (NANO.decoder, text_of(NANO.backbone).hidden_size), "512 x 8": (WIDE, 1024)}
"""Decoders and the width of their context."""

Attention = Literal["prefix", "joint"]
ROWS: dict[Attention, tuple[str, float]] = {"prefix": ("5", 3.5), "joint": ("6", 2.5)}
TOLERANCE = 1e-4


class PlainDecoder:
    """A decoder written down."""

    def __init__(self, decoder: ActionDecoder) -> None:
        self._decoder = decoder

    def sample(self, context: Context, noise: Tensor) -> Tensor:
        """Return the actions; (1, H, K)."""
        y = noise
        for step in range(STEPS):
            y = y - self.velocity(context, y, 1 - step / STEPS) / STEPS
        return y

    def velocity(self, context: Context, y: Tensor, t: float) -> Tensor:
        """Return the velocity at flow time `t`; (1, H, K)."""
        decoder, length = self._decoder, context.hidden.shape[1]
        x = torch.cat((decoder.context_in(context.hidden), decoder.action_in(y)), dim=1)
        after = context.positions.max() + 1 + torch.arange(HORIZON).expand(3, 1, -1)
        cos, sin = self._angles(torch.cat((context.positions, after), dim=2))

        time, visible = functional.silu(decoder.timestep(torch.tensor([t]))), None
        if not decoder.is_joint:
            visible = torch.ones(length + HORIZON, length + HORIZON, dtype=torch.bool)
            visible[:length, length:] = False
            clean = functional.silu(decoder.timestep(torch.zeros(1)))
            of_token = torch.arange(length + HORIZON) >= length
            time = torch.cat((clean, time))
        for block in decoder.blocks:
            assert isinstance(block, Block)
            vectors = block.adaln(time)
            if not decoder.is_joint:
                vectors = vectors[of_token.long()]
            x = self._run(block, x, vectors.unsqueeze(0), cos, sin, visible)
        shift, scale = decoder.output_adaln(time[-1]).chunk(2, dim=-1)
        answer: Tensor = decoder.action_out(modulate(x[:, length:], shift, scale))
        return answer

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        config = self._decoder.config
        half = config.width // config.num_heads // 2
        frequencies = config.rope_theta ** -(torch.arange(half) / half)
        row = torch.zeros(half, dtype=torch.long)
        row[1 : 3 * config.rope_sections[1] : 3] = 1
        row[2 : 3 * config.rope_sections[2] : 3] = 2
        angles = positions[row].permute(1, 2, 0) * frequencies
        angles = torch.cat((angles, angles), dim=-1).unsqueeze(1)
        return angles.cos(), angles.sin()

    @staticmethod
    def _run(
        block: Block,
        x: Tensor,
        vectors: Tensor,
        cos: Tensor,
        sin: Tensor,
        visible: Tensor | None,
    ) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = vectors.chunk(6, dim=-1)
        qkv = block.qkv(modulate(x, shift_a, scale_a)).chunk(3, dim=-1)
        query, key, value = (
            part.unflatten(-1, (block.num_heads, -1)).transpose(1, 2) for part in qkv
        )
        attended = functional.scaled_dot_product_attention(
            rotate(query, cos, sin), rotate(key, cos, sin), value, attn_mask=visible
        )
        x = x + gate_a * block.attention_out(attended.transpose(1, 2).flatten(2))
        gate, up = block.gate_up(modulate(x, shift_m, scale_m)).chunk(2, dim=-1)
        answer: Tensor = block.down(functional.silu(gate) * up)
        return x + gate_m * answer


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise, scale, shift."""
    return functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the halves of each head against each other."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def compare(name: str, attention: Attention, runs: int) -> Comparison:
    """Measure one decoder of random weights."""
    config, width = SHAPES[name]
    torch.manual_seed(0)
    decoder = ActionDecoder(replace(config, attention=attention), width)
    for parameter in decoder.parameters():
        # A fresh decoder answers zero whatever it is asked.
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    context = Context(
        torch.randn(1, TOKENS, width), torch.arange(TOKENS).expand(3, 1, -1).contiguous(), None
    )
    noise = torch.randn(1, HORIZON, config.action_channels)
    mask = torch.ones_like(noise, dtype=torch.bool)
    plain, schedule = PlainDecoder(decoder), decoder.schedule(step_times(STEPS))
    with torch.no_grad():
        expected = plain.sample(context, noise)
        answer = decode(decoder, context, noise, mask, schedule)
        difference = (answer - expected).abs().max().item() / expected.abs().max().item()
        baseline, ours = interleave(
            lambda: plain.sample(context, noise),
            lambda: decode(decoder, context, noise, mask, schedule),
            runs,
        )
    row, goal = ROWS[attention]
    ratio = baseline[0] / ours[0]
    return Comparison(
        row=row,
        what=f"decode, {STEPS} steps, {attention}, {name}",
        baseline=baseline,
        ours=ours,
        goal=f">= {goal}x, difference <= {TOLERANCE:g}",
        is_met=ratio >= goal and difference <= TOLERANCE,
        runs=runs,
        remark=f"{TOKENS} + {HORIZON} tokens; largest difference {difference:.1e} of the largest",
    )


def main() -> None:
    """Measure both ways of attention at both sizes."""
    options = arguments((__doc__ or "").splitlines()[0], runs=15).parse_args()
    use_threads(1)
    report(
        [compare(name, attention, options.runs) for attention in ROWS for name in SHAPES],
        options.json,
    )


if __name__ == "__main__":
    main()
