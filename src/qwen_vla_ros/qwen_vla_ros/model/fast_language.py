"""The family's language model, computed for serving: same weights, same numbers.

Prompts are padded on the right, and every layer looks to the left only: nothing that is padded
reaches a real token, so no layer needs a mask.

Shapes: L tokens, D width, N heads, E per head, R rotated part of a head.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen3_5.modeling_qwen3_5 import (
    Qwen3_5Attention,
    Qwen3_5DecoderLayer,
    Qwen3_5GatedDeltaNet,
    Qwen3_5RMSNorm,
    Qwen3_5TextModel,
    causal_conv1d_fn,
    torch_chunk_gated_delta_rule,
)

from qwen_vla_ros.model.delta_rule import gated_delta_rule
from qwen_vla_ros.model.product import Layer

HAS_DELTA_KERNEL = importlib.util.find_spec("fla") is not None
"""Whether flash-linear-attention is installed; it computes on a GPU only."""

HAS_CONVOLUTION_KERNEL = importlib.util.find_spec("causal_conv1d") is not None
"""Whether causal-conv1d is installed; it computes on a GPU only."""


@dataclass(frozen=True, kw_only=True)
class TextLayout:
    """What the positions of the tokens say.

    Attributes:
        cos: Of the rotary angles of every token; (L, 1, R).
        sin: The same, its first half negated, since that half receives the other's negative.
    """

    cos: Tensor
    sin: Tensor


class FastLanguage:
    """Reads tokens with the weights of a `Qwen3_5TextModel`, which must not change any more."""

    def __init__(self, text: Qwen3_5TextModel, context_layer: int | None) -> None:
        """Prepare.

        Args:
            text: Its weights are used in place.
            context_layer: Layer whose hidden states are asked for; `None` is the last one, after
                the final norm.
        """
        self._text = text
        layers = [layer for layer in text.layers if isinstance(layer, Qwen3_5DecoderLayer)]
        # Layers above the one that is read would be computed for nothing.
        ends = context_layer is None or context_layer >= len(layers)
        self._final = _Norm(text.norm) if ends else None
        self._layers = [_Layer(layer) for layer in layers[: None if ends else context_layer]]

    def lay_out(self, positions: Tensor) -> TextLayout:
        """Return what stays the same while tokens keep their positions (3, 1, L)."""
        weight = self._text.embed_tokens.weight
        cos, sin = self._text.rotary_emb(weight[:1], positions.to(weight.device))
        first, second = sin[0, :, None].chunk(2, dim=-1)
        return TextLayout(cos=cos[0, :, None], sin=torch.cat((-first, second), dim=-1))

    def __call__(self, embedded: Tensor, layout: TextLayout) -> Tensor:
        """Return the hidden states of all tokens; (L, D) both ways."""
        x = embedded
        for layer in self._layers:
            x = layer(x, layout)
        return x if self._final is None else self._final(x)


class _Norm:
    """The family's root mean square norm, whose weight is what is added to one."""

    def __init__(self, norm: Qwen3_5RMSNorm) -> None:
        self._weight = 1 + norm.weight.detach().float()
        self._eps = norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        normal = functional.rms_norm(x.float(), self._weight.shape, self._weight, self._eps)
        return normal.to(x.dtype)


class _Layer:
    """One layer: tokens among each other, then each by itself."""

    def __init__(self, layer: Qwen3_5DecoderLayer) -> None:
        self._before = _Norm(layer.input_layernorm)
        self._between = _Norm(layer.post_attention_layernorm)
        self._gate, self._up, self._down = (
            Layer(linear.weight)
            for linear in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj)
        )
        self._mix = (
            _DeltaNet(layer.linear_attn)
            if layer.block_type == "linear_attention"
            else _Attention(layer.self_attn)
        )

    def __call__(self, x: Tensor, layout: TextLayout) -> Tensor:
        x = x + self._mix(self._before(x), layout)
        seen = self._between(x)
        return x + self._down(self._gate(seen, "silu") * self._up(seen))


class _DeltaNet:
    """Gated delta rule after a short convolution."""

    def __init__(self, net: Qwen3_5GatedDeltaNet) -> None:
        self._net = net
        self._qkv, self._gate = Layer(net.in_proj_qkv.weight), Layer(net.in_proj_z.weight)
        self._rates = Layer(torch.cat((net.in_proj_b.weight, net.in_proj_a.weight)))
        self._out = Layer(net.out_proj.weight)
        self._taps = net.conv1d.weight.detach()[:, 0]  # (channels, taps)
        self._pace = -net.A_log.detach().float().exp()

    def __call__(self, x: Tensor, _: TextLayout) -> Tensor:
        net = self._net
        mixed = _convolve(self._qkv(x), self._taps)
        sizes = [net.key_dim, net.key_dim, net.value_dim]
        heads = (net.num_k_heads, net.num_k_heads, net.num_v_heads)
        query, key, value = (
            part.reshape(1, len(x), count, -1)
            for part, count in zip(torch.split(mixed, sizes, dim=-1), heads, strict=True)
        )  # (1, L, heads, E)
        beta, a = self._rates(x).unsqueeze(0).chunk(2, dim=-1)  # (1, L, N)
        decay = self._pace * functional.softplus(a.float() + net.dt_bias)
        read = _recall(query, key, value, decay, beta.sigmoid())[0]  # (L, N, E)
        normal = functional.rms_norm(
            read.float(), (net.head_v_dim,), net.norm.weight, net.norm.variance_epsilon
        )
        return self._out(normal.flatten(1).to(x.dtype) * self._gate(x, "silu"))


class _Attention:
    """Gated attention with grouped heads."""

    def __init__(self, attention: Qwen3_5Attention) -> None:
        self._width = attention.head_dim
        self._query, self._key, self._value, self._out = (
            Layer(linear.weight, linear.bias)
            for linear in (
                attention.q_proj,
                attention.k_proj,
                attention.v_proj,
                attention.o_proj,
            )
        )
        self._query_norm, self._key_norm = _Norm(attention.q_norm), _Norm(attention.k_norm)

    def __call__(self, x: Tensor, layout: TextLayout) -> Tensor:
        length, width = len(x), self._width
        query, gate = self._query(x).view(length, -1, 2 * width).chunk(2, dim=-1)  # (L, N, E)
        key, value = (layer(x).view(length, -1, width) for layer in (self._key, self._value))
        query, key = _turn(self._query_norm(query), layout), _turn(self._key_norm(key), layout)
        query, key, value = (part.transpose(0, 1).unsqueeze(0) for part in (query, key, value))
        attended = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        )  # (1, N, L, E)
        seen = attended[0].transpose(0, 1) * gate.sigmoid()
        return self._out(seen.flatten(1))


def _turn(x: Tensor, layout: TextLayout) -> Tensor:
    """Rotate the first R values of each head by the token's position; (L, N, E) both ways."""
    rotated, rest = x[..., : layout.cos.shape[-1]], x[..., layout.cos.shape[-1] :]
    first, second = rotated.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    turned = swapped.mul_(layout.sin).addcmul_(rotated, layout.cos)
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


def _convolve(x: Tensor, taps: Tensor) -> Tensor:
    """Weigh every token's and its predecessors' values, channel by channel; (L, channels).

    Args:
        x: (L, channels).
        taps: The newest last; (channels, taps).
    """
    if x.is_cuda and HAS_CONVOLUTION_KERNEL:
        # The family's function is causal-conv1d's, where that is installed.
        mixed = causal_conv1d_fn(x.T.unsqueeze(0), taps, activation="silu")
        return torch.as_tensor(mixed[0].T)
    x, weights = x.float(), taps.T.float()
    newest = len(weights) - 1
    total = x * weights[newest]
    for back in range(1, newest + 1):
        total[back:].addcmul_(x[: max(0, len(x) - back)], weights[newest - back])
    return functional.silu(total, inplace=True)


def _recall(query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
    """Return what the gated delta rule reads; see `gated_delta_rule`."""
    if query.is_cuda and beta.dtype == torch.bfloat16 and HAS_DELTA_KERNEL:
        # The family's function is flash-linear-attention's, where that is installed. It takes no
        # float32.
        query, key, value = (part.to(beta.dtype) for part in (query, key, value))
        read, _ = torch_chunk_gated_delta_rule(
            query, key, value, g=decay, beta=beta, use_qk_l2norm_in_kernel=True
        )
        return torch.as_tensor(read)
    return gated_delta_rule(query, key, value, decay, beta)
