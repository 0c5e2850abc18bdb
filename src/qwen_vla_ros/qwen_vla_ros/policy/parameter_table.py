"""How many parameters each part of the model has, in the rows of the paper's table."""

from __future__ import annotations

import math

from qwen_vla_ros.policy.config import ModelConfig
from qwen_vla_ros.policy.weights import expected_shapes

ROWS = {
    "vision encoder": ("backbone.qwen.model.visual.",),
    "language model": ("backbone.qwen.",),
    "decoder blocks": ("decoder.blocks.",),
    "action projections": ("decoder.action_in.", "decoder.action_out."),
    "context projection": ("decoder.context_in.",),
    "timestep MLP": ("decoder.timestep.",),
    "output AdaLN": ("decoder.output_adaln.",),
}
"""Row by the beginnings of the names in it; the first row that fits takes a parameter."""


def parameter_table(config: ModelConfig) -> dict[str, int]:
    """Return the number of parameters per row of `ROWS`; takes no memory for them."""
    table = dict.fromkeys(ROWS, 0)
    for name, shape in expected_shapes(config).items():
        row = next(row for row, prefixes in ROWS.items() if name.startswith(prefixes))
        table[row] += math.prod(shape)
    return table
