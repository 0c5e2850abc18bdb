"""Linear, SiLU, linear: what stands between actions and tokens, on either side.

Shapes: B batch, H action steps.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from qwen_vla_ros.model.product import Layer


class Mlp(nn.Sequential):
    """Two linear layers with a SiLU between them."""

    def __init__(self, width_in: int, width: int, width_out: int) -> None:
        super().__init__(nn.Linear(width_in, width), nn.SiLU(), nn.Linear(width, width_out))

    def packed(self) -> Callable[[Tensor], Tensor]:
        """Return the same as it is computed when serving; (B, H, in) -> (B, H, out).

        The weights must not change any more.
        """
        up, down = (
            Layer(layer.weight, layer.bias) for layer in self if isinstance(layer, nn.Linear)
        )

        def run(x: Tensor) -> Tensor:
            return down(up(x, "silu"))

        return run
