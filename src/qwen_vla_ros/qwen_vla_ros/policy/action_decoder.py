"""The action decoder: a single-stream diffusion transformer, top to bottom in forward order.

The sequence is [context tokens ; action tokens]. Every block is joint self-attention and a SwiGLU,
both modulated by the flow time (AdaLN). Two attention modes (`DecoderConfig.attention`):

- `joint`: context tokens see the actions and are modulated by t, like the actions. This is how
  the paper reads; each step recomputes everything.
- `prefix`: context tokens see neither. They are clean data, so they are modulated as t = 0, and
  their keys and values are computed once per observation.

Shapes: B batch, L context tokens, H action steps, S = tokens in a call, D width, N heads,
E = D / N per head, K action channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qwen_vla_ros.policy.config import DecoderConfig
from qwen_vla_ros.policy.flow import step_times

KeyValue = tuple[Tensor, Tensor]
"""Rotated keys and values of one block; each (B, N, S, E)."""


@dataclass(frozen=True)
class Rotation:
    """Cosine and sine of every token's rotary angles; each (B, 1, S, E)."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate the halves of each head against each other; (B, N, S, E) both ways."""
        first, second = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat((-second, first), dim=-1) * self.sin

    def split(self, at: int) -> tuple[Rotation, Rotation]:
        """Return the rotations of the tokens before and from `at`."""
        return (
            Rotation(self.cos[:, :, :at], self.sin[:, :, :at]),
            Rotation(self.cos[:, :, at:], self.sin[:, :, at:]),
        )


def rotation(config: DecoderConfig, positions: Tensor, dtype: torch.dtype) -> Rotation:
    """Return the multi-section rotary embedding at `positions` (3, B, S): time, height, width.

    Frequencies are dealt to the three rows in turn, as in the backbone, until a row has had its
    share. They are computed here and not kept in a buffer: a buffer that is not in the
    checkpoint stays uninitialised when a model is built on the meta device.
    """
    half = config.width // config.num_heads // 2
    exponents = torch.arange(half, dtype=torch.float32, device=positions.device) / half
    frequencies = 1 / config.rope_theta**exponents  # (E/2,)
    rows = torch.zeros(half, dtype=torch.long, device=positions.device)
    for row in (1, 2):
        rows[row : 3 * config.rope_sections[row] : 3] = row
    angles = positions.float()[rows].movedim(0, -1) * frequencies  # (B, S, E/2)
    angles = torch.cat((angles, angles), dim=-1).unsqueeze(1)  # (B, 1, S, E)
    return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))


@dataclass(frozen=True)
class Modulation:
    """AdaLN vectors, which depend on the flow time alone.

    Attributes:
        blocks: Per block (shift, scale, gate) of the attention, then of the SwiGLU; each item is
            (B, 1, 6 D).
        output: (shift, scale) of the output; (B, 1, 2 D).
    """

    blocks: tuple[Tensor, ...]
    output: Tensor


@dataclass(frozen=True)
class Schedule:
    """All AdaLN vectors of a fixed number of steps, for serving: computed once, at load."""

    steps: tuple[Modulation, ...]
    clean: Modulation


@dataclass(frozen=True)
class Prefix:
    """What is computed once per observation, before the first step.

    Attributes:
        context: Projected context tokens (B, L, D); read in `joint` mode.
        past: Keys and values of the context, per block; empty in `joint` mode.
        rotation: Of the tokens that the steps compute: all in `joint` mode, else the actions.
        visible: True where a key may be seen; (B, 1, 1, L + H). `None` when all may.
    """

    context: Tensor
    past: tuple[KeyValue, ...]
    rotation: Rotation
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


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise every token, then shift and scale all of them alike; (B, S, D) both ways."""
    return functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


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

    def key_value(self, x: Tensor, modulation: Tensor, rotate: Rotation) -> KeyValue:
        """Return only what later tokens need of `x`, for the last block of a prefix."""
        shift, scale = modulation.chunk(6, dim=-1)[:2]
        _, key, value = self._project(modulate(x, shift, scale))
        return rotate(key), value

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        rotate: Rotation,
        past: KeyValue | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """Run the block on tokens `x` (B, S, D) that see `past` and each other.

        Returns:
            The tokens (B, S, D), and their own keys and values.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)

        query, key, value = self._project(modulate(x, shift_a, scale_a))  # (B, N, S, E) each
        query, key = rotate(query), rotate(key)
        own = (key, value)
        if past is not None:
            key, value = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        x = x + gate_a * self.attention_out(attended.transpose(1, 2).flatten(2))

        gate, up = self.gate_up(modulate(x, shift_m, scale_m)).chunk(2, dim=-1)
        return x + gate_m * self.down(functional.silu(gate) * up), own

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # (B, S, 3 D) -> (3, B, N, S, E)
        split = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        return query, key, value


class ActionDecoder(nn.Module):
    """Predicts the velocity of noisy actions, given what the backbone made of the observation."""

    def __init__(self, config: DecoderConfig, context_width: int) -> None:
        super().__init__()
        self.config = config
        width, channels = config.width, config.action_channels
        self.context_in = nn.Linear(context_width, width)
        self.timestep = TimestepEmbedding(config)
        self.action_in = nn.Sequential(
            nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.output_adaln = nn.Linear(width, 2 * width)
        self.action_out = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, channels)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin as the identity (AdaLN-Zero), with a velocity of zero."""
        last = (*(block.adaln for block in self._blocks), self.output_adaln, self.action_out[-1])
        for layer in last:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    @property
    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    @property
    def is_joint(self) -> bool:
        """Say whether context tokens see the actions."""
        return self.config.attention == "joint"

    def modulation(self, t: Tensor) -> Modulation:
        """Return the AdaLN vectors at flow times `t` (B,)."""
        embedded = functional.silu(self.timestep(t)).unsqueeze(1)  # (B, 1, D)
        return Modulation(
            blocks=tuple(block.adaln(embedded) for block in self._blocks),
            output=self.output_adaln(embedded),
        )

    def schedule(self, steps: int) -> Schedule:
        """Return the AdaLN vectors of `steps` Euler steps, and those of clean data."""
        times = step_times(steps).to(self.context_in.weight.device)
        return Schedule(
            steps=tuple(self.modulation(t) for t in torch.split(times, 1)),
            clean=self.modulation(torch.zeros_like(times[:1])),
        )

    def begin(
        self,
        context: Tensor,
        positions: Tensor,
        horizon: int,
        *,
        context_mask: Tensor | None = None,
        step_mask: Tensor | None = None,
        clean: Modulation | None = None,
    ) -> Prefix:
        """Do everything that does not depend on the actions.

        Args:
            context: Hidden states of all backbone tokens; (B, L, context width).
            positions: The backbone's positions of these tokens; (3, B, L).
            horizon: H.
            context_mask: True where a context token is real; (B, L). `None`: all are.
            step_mask: True where an action step is real; (B, H). `None`: all are.
            clean: AdaLN vectors of t = 0, if at hand.
        """
        x = self.context_in(context)  # (B, L, D)
        batch, length, _ = x.shape
        visible = self._visible(batch, length, horizon, context_mask, step_mask, x.device)
        # Our choice: action step i follows the backbone's last position, on all three rows.
        after = positions.amax(dim=(0, 2)).view(1, batch, 1) + 1
        steps = torch.arange(horizon, device=positions.device) + after  # (1, B, H)
        rotate = rotation(
            self.config, torch.cat((positions, steps.expand(3, -1, -1)), dim=2), x.dtype
        )
        if self.is_joint:
            return Prefix(context=x, past=(), rotation=rotate, visible=visible)

        rotate_context, rotate_actions = rotate.split(length)
        clean = clean or self.modulation(torch.zeros(1, device=x.device))
        seen = None if visible is None else visible[..., :length]
        hidden, past = x, []
        *body, last = zip(self._blocks, clean.blocks, strict=True)
        for block, modulation in body:
            hidden, key_value = block(hidden, modulation, rotate_context, visible=seen)
            past.append(key_value)
        past.append(last[0].key_value(hidden, last[1], rotate_context))
        return Prefix(context=x, past=tuple(past), rotation=rotate_actions, visible=visible)

    def velocity(self, prefix: Prefix, actions: Tensor, modulation: Modulation) -> Tensor:
        """Return dY/dt of noisy `actions` (B, H, K), at the time that `modulation` stands for."""
        horizon = actions.shape[1]
        x = self.action_in(actions.to(self.context_in.weight.dtype))  # (B, H, D)
        if self.is_joint:
            x = torch.cat((prefix.context, x), dim=1)  # (B, L + H, D)
        past = prefix.past or (None,) * len(self.blocks)
        for block, vectors, seen in zip(self._blocks, modulation.blocks, past, strict=True):
            x, _ = block(x, vectors, prefix.rotation, seen, prefix.visible)
        shift, scale = modulation.output.chunk(2, dim=-1)
        answer: Tensor = self.action_out(modulate(x[:, -horizon:], shift, scale))
        return answer.float()

    def forward(
        self,
        context: Tensor,
        positions: Tensor,
        actions: Tensor,
        t: Tensor,
        *,
        context_mask: Tensor | None = None,
        step_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity at flow times `t` (B,), with nothing computed beforehand."""
        prefix = self.begin(
            context, positions, actions.shape[1], context_mask=context_mask, step_mask=step_mask
        )
        return self.velocity(prefix, actions, self.modulation(t))

    @staticmethod
    def _visible(
        batch: int,
        length: int,
        horizon: int,
        context_mask: Tensor | None,
        step_mask: Tensor | None,
        device: torch.device,
    ) -> Tensor | None:
        if context_mask is None and step_mask is None:
            return None
        if context_mask is None:
            context_mask = torch.ones(batch, length, dtype=torch.bool, device=device)
        if step_mask is None:
            step_mask = torch.ones(batch, horizon, dtype=torch.bool, device=device)
        return torch.cat((context_mask, step_mask), dim=1)[:, None, None, :]
