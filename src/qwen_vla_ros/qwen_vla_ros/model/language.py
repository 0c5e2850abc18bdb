"""The language model of Qwen3.5, top to bottom; the modules have the names of its weights.

Prompts are padded on the right, and every layer looks to the left only: nothing that is padded
reaches a real token, so no layer needs a mask.

Shapes: B batch, L tokens, D width, N heads, E per head.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.qwen3_5 import Qwen3_5TextConfig

from qwen_vla_ros.model.delta_rule import gated_delta_rule
from qwen_vla_ros.model.rotation import Rotation, rotation_at

HAS_DELTA_KERNEL = importlib.util.find_spec("fla") is not None
"""Whether flash-linear-attention is installed; it computes on a GPU only."""

HAS_CONVOLUTION_KERNEL = importlib.util.find_spec("causal_conv1d") is not None
"""Whether causal-conv1d is installed; it computes on a GPU only."""


class Language(nn.Module):
    """Embedded tokens in, their hidden states out."""

    def __init__(self, config: Qwen3_5TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, kind) for kind in config.layer_types or ())
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)

    def rotation(self, positions: Tensor) -> Rotation:
        """Return the rotation of tokens at `positions` (3, B, L)."""
        rope: Mapping[str, Any] = self.config.rope_parameters or {}
        dtype = self.embed_tokens.weight.dtype
        return rotation_at(positions, rope["mrope_section"], rope["rope_theta"], dtype)

    def forward(self, x: Tensor, rotate: Rotation, read: int | None = None) -> Tensor:
        """Return the hidden states of layer `read`, or those after the final norm.

        Layers above the one that is read are not computed.

        Args:
            x: Embedded tokens; (B, L, D).
            rotate: By their positions.
            read: 0 are the embeddings; `None`, as the number of the last layer, is the end.
        """
        ends = read is None or read >= len(self.layers)
        for layer in self.layers[: None if ends else read]:
            x = layer(x, rotate)
        return self.norm(x) if ends else x


class Norm(nn.Module):
    """Root mean square norm, whose weight is what is added to one."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) both ways."""
        scale = 1 + self.weight.float()
        return functional.rms_norm(x.float(), scale.shape, scale, self.eps).to(x.dtype)


class Layer(nn.Module):
    """Tokens among each other, then each by itself."""

    def __init__(self, config: Qwen3_5TextConfig, kind: str) -> None:
        super().__init__()
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        if kind == "linear_attention":
            self.linear_attn = DeltaNet(config)
        else:
            self.self_attn = Attention(config)
        self.mlp = SwiGlu(config)

    def forward(self, x: Tensor, rotate: Rotation) -> Tensor:
        """(B, L, D) both ways."""
        seen = self.input_layernorm(x)
        if hasattr(self, "linear_attn"):
            x = x + self.linear_attn(seen)
        else:
            x = x + self.self_attn(seen, rotate)
        answer: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return answer


class SwiGlu(nn.Module):
    """Each token by itself."""

    def __init__(self, config: Qwen3_5TextConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) both ways."""
        answer: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return answer


class DeltaNet(nn.Module):
    """Gated delta rule after a short convolution."""

    def __init__(self, config: Qwen3_5TextConfig) -> None:
        super().__init__()
        width, values = config.hidden_size, config.linear_num_value_heads
        self.heads = (config.linear_num_key_heads, config.linear_num_key_heads, values)
        key = config.linear_num_key_heads * config.linear_key_head_dim
        value = values * config.linear_value_head_dim
        self.sizes = [key, key, value]
        self.in_proj_qkv = nn.Linear(width, 2 * key + value, bias=False)
        self.in_proj_z = nn.Linear(width, value, bias=False)
        self.in_proj_b = nn.Linear(width, values, bias=False)
        self.in_proj_a = nn.Linear(width, values, bias=False)
        taps = config.linear_conv_kernel_dim
        self.conv1d = nn.Conv1d(
            2 * key + value, 2 * key + value, taps, groups=2 * key + value, bias=False
        )
        self.dt_bias = nn.Parameter(torch.ones(values))
        self.A_log = nn.Parameter(torch.zeros(values))
        self.norm = nn.RMSNorm(config.linear_value_head_dim, config.rms_norm_eps)
        self.out_proj = nn.Linear(value, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) both ways."""
        mixed = convolve(self.in_proj_qkv(x), self.conv1d.weight[:, 0])
        query, key, value = (
            part.reshape(*part.shape[:2], count, -1)
            for part, count in zip(torch.split(mixed, self.sizes, -1), self.heads, strict=True)
        )  # (B, L, heads, E)
        beta = self.in_proj_b(x).sigmoid()
        pace = -self.A_log.float().exp()
        decay = pace * functional.softplus(self.in_proj_a(x).float() + self.dt_bias)
        recalled = apply_delta_rule(query, key, value, decay, beta).float()  # (B, L, N, E)
        normal = self.norm(recalled).flatten(2).to(x.dtype)
        answer: Tensor = self.out_proj(normal * functional.silu(self.in_proj_z(x)))
        return answer


class Attention(nn.Module):
    """Gated attention with grouped heads."""

    def __init__(self, config: Qwen3_5TextConfig) -> None:
        super().__init__()
        width, head = config.hidden_size, config.head_dim
        self.head_dim = head
        self.q_proj = nn.Linear(width, 2 * config.num_attention_heads * head, bias=False)
        self.k_proj = nn.Linear(width, config.num_key_value_heads * head, bias=False)
        self.v_proj = nn.Linear(width, config.num_key_value_heads * head, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * head, width, bias=False)
        self.q_norm, self.k_norm = (Norm(head, config.rms_norm_eps) for _ in range(2))

    def forward(self, x: Tensor, rotate: Rotation) -> Tensor:
        """(B, L, D) both ways."""
        # Of every head the query, then the gate; (B, L, N, E) each.
        query, gate = self.q_proj(x).unflatten(-1, (-1, 2 * self.head_dim)).chunk(2, dim=-1)
        key, value = (
            layer(x).unflatten(-1, (-1, self.head_dim)) for layer in (self.k_proj, self.v_proj)
        )
        query, key = rotate(self.q_norm(query)), rotate(self.k_norm(key))
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attended = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        )  # (B, N, L, E)
        answer: Tensor = self.o_proj((attended.transpose(1, 2) * gate.sigmoid()).flatten(2))
        return answer


def convolve(x: Tensor, taps: Tensor) -> Tensor:
    """Weigh every token's and its predecessors' values, channel by channel; (B, L, channels).

    Args:
        x: (B, L, channels).
        taps: The newest last; (channels, taps).
    """
    if x.is_cuda and HAS_CONVOLUTION_KERNEL:
        # The family's function is causal-conv1d's, where that is installed.
        from transformers.models.qwen3_5.modeling_qwen3_5 import causal_conv1d_fn

        mixed = causal_conv1d_fn(x.mT, taps, activation="silu")
        return torch.as_tensor(mixed.mT)
    length, weights = x.shape[1], taps.T.float()
    x = functional.pad(x.float(), (0, 0, len(weights) - 1, 0))
    total = x[:, :length] * weights[0]
    for tap, weight in enumerate(weights[1:], start=1):
        total = torch.addcmul(total, x[:, tap : tap + length], weight)
    return functional.silu(total)


def apply_delta_rule(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor
) -> Tensor:
    """Return what the gated delta rule reads; see `gated_delta_rule`."""
    if query.is_cuda and beta.dtype == torch.bfloat16 and HAS_DELTA_KERNEL:
        # The family's function is flash-linear-attention's, where that is installed. It takes no
        # float32.
        from transformers.models.qwen3_5.modeling_qwen3_5 import torch_chunk_gated_delta_rule

        query, key, value = (part.to(beta.dtype) for part in (query, key, value))
        read, _ = torch_chunk_gated_delta_rule(
            query, key, value, g=decay, beta=beta, use_qk_l2norm_in_kernel=True
        )
        return torch.as_tensor(read)
    return gated_delta_rule(query, key, value, decay, beta)
