"""How many parameters each part of the model has, in the rows of the paper's table."""

from __future__ import annotations

from dataclasses import dataclass

from qwen_vla_ros.checkpoint.weights import model_slots
from qwen_vla_ros.model.config import ModelConfig

BACKBONE_ROWS = {
    "vision encoder": ("backbone.model.visual.",),
    "language model": ("backbone.",),
}
DECODER_ROWS = {
    "decoder blocks": ("decoder.blocks.",),
    "action projections": ("decoder.action_in.", "decoder.action_out."),
    "context projection": ("decoder.context_in.",),
    "timestep MLP": ("decoder.timestep.",),
    "output AdaLN": ("decoder.output_adaln.",),
}
ROWS = BACKBONE_ROWS | DECODER_ROWS
"""Row by the beginnings of the names in it; the first row that fits takes a parameter."""


@dataclass(frozen=True)
class Precision:
    """What one parameter takes, in bytes.

    Attributes:
        weights: While it is served.
        training: Weight, gradient and both moments of Adam. In bf16 the moments are fp32, and so
            is a copy of the weight: steps are too small for bf16 to see.
    """

    weights: int
    training: int


PRECISIONS = {"fp32": Precision(4, 4 + 4 + 8), "bf16": Precision(2, 2 + 2 + 4 + 8)}


def parameter_table(config: ModelConfig) -> dict[str, int]:
    """Return the number of parameters per row of `ROWS`; takes no memory for them."""
    table = dict.fromkeys(ROWS, 0)
    for name, slot in model_slots(config).items():
        row = next(row for row, prefixes in ROWS.items() if name.startswith(prefixes))
        table[row] += slot.numel()
    return table
