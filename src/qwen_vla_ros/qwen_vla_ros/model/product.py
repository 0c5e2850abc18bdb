"""A linear layer as it is computed when serving: the same numbers, sooner.

On a CPU torch hands `linear` to MKL, which on other makers' processors uses half of the vector
width; oneDNN, which torch carries too, uses all of it, and applies the activation on the way out.
Measured on one EPYC core at the nano preset's sizes: 94 against 205 GFLOP/s in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["none", "silu", "gelu", "gelu_tanh"]
"""Applied to the product; `gelu` is the exact one."""

ONEDNN_LINEAR = "_linear_pointwise"
ONEDNN_PACK, ONEDNN_BF16 = "_reorder_linear_weight", "_is_mkldnn_bf16_supported"
"""What torch's compiler calls too; these have no public names, and the layer no gradient."""


def _onednn(name: str) -> Callable[..., Any] | None:
    # torch leaves this function without types.
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    found: Callable[..., Any] | None = getattr(torch.ops.mkldnn, name, None)
    return found


_onednn_linear, _onednn_pack = _onednn(ONEDNN_LINEAR), _onednn(ONEDNN_PACK)
_has_bf16 = _onednn(ONEDNN_BF16)
_FORMATS = {torch.float32, *((torch.bfloat16,) if _has_bf16 and _has_bf16() else ())}
"""Where oneDNN has fast layers on this processor."""

_FUSED: dict[Activation, tuple[str, str]] = {
    "none": ("none", ""),
    "silu": ("swish", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
}
"""Name and algorithm of each activation in oneDNN."""


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none"
) -> Tensor:
    """Return activation(x weight^T + bias); (..., in) -> (..., out).

    On a GPU, and wherever gradients are recorded, it is torch's own layer.
    """
    served = x.is_cpu and x.dtype in _FORMATS and not torch.is_grad_enabled()
    if _onednn_linear is None or not served:
        return _activate(functional.linear(x, weight, bias), activation)
    # Weights with gaps between their rows would take oneDNN a thousand times as long.
    if weight.layout is torch.strided:
        weight = weight.contiguous()
    name, algorithm = _FUSED[activation]
    answer: Tensor = _onednn_linear(x, weight, bias, name, [], algorithm)
    return answer


class Layer:
    """A linear layer that is prepared to serve; its weights must not change any more."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Lay the weights out once as oneDNN wants them, which otherwise happens in every call.

        That takes their memory a second time, so it is done in float32 only, in which small models
        serve.
        """
        weight = weight.detach()
        if _onednn_pack is not None and weight.is_cpu and weight.dtype == torch.float32:
            weight = _onednn_pack(weight.contiguous())
        self._weight, self._bias = weight, None if bias is None else bias.detach()

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """Return activation(x weight^T + bias); (..., in) -> (..., out)."""
        return product(x, self._weight, self._bias, activation)


def _activate(x: Tensor, activation: Activation) -> Tensor:
    if activation == "silu":
        return functional.silu(x)
    if activation == "none":
        return x
    return functional.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")
