"""One block of the action decoder: attention among tokens, then a SwiGLU of each by itself.

Shapes: B batch, S tokens, L tokens of the past, D width, N heads, E = D / N per head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qwen_vla_ros.model.config import DecoderConfig
from qwen_vla_ros.model.modulation import BlockModulation
from qwen_vla_ros.model.rotation import Rotation


@dataclass(frozen=True)
class Past:
    """Rotated keys and values of tokens that others see later.

    Attributes:
        key: (B, N, L, E), or longer by the room that was left for tokens that follow.
        value: Of the same shape.
        length: L.
    """

    key: Tensor
    value: Tensor
    length: int

    @staticmethod
    def of(key: Tensor, value: Tensor, room: int = 0) -> Past:
        """Keep (B, N, L, E) both, with room for as many tokens more."""
        length = key.shape[2]
        if room:
            key, value = (functional.pad(x, (0, 0, 0, room)) for x in (key, value))
        return Past(key, value, length)

    def followed_by(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return all keys and values; they are written to the room, if there is any."""
        if self.key.shape[2] == self.length or torch.is_grad_enabled():
            past_key, past_value = self.key[:, :, : self.length], self.value[:, :, : self.length]
            return torch.cat((past_key, key), dim=2), torch.cat((past_value, value), dim=2)
        self.key[:, :, self.length :] = key
        self.value[:, :, self.length :] = value
        return self.key, self.value


class Block(nn.Module):
    """Attention 4 D^2, AdaLN 6 D^2, SwiGLU 3 D * inner: 70.8 M at the paper's width."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.adaln = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * config.inner_size, bias=False)
        self.down = nn.Linear(config.inner_size, width, bias=False)

    def keep(
        self, x: Tensor, modulation: BlockModulation, rotate: Rotation, room: int = 0
    ) -> Past:
        """Return only what later tokens need of `x` (B, S, D), for the last block of a prefix."""
        _, key, value = self._project(modulation.attention(x))
        return Past.of(rotate(key), value, room)

    def forward(
        self,
        x: Tensor,
        modulation: BlockModulation,
        rotate: Rotation,
        *,
        past: Past | None = None,
        visible: Tensor | None = None,
        last: int | None = None,
        room: int = 0,
    ) -> tuple[Tensor, Past]:
        """Run the block on tokens that see `past` and each other.

        Args:
            x: The tokens; (B, S, D).
            modulation: AdaLN of their time.
            rotate: By their positions.
            past: Keys and values of earlier tokens.
            visible: True where a key may be seen; (B, 1, 1 or S, L + S). `None` when all may.
            last: How many tokens, from the end, are asked for. `None`: all S.
            room: How many tokens are to follow what is kept.

        Returns:
            The tokens that are asked for, and the keys and values of all S.
        """
        query, key, value = self._project(modulation.attention(x))  # (B, N, S, E) each
        query, key = rotate(query), rotate(key)
        own = Past.of(key, value, room)
        if past is not None:
            key, value = past.followed_by(key, value)
        if last is not None:
            x, query = x[:, -last:], query[:, :, -last:]
            modulation = modulation.last(last)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        attended = self.attention_out(attended.transpose(1, 2).flatten(2))
        x = torch.addcmul(x, modulation.attention_gate, attended)

        gate, up = self.gate_up(modulation.mlp(x)).chunk(2, dim=-1)
        answer = self.down(functional.silu(gate) * up)
        return torch.addcmul(x, modulation.mlp_gate, answer), own

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # (B, S, 3 D) -> (3, B, N, S, E)
        split = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        return query, key, value
