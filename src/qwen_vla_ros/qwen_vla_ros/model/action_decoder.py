"""The action decoder: a single-stream diffusion transformer, top to bottom in forward order.

The sequence is [context tokens ; action tokens]. Every block is joint self-attention and a SwiGLU,
both modulated by the flow time (AdaLN). Two attention modes (`DecoderConfig.attention`):

- `joint`: context tokens see the actions and are modulated by t, like the actions. This is how
  the paper reads; each step recomputes everything.
- `prefix`: context tokens see neither. They are clean data, so they are modulated as t = 0, and
  their keys and values are computed once per observation.

Actions that are frozen are clean data too, in either mode: their time is 0 in every step.

Shapes: B batch, L context tokens, H action steps (always the last tokens), S tokens in a call,
D width, N heads, E = D / N per head, K action channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qwen_vla_ros.model.config import DecoderConfig
from qwen_vla_ros.model.rotation import Rotation, rotation_at

Vectors = tuple[Tensor, ...]
"""AdaLN at one flow time: (B, S, 6 D) of every block, then (B, S, 2 D) of the output. B is 1 where
the whole batch has one time, and S is 1 where all tokens have."""

Past = tuple[Tensor, Tensor]
"""Rotated keys and values of tokens that others see later; (B, L, N, E) both."""


@dataclass(frozen=True)
class Context:
    """What the decoder is told about the observation.

    Attributes:
        hidden: Hidden states of all tokens, images and text; (B, L, context width).
        positions: Time, height and width row of every token; (3, B, L).
        mask: True where a token is real; (B, L). `None` when all are.
    """

    hidden: Tensor
    positions: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class Schedule:
    """AdaLN of all steps and of clean data, computed once to sample in a fixed number of steps."""

    steps: tuple[Vectors, ...]
    clean: Vectors


@dataclass(frozen=True)
class Prefix:
    """What is computed once per observation, before the first step.

    Attributes:
        context: Projected context tokens (B, L, D) in `joint` mode, else none (B, 0, D).
        past: Keys and values of the context, per block; `None` in `joint` mode.
        rotate: The tokens that the steps compute: all in `joint` mode, else the actions.
        visible: True where a key may be seen; (B, 1, 1, L + H). `None` when all may.
    """

    context: Tensor
    past: tuple[Past | None, ...]
    rotate: Rotation
    visible: Tensor | None


class TimestepEmbedding(nn.Module):
    """Flow time as a sinusoid, through a small MLP."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.features = config.timestep_features
        self.up = nn.Linear(self.features, config.width)
        self.down = nn.Linear(config.width, config.width)

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B, D)."""
        half = self.features // 2
        exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
        # Diffusion code counts time in thousandths; periods then run from 0.006 to 63.
        angles = 1000 * t.float()[:, None] * 10_000**-exponents  # (B, F/2)
        wave = torch.cat((angles.cos(), angles.sin()), dim=-1).to(self.up.weight.dtype)
        embedded: Tensor = self.down(functional.silu(self.up(wave)))
        return embedded


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

    def forward(
        self,
        x: Tensor,
        vectors: Tensor,
        rotate: Rotation,
        *,
        past: Past | None = None,
        visible: Tensor | None = None,
        last: int | None = None,
    ) -> tuple[Tensor, Past]:
        """Run the block on tokens that see `past` and each other.

        Args:
            x: The tokens; (B, S, D).
            vectors: AdaLN of their time; (B, S, 6 D).
            rotate: By their positions.
            past: Keys and values of earlier tokens.
            visible: True where a key may be seen; (B, 1, 1 or S, L + S). `None` when all may.
            last: How many tokens, from the end, are asked for. `None`: all S.

        Returns:
            The tokens that are asked for, and the keys and values of all S.
        """
        query, key, value = self._project(x, vectors, rotate)
        own = key, value
        if past is not None:
            key, value = (torch.cat(pair, dim=1) for pair in zip(past, own, strict=True))
        if last is not None:
            x, query, vectors = x[:, -last:], query[:, -last:], vectors[:, -last:]
        *_, gate_attention, shift, scale, gate_mlp = vectors.chunk(6, dim=-1)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        attended = self.attention_out(attended.transpose(1, 2).flatten(2))
        x = torch.addcmul(x, gate_attention, attended)

        gate, up = self.gate_up(modulate(x, shift, scale)).chunk(2, dim=-1)
        return torch.addcmul(x, gate_mlp, self.down(functional.silu(gate) * up)), own

    def keep(self, x: Tensor, vectors: Tensor, rotate: Rotation) -> Past:
        """Return only what later tokens need of `x` (B, S, D), for the last block of a prefix."""
        _, key, value = self._project(x, vectors, rotate)
        return key, value

    def _project(self, x: Tensor, vectors: Tensor, rotate: Rotation) -> tuple[Tensor, ...]:
        """Return queries, keys and values; (B, S, N, E) each."""
        shift, scale, *_ = vectors.chunk(6, dim=-1)
        heads = self.qkv(modulate(x, shift, scale)).unflatten(-1, (3 * self.num_heads, -1))
        turned, value = heads.split((2 * self.num_heads, self.num_heads), dim=2)
        query, key = rotate(turned).chunk(2, dim=2)
        return query, key, value


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise, scale and shift; (B, S, D) all."""
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:]), 1 + scale)


class ActionDecoder(nn.Module):
    """Predicts the velocity of noisy actions, given what the backbone made of the observation."""

    def __init__(self, config: DecoderConfig, context_width: int) -> None:
        super().__init__()
        self.config = config
        width, channels = config.width, config.action_channels
        self.context_in = nn.Linear(context_width, width)
        self.timestep = TimestepEmbedding(config)
        self.action_in = mlp(channels, width, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.output_adaln = nn.Linear(width, 2 * width)
        self.action_out = mlp(width, width, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin as the identity (AdaLN-Zero), with a velocity of zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        last = (*(block.adaln for block in self._blocks), self.output_adaln, self.action_out[-1])
        for layer in last:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    @property
    def _blocks(self) -> tuple[Block, ...]:
        return tuple(block for block in self.blocks if isinstance(block, Block))

    @property
    def is_joint(self) -> bool:
        """Say whether context tokens see the actions."""
        return self.config.attention == "joint"

    def forward(
        self,
        context: Context,
        actions: Tensor,
        t: Tensor,
        *,
        step_mask: Tensor | None = None,
        frozen: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity of noisy actions, with nothing computed beforehand.

        Args:
            context: What the backbone made of the observation.
            actions: (B, H, K).
            t: Flow times; (B,).
            step_mask: True where an action step is real; (B, H). `None`: all are.
            frozen: True where an action is clean data, whose own time is 0; (B, H).
        """
        prefix = self.begin(context, actions.shape[1], step_mask=step_mask)
        vectors = self.vectors(t)
        if frozen is not None:
            clean = self.vectors(torch.zeros_like(t[:1]))
            vectors = with_frozen(vectors, clean, frozen, prefix.context.shape[1])
        return self.velocity(prefix, actions, vectors)

    def vectors(self, t: Tensor) -> Vectors:
        """Return AdaLN at flow times `t` (B,)."""
        embedded = functional.silu(self.timestep(t)).unsqueeze(1)  # (B, 1, D)
        return (*(block.adaln(embedded) for block in self._blocks), self.output_adaln(embedded))

    def schedule(self, times: Tensor) -> Schedule:
        """Prepare to sample at these times (steps,); the weights must not change any more."""
        with torch.no_grad():
            times = functional.pad(times, (0, 1)).to(self.context_in.weight.device)
            *steps, clean = (self.vectors(time) for time in times.unsqueeze(1))
        return Schedule(tuple(steps), clean)

    def begin(
        self,
        context: Context,
        horizon: int,
        *,
        step_mask: Tensor | None = None,
        clean: Vectors | None = None,
    ) -> Prefix:
        """Do everything that does not depend on the actions.

        Args:
            context: What the backbone made of the observation.
            horizon: H.
            step_mask: True where an action step is real; (B, H). `None`: all are.
            clean: AdaLN of clean data, if it was computed before.
        """
        x = self.context_in(context.hidden)  # (B, L, D)
        length = x.shape[1]
        visible = _visible(context, horizon, step_mask)
        positions = torch.cat((context.positions, following(context.positions, horizon)), dim=2)
        rotate = rotation_at(positions, self.config.rope_sections, self.config.rope_theta, x.dtype)
        if self.is_joint:
            return Prefix(x, (None,) * len(self.blocks), rotate, visible)

        rotate_context, rotate_actions = rotate.split(length)
        clean = self.vectors(torch.zeros(1, device=x.device)) if clean is None else clean
        seen = None if visible is None else visible[..., :length]
        tokens, past = x, []
        *body, last = self._blocks
        for block, vectors in zip(body, clean, strict=False):
            tokens, own = block(tokens, vectors, rotate_context, visible=seen)
            past.append(own)
        past.append(last.keep(tokens, clean[-2], rotate_context))
        return Prefix(x[:, :0], tuple(past), rotate_actions, visible)

    def velocity(self, prefix: Prefix, actions: Tensor, vectors: Vectors) -> Tensor:
        """Return dY/dt of noisy `actions` (B, H, K), at the time that `vectors` stands for."""
        horizon = actions.shape[1]
        x = self.action_in(actions.to(self.context_in.weight.dtype))  # (B, H, D)
        if self.is_joint:
            x = torch.cat((prefix.context, x), dim=1)  # (B, L + H, D)
        # Of the last block nothing is read but the actions.
        asked = (*(None for _ in self.blocks[1:]), horizon)
        for block, own, past, last in zip(
            self._blocks, vectors[:-1], prefix.past, asked, strict=True
        ):
            x, _ = block(x, own, prefix.rotate, past=past, visible=prefix.visible, last=last)
        shift, scale = vectors[-1][:, -horizon:].chunk(2, dim=-1)
        answer: Tensor = self.action_out(modulate(x, shift, scale))
        return answer.float()


def mlp(width_in: int, width: int, width_out: int) -> nn.Sequential:
    """Return two linear layers with a SiLU between them."""
    return nn.Sequential(nn.Linear(width_in, width), nn.SiLU(), nn.Linear(width, width_out))


def with_frozen(vectors: Vectors, clean: Vectors, rows: Tensor, length: int) -> Vectors:
    """Return AdaLN of every token, which is `clean` for some of the actions.

    Args:
        vectors: At the time of all other tokens.
        clean: At t = 0.
        rows: True where an action is frozen; (B, H).
        length: Number of context tokens that are computed in front of the actions.
    """
    batch = len(rows)
    return tuple(
        torch.cat((step.expand(batch, length, -1), torch.where(rows.unsqueeze(-1), zero, step)), 1)
        for step, zero in zip(vectors, clean, strict=True)
    )


def following(positions: Tensor, count: int) -> Tensor:
    """Return `count` positions after the last of `positions`; (3, B, L) -> (3, B, count).

    Our choice, the paper does not say: one after the other, on all three rows.
    """
    last = positions.amax(dim=(0, 2)).unsqueeze(1)  # (B, 1)
    steps = last + 1 + torch.arange(count, device=positions.device)  # (B, count)
    return steps.expand(3, -1, -1)


def _visible(context: Context, horizon: int, step_mask: Tensor | None) -> Tensor | None:
    if context.mask is None and step_mask is None:
        return None
    real = torch.ones(context.hidden.shape[:2], dtype=torch.bool, device=context.hidden.device)
    seen = real if context.mask is None else context.mask
    steps = real[:, :1].expand(-1, horizon) if step_mask is None else step_mask
    return torch.cat((seen, steps), dim=1)[:, None, None, :]
